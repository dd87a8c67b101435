"""MYOW on neural recordings: two moments of a trial say the same, and so do similar moments of different trials.

Azabou, Azar, Liu, Lin, Johnson, Bhaskaran-Nair, Dabagia, Avila-Pires, Kitchell, Hengen, Gray, Valko, Dyer. Mine Your Own vieW:
Self-Supervised Learning Through Across-Sample Prediction. 2021, arXiv 2102.10106.

Two time bins of one trial, at most `lookahead` bins apart, lose the same neurons and get the same noise: BYOL on such pairs learns what
changes slowly. Once the representation says something, each of a second set of bins is also pulled to one of its nearest neighbours among
candidates of other trials, in a second space behind the first. With `--objective.weight 0` nothing is mined, and what is left is BYOL.
"""

from __future__ import annotations

import functools
from typing import cast

from torch import Tensor

from anyview.data.source import Outline, Source
from anyview.encoders.mlp import MLP
from anyview.objectives.myow import MYOW
from anyview.objectives.objective import ObjectiveSlot
from anyview.optimizers import LARS
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview_timeseries.datasets import Reading, open_series
from anyview_timeseries.neural_views import NeuralViews
from anyview_timeseries.series import SeriesSource, require_complete
from anyview_timeseries.trials import TrialPairs

PRESETS: Presets = {
    "monkey_reach_chewie1": {"lookahead": 2, "dropout": 0.4, "epochs": 4000},
    "grid": {"data": "chirps", "hidden": 32, "dim": 32, "candidates": 64},
}
RANGES = {
    "lr": LogUniform(0.05, 2.0),
    "lookahead": Integers(1, 5),
    "dropout": Uniform(0.2, 0.8),
    "dropout_rate": Uniform(0.5, 1.0),
    "objective.weight": LogUniform(0.02, 0.5),
    "objective.neighbours": Integers(1, 9, log=True),
}


@recipe(presets=PRESETS, views=NeuralViews, ranges=RANGES)
def myow(
    data: str = "monkey_reach_chewie1",
    *,
    reading: Reading = None,
    group: str | None = None,
    lookahead: int = 5,
    candidates: int = 512,
    structured: bool = True,
    dropout: float = 0.8,
    dropout_rate: float = 0.9,
    noise: float = 0.2,
    pepper: float = 0.0,
    hidden: int = 128,
    dim: int = 128,
    layers: int = 4,
    objective: ObjectiveSlot = MYOW,
    epochs: int = 1000,
    passes: int = 1,
    batch_size: int = 256,
    lr: float = 0.8,
    weight_decay: float = 1e-6,
    warmup: int = 50,
) -> Recipe:
    """MYOW: pull moments of a trial together, and moments of other trials that lie near (Azabou et al., 2021, arXiv 2102.10106).

    Args:
        data: a data set's name or files of your own, with trials; channels are neurons
        reading: how files become windows (--reading.length 1 for time bins); channels are z-scored unless it says otherwise
        group: the group of windows that is a trial, by default "trial", else what splits keep apart
        lookahead: how many windows apart the two of a pair may be
        candidates: windows of other trials that are mined among in each step, over all devices
        structured: silence the same neurons and add the same noise in both windows of a pair
        dropout: largest probability that a neuron is silenced
        dropout_rate: share of the windows in which neurons are silenced
        noise: standard deviation of the noise on z-scored rates
        pepper: probability that 0.3 is added to a value
        hidden: width of the encoder's inner layers
        dim: width of an embedding
        layers: linear layers of the encoder
        objective: any objective over two views
        epochs: of floor(windows / batch size) steps
        passes: times as many steps in an epoch; the published script's four loaders make it 4
        batch_size: pairs per step, over all devices
        lr: LARS's learning rate for 256 pairs, at its highest; it grows with the batch
        weight_decay: LARS's
        warmup: steps of linear warm-up before the cosine
    """
    source = open_series(data, **{"scale": "channel", **(reading or {})})
    require_complete(source, "MYOW")
    encoder = MLP(source.shape["channels"] * source.shape["length"], hidden=hidden, dim=dim, layers=layers)
    pairs = None
    if not isinstance(source, Outline):
        pairs = TrialPairs(cast("SeriesSource", source), lookahead=lookahead, candidates=candidates, group=group, passes=passes)
    views = NeuralViews(
        _silent(source), dropout=dropout, dropout_rate=dropout_rate, noise=noise, pepper=pepper, structured=structured, mined=candidates > 0
    )
    stage = Stage(
        tasks=[Task(views, objective(dim))],
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(LARS, lr=lr * batch_size / 256, momentum=0.9, weight_decay=weight_decay),
        schedule=Cosine(warmup=warmup),
        source=pairs,
    )
    return Recipe(source=source, stages=[stage], embedder=encoder)


def _silent(source: Source) -> Tensor | None:
    """What a rate of 0 became when rates were z-scored, (C,); None where they were not."""
    scaling = getattr(source, "scaling", None)
    if scaling is None:
        return None
    mean, deviation = scaling
    return -mean / deviation
