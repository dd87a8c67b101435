"""Two augmented views of each window, and any objective between them.

With `core/simclr` this is SimCLR for series, with `core/byol` BYOL, and so on; the encoder is a slot too. It is also the control of methods
that do without augmentations.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview_timeseries.datasets import Reading, open_series
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.networks import EncoderSlot, make_encoder, needs_of, require_whole
from anyview_timeseries.views import AugmentationName, AugmentedPair

NARROW = functools.partial(ResNet1d, width=16, dropout=0.0, stride=2)
SMALL_BARLOW_TWINS = functools.partial(BarlowTwins, width=256, redundancy=1 / 256)
QUICK: dict[str, Any] = {"encoder": NARROW, "epochs": 40}
PRESETS: Presets = {
    "chirps": {**QUICK, "batch_size": 128},
    "ieee_spc12": {**QUICK, "encoder": functools.partial(ResNet1d, dropout=0.2, stride=4), "augmentation": "weak"},
    "uci_har_subset": QUICK,
    "watch_exercises": QUICK,
    "grid": {
        "data": "chirps",
        "encoder": functools.partial(ResNet1d, dim=16, width=4, blocks=2, dropout=0.0, stride=2),
        "batch_size": 160,
        "epochs": 1,
    },
}
RANGES = {"lr": LogUniform(2e-4, 2e-2), "weight_decay": LogUniform(1e-6, 1e-3), "objective.redundancy": LogUniform(1e-4, 5e-2)}


@recipe(presets=PRESETS, views=AugmentedPair, ranges=RANGES)
def pair(
    data: str = "chirps",
    *,
    reading: Reading = None,
    encoder: EncoderSlot = ResNet1d,
    augmentation: AugmentationName = "motion",
    second: AugmentationName | None = None,
    size: int | None = None,
    jitter: float | None = None,
    crop: float | None = None,
    objective: ObjectiveSlot = SMALL_BARLOW_TWINS,
    epochs: int = 100,
    batch_size: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 1e-4,
    warmup: int = 20,
    clip: float | None = 1.0,
    accumulate: int = 1,
) -> Recipe:
    """Two augmented views of each window, an encoder of windows, and any objective between them.

    Args:
        data: a data set's name, or a file or folder of series
        reading: how series become windows; see the options of open_series
        encoder: any encoder of windows
        augmentation: what is done to the first view, by name
        second: what is done to the second view, by default the same
        size: steps of a view, by default those of a window
        jitter: largest noise, in deviations of each channel, by default the augmentation's; 0 for none
        crop: least share of a window that a view shows, by default the augmentation's; 0 for whole windows
        objective: any objective over two views
        epochs: passes over the windows
        batch_size: windows per step, over all devices
        lr: AdamW's learning rate, at its highest
        weight_decay: AdamW's
        warmup: steps of linear warm-up before the cosine
        clip: largest gradient norm
        accumulate: batches per optimiser step
    """
    source = open_series(data, **(reading or {}))
    require_whole(source)
    network = make_encoder(encoder, source, needs_of(objective))
    views = AugmentedPair(augmentation, second=second, size=size, jitter=jitter, crop=crop)
    stage = Stage(
        tasks=[Task(views, objective(network.dim))],
        encoder=network,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay),
        schedule=Cosine(warmup=warmup),
        clip=clip,
        accumulate=accumulate,
    )
    return Recipe(source=source, stages=[stage], embedder=stage.embedder)
