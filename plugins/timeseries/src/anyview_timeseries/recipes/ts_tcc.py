"""TS-TCC: one view's past tells another view's future, and its summary the other's summary.

Eldele, Ragab, Chen, Wu, Kwoh, Li, Guan. Time-Series Representation Learning via Temporal and Contextual Contrasting. IJCAI 2021,
arXiv 2106.14112.

A weak view is scaled, a strong one has its pieces in another order and noise. A convolutional network makes tokens of both. A transformer
sums up the first tokens of one view; linear maps of that summary have to be closer to the other view's next tokens than those of other
samples are, and the projected summaries of both views have to find each other.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch

from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview_timeseries.convolution import ConvNet1d, FlatTokens
from anyview_timeseries.datasets import Reading, open_series
from anyview_timeseries.series import require_complete
from anyview_timeseries.temporal_contrast import TemporalContrast
from anyview_timeseries.weak_strong import FactorOf, WeakStrongPair

PUBLISHED = functools.partial(TemporalContrast, dropout=0.1)
PRESETS: Presets = {
    "quick": {"dim": 64, "epochs": 10},
    "chirps": {"dim": 64, "epochs": 10},
    "grid": {"data": "chirps", "dim": 16, "batch_size": 64},
}
RANGES = {
    "lr": LogUniform(1e-4, 1e-2),
    "jitter": LogUniform(0.1, 2.0),
    "objective.temperature": LogUniform(0.05, 0.5),
    "objective.contextual": Uniform(0.2, 1.0),
}


@recipe(presets=PRESETS, views=WeakStrongPair, ranges=RANGES)
def ts_tcc(
    data: str = "chirps",
    *,
    reading: Reading = None,
    dim: int = 128,
    kernel: int = 8,
    stride: int = 1,
    dropout: float = 0.35,
    pool: Literal["mean", "flat"] = "mean",
    scale: float = 2.0,
    deviation: float = 1.1,
    factor_of: FactorOf = "step",
    segments: int = 7,
    jitter: float = 0.8,
    objective: ObjectiveSlot = PUBLISHED,
    epochs: int = 40,
    batch_size: int = 128,
    lr: float = 3e-4,
    weight_decay: float = 3e-4,
) -> Recipe:
    """TS-TCC: predict another view's later tokens, and its summary (Eldele et al., 2021, arXiv 2106.14112).

    Args:
        data: a data set's name or files of your own
        reading: how files become windows (--reading.length 128); channels are scaled unless it says otherwise
        dim: width of a token
        kernel: steps that the encoder's convolutions see
        stride: of its first convolution
        dropout: after its first block
        pool: an embedding is the mean of tokens, or all of them one after the other, as published, for windows of one length
        scale: mean of the weak view's factors
        deviation: their standard deviation
        factor_of: what has a factor of its own, each step (as published) or each channel
        segments: pieces of the strong view, at most
        jitter: standard deviation of its noise, in units of the data
        objective: any objective over two views
        epochs: passes over the windows
        batch_size: windows per step, over all devices
        lr: Adam's learning rate, constant
        weight_decay: L2 in the gradient
    """
    source = open_series(data, **{"scale": "channel", **(reading or {})})
    require_complete(source, "TS-TCC")
    channels = source.shape["channels"]
    encoder = ConvNet1d(channels, dim=dim, kernel=kernel, stride=stride, dropout=dropout)
    views = WeakStrongPair(scale=scale, deviation=deviation, of=factor_of, segments=segments, jitter=jitter)
    stage = Stage(
        tasks=[Task(views, objective(dim))],
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.Adam, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay),
    )
    embedder = FlatTokens(encoder, channels, source.shape["length"]) if pool == "flat" else encoder
    return Recipe(source=source, stages=[stage], embedder=embedder)
