"""TF-C: a window and its spectrum say the same.

Zhang, Zhao, Tsiligkaridis, Zitnik. Self-Supervised Contrastive Pre-Training for Time Series via Time-Frequency Consistency. NeurIPS 2022,
arXiv 2206.08496.

One encoder reads the window, one of the same kind the magnitudes of its Fourier transform. In each domain a window finds its augmented
twin; across domains a window finds its own spectrum. The encoders are those of frame projections, not the published transformer, which
takes the batch for a sequence, so that a sample's representation depends on what else is in its batch.
"""

from __future__ import annotations

import functools

import torch

from anyview.encoders.encoder import Streams
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview_timeseries.datasets import Reading, open_series
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.networks import EncoderSlot, make_encoder, needs_of
from anyview_timeseries.series import require_complete
from anyview_timeseries.time_frequency import BothDomains, TimeFrequencyConsistency, TimeFrequencyViews

NARROW = functools.partial(ResNet1d, dim=64, width=16, blocks=4, dropout=0.0, stride=2)
PRESETS: Presets = {
    "quick": {"encoder": NARROW, "epochs": 10, "lr": 1e-3},
    "chirps": {"encoder": NARROW, "epochs": 10, "lr": 1e-3},
    "grid": {"data": "chirps", "encoder": functools.partial(ResNet1d, dim=16, width=8, blocks=2, dropout=0.0, stride=2), "batch_size": 64},
}
RANGES = {
    "lr": LogUniform(1e-4, 1e-2),
    "jitter": LogUniform(0.1, 2.0),
    "objective.temperature": LogUniform(0.05, 0.5),
    "objective.within": Uniform(0.1, 1.0),
}


@recipe(presets=PRESETS, views=TimeFrequencyViews, ranges=RANGES)
def tf_c(
    data: str = "chirps",
    *,
    reading: Reading = None,
    encoder: EncoderSlot = ResNet1d,
    jitter: float = 0.8,
    removed: float = 0.1,
    added: float = 0.1,
    objective: ObjectiveSlot = TimeFrequencyConsistency,
    epochs: int = 40,
    batch_size: int = 128,
    lr: float = 3e-4,
    weight_decay: float = 3e-4,
) -> Recipe:
    """TF-C: a window finds its twin, its spectrum finds its twin, and both each other (Zhang et al., 2022, arXiv 2206.08496).

    Args:
        data: a data set's name or files of your own
        reading: how files become windows (--reading.length 178); channels are scaled unless it says otherwise
        encoder: any encoder of windows; one is made for the window, another for its spectrum
        jitter: standard deviation of the noise on the window's twin, in units of the data
        removed: share of the bins that the spectrum's twin lacks in one of the two parts that it is the sum of
        added: share of the bins that are raised in the other
        objective: any objective over four views
        epochs: passes over the windows
        batch_size: windows per step, over all devices
        lr: Adam's learning rate, constant
        weight_decay: L2 in the gradient
    """
    source = open_series(data, **{"scale": "channel", **(reading or {})})
    require_complete(source, "TF-C")
    streams = Streams({stream: make_encoder(encoder, source, needs_of(objective)) for stream in ("time", "frequency")})
    stage = Stage(
        tasks=[Task(TimeFrequencyViews(jitter, removed, added), objective(streams.dim))],
        encoder=streams,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.Adam, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay),
    )
    return Recipe(source=source, stages=[stage], embedder=BothDomains(streams))
