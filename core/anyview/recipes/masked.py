"""Rows of a table with some cells hidden, and any objective that reads what they hid."""

from __future__ import annotations

import functools

import torch

from anyview.data.arrays import open_rows
from anyview.encoders.mlp import MLP
from anyview.objectives.masked_columns import MaskedColumns
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview.views.mask import MaskTokens

PRESETS: Presets = {"grid": {"data": "digits", "hidden": 64, "dim": 32}}
RANGES = {"lr": LogUniform(1e-4, 1e-2), "rate": Uniform(0.2, 0.8), "weight_decay": LogUniform(1e-6, 1e-2)}


@recipe(presets=PRESETS, views=MaskTokens, ranges=RANGES)
def masked(
    data: str = "digits",
    *,
    hidden: int = 512,
    dim: int = 128,
    layers: int = 3,
    rate: float = 0.5,
    objective: ObjectiveSlot = MaskedColumns,
    epochs: int = 100,
    batch_size: int = 256,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    warmup: int = 20,
) -> Recipe:
    """Rows with some cells hidden, others in every row, an MLP, and any objective that reads what they hid.

    Args:
        data: a data set's name, a .npz or a .csv of rows
        hidden: width of the encoder's hidden layers
        dim: width of an embedding
        layers: linear layers of the encoder
        rate: share of a row's cells that are hidden
        objective: any objective over masked views of rows
        epochs: passes over the rows
        batch_size: rows per step, over all devices
        lr: AdamW's learning rate, at its highest
        weight_decay: AdamW's
        warmup: steps of linear warm-up before the cosine
    """
    source = open_rows(data)
    encoder = MLP(source.shape["features"], hidden=hidden, dim=dim, layers=layers, masked=True)
    stage = Stage(
        tasks=[Task(MaskTokens(rate), objective(dim))],
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay),
        schedule=Cosine(warmup=warmup),
    )
    return Recipe(source=source, stages=[stage], embedder=stage.embedder)
