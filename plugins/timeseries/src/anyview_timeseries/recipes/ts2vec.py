"""TS2Vec: every step of a series finds itself again in another crop of it.

Yue, Wang, Duan, Yang, Huang, Tong, Xu. TS2Vec: Towards Universal Representation of Time Series. AAAI 2022, arXiv 2106.10466.

Two crops overlap; half of the steps of each are hidden. What a network of dilated convolutions says of a shared step in one crop has to
tell that step of that sample in the other from the sample's other steps, and from other samples at that step, at every scale of time. What
is kept is the mean of the network's weights over all steps of training, and a series is the largest of each number over its steps.
"""

from __future__ import annotations

import functools
from typing import cast

import torch

from anyview.data.source import Outline, Source
from anyview.encoders.encoder import Encoder
from anyview.encoders.moving_average import Averaged
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview_timeseries.datasets import Reading, open_series
from anyview_timeseries.dilated_convolution import DilatedConvolution
from anyview_timeseries.hierarchical_contrast import HierarchicalContrast
from anyview_timeseries.overlapping_crops import OverlappingCrops

MANY = 100_000
"""Numbers in the training windows up to which 200 iterations are enough."""
PRESETS: Presets = {
    "quick": {"hidden": 32, "dim": 64, "depth": 6, "iterations": 100},
    "chirps": {"hidden": 32, "dim": 64, "depth": 6, "iterations": 60},
    "uci_har_subset": {"hidden": 64, "dim": 320, "depth": 6, "iterations": 400, "lr": 5e-4},
    "grid": {"data": "chirps", "hidden": 16, "dim": 32, "depth": 4},
}
RANGES = {"lr": LogUniform(1e-4, 1e-2), "mask_rate": Uniform(0.2, 0.8), "objective.instance": Uniform(0.2, 0.8)}


@recipe(presets=PRESETS, views=OverlappingCrops, ranges=RANGES)
def ts2vec(
    data: str = "chirps",
    *,
    reading: Reading = None,
    hidden: int = 64,
    dim: int = 320,
    depth: int = 10,
    dropout: float = 0.1,
    mask_rate: float = 0.5,
    longest: int = 3000,
    objective: ObjectiveSlot = HierarchicalContrast,
    iterations: int | None = None,
    batch_size: int = 8,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
) -> Recipe:
    """TS2Vec: every step finds itself in another crop, among steps and among samples (Yue et al., 2022, arXiv 2106.10466).

    Args:
        data: a data set's name or files of your own; missing values stay missing and are hidden
        reading: how files become windows (--reading.length 200 --reading.missing mask); channels are scaled unless it says otherwise
        hidden: width of the network's inner blocks
        dim: width of an embedding
        depth: inner blocks, the last with steps 2^(depth - 1) apart
        dropout: of what the network returns, in training
        mask_rate: share of the steps that are hidden in each crop
        longest: steps of a window that crops are taken from, at most
        objective: any objective over two crops
        iterations: optimiser steps; by default 200, or 600 where the training windows hold more than 100,000 numbers
        batch_size: windows per step, over all devices; fewer where there are fewer
        lr: AdamW's learning rate, constant
        weight_decay: AdamW's
    """
    source = open_series(data, **{"scale": "channel", "missing": "mask", **(reading or {})})
    encoder = Averaged(DilatedConvolution(source.shape["channels"], hidden=hidden, dim=dim, depth=depth, dropout=dropout))
    steps = _iterations(source) if iterations is None else iterations
    stage = Stage(
        tasks=[Task(OverlappingCrops(mask_rate, longest), objective(dim))],
        encoder=encoder,
        epochs=_epochs(source, batch_size, steps),
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay),
        max_steps=steps,
    )
    return Recipe(source=source, stages=[stage], embedder=cast("Encoder", encoder.average.module))


def _iterations(source: Source) -> int:
    if isinstance(source, Outline):
        return 1
    rows = len(getattr(source, "train_rows", range(len(source))))
    return 200 if rows * source.shape["channels"] * source.shape["length"] <= MANY else 600


def _epochs(source: Source, batch_size: int, steps: int) -> int:
    """Passes over the data that hold so many steps."""
    return 1 if isinstance(source, Outline) else max(1, -(-steps // max(1, source.steps(batch_size))))
