"""Two views of each row with other columns hidden, and any objective that makes them agree."""

from __future__ import annotations

import functools

import torch

from anyview.data.arrays import open_rows
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import ObjectiveSlot
from anyview.recipe import Recipe, Stage, Task, recipe
from anyview_template.encoders import TwoLayers
from anyview_template.views import HiddenColumns

SMALL = functools.partial(BarlowTwins, width=256)


@recipe(presets={"digits": {"rate": 0.4}}, views=HiddenColumns)
def dropout_pair(
    data: str = "digits",
    *,
    rate: float = 0.3,
    hidden: int = 256,
    dim: int = 64,
    objective: ObjectiveSlot = SMALL,
    epochs: int = 50,
    batch_size: int = 256,
    lr: float = 1e-3,
) -> Recipe:
    """Two views of each row with other columns hidden, and any objective that makes them agree.

    Args:
        data: a data set's name, a .npz or a .csv of rows
        rate: share of the columns that a view hides
        hidden: width of the encoder's inner layer
        dim: width of an embedding
        objective: any objective over two views
        epochs: passes over the rows
        batch_size: rows per step, over all devices
        lr: Adam's learning rate
    """
    source = open_rows(data, prefer="template")
    encoder = TwoLayers(source.shape["features"], hidden=hidden, dim=dim)
    stage = Stage(
        tasks=[Task(HiddenColumns(rate), objective(dim))],
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.Adam, lr=lr),
    )
    return Recipe(source=source, stages=[stage], embedder=stage.embedder)
