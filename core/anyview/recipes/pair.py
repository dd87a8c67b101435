"""Two noisy views of each row of a table, and any objective between them: the plainest recipe there is.

SGD with a clipped gradient rather than Adam: no matter how an objective is scaled, a step has the same length, and coordinates whose true
gradient is zero (a bias before a batch norm) stay where they are instead of following rounding noise.
"""

from __future__ import annotations

import functools

import torch

from anyview.data.arrays import open_rows
from anyview.encoders.mlp import MLP
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview.views.noise import Noise
from anyview.views.pair import Pair

PRESETS: Presets = {"demo": {"data": "digits", "epochs": 40}, "grid": {"data": "digits", "hidden": 64, "dim": 32}}
SMALL_BARLOW_TWINS = functools.partial(BarlowTwins, width=256, redundancy=1 / 256)
RANGES = {
    "lr": LogUniform(1e-2, 1.0),
    "noise": LogUniform(0.05, 1.0),
    "weight_decay": LogUniform(1e-6, 1e-3),
    "objective.redundancy": LogUniform(1e-4, 5e-2),
}


@recipe(presets=PRESETS, views=Pair, ranges=RANGES)
def pair(
    data: str = "digits",
    *,
    hidden: int = 512,
    dim: int = 128,
    layers: int = 3,
    noise: float = 0.3,
    objective: ObjectiveSlot = SMALL_BARLOW_TWINS,
    epochs: int = 100,
    batch_size: int = 256,
    lr: float = 0.1,
    weight_decay: float = 1e-4,
    warmup: int = 20,
    clip: float | None = 1.0,
    accumulate: int = 1,
) -> Recipe:
    """Two noisy views of each row, an MLP, and any objective between them.

    Args:
        data: a data set's name, a .npz or a .csv of rows
        hidden: width of the encoder's hidden layers
        dim: width of an embedding
        layers: linear layers of the encoder
        noise: standard deviation of the Gaussian noise, in units of the data
        objective: any objective over two views
        epochs: passes over the rows
        batch_size: rows per step, over all devices
        lr: learning rate of SGD with momentum 0.9, at its highest
        weight_decay: L2 in the gradient
        warmup: steps of linear warm-up before the cosine
        clip: largest gradient norm
        accumulate: batches per optimiser step
    """
    source = open_rows(data)
    encoder = MLP(source.shape["features"], hidden=hidden, dim=dim, layers=layers)
    stage = Stage(
        tasks=[Task(Pair(Noise(noise)), objective(dim))],
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=weight_decay),
        schedule=Cosine(warmup=warmup),
        clip=clip,
        accumulate=accumulate,
    )
    return Recipe(source=source, stages=[stage], embedder=stage.embedder)
