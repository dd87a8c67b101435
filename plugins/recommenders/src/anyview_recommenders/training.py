"""How the recipes of this plugin train: Adam, until the ranking of the validation part no longer gets better."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch

from anyview.data.source import Source
from anyview.encoders.encoder import Encoder
from anyview.recipe import Recipe, Stage, Task
from anyview_recommenders.evaluations import stop_early

ADAM = functools.partial(torch.optim.Adam, fused=True)


def trained(
    source: Source,
    network: Encoder,
    tasks: Sequence[Task],
    epochs: int,
    batch_size: int,
    lr: float,
    look_every: int,
    patience: int,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
) -> Recipe:
    """One stage in which an encoder learns the tasks and is kept as it ranked best.

    epochs: passes over the training interactions, at most. batch_size: interactions per step, over all devices. lr: constant.
    optimizer: called with parameters and lr. look_every: passes between two looks at the validation part. patience: looks without a better
    score after which training ends.
    """
    stage = Stage(
        tasks=tasks,
        encoder=network,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(optimizer, lr=lr),
        early_stopping=stop_early(source, every=look_every, patience=patience),
    )
    return Recipe(source=source, stages=[stage], embedder=network)
