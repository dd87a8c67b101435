"""NNCLR: the positive of a view is the nearest row that an earlier batch left, not the other view itself.

Dwibedi, Aytar, Tompson, Sermanet, Zisserman. With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual
Representations. 2021, arXiv 2104.14548.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp, predictor
from anyview.objectives.contrast import info_nce
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.queue import Queue
from anyview.views.view import ViewSet

QUEUE, SHARE = 98304, 4


def nnclr_loss(neighbours: tuple[Tensor, Tensor], predictions: tuple[Tensor, Tensor], temperature: float = 0.1) -> Tensor:
    """Mean of both directions of InfoNCE: each view's neighbours find the other view's predictions; no gradient to the neighbours.

    neighbours, predictions: of the first and of the second view, (M, D) each, row i of all four from the same sample, on any scale. All
    rows equal gives log M. Raises ValueError for a single row.

    >>> rows = torch.ones(8, 4)
    >>> round(float(nnclr_loss((rows, rows), (rows, rows)).exp()), 3)
    8.0
    """
    first = info_nce(neighbours[0].detach(), predictions[1], temperature)
    return (first + info_nce(neighbours[1].detach(), predictions[0], temperature)) / 2


class NNCLR(Objective):
    """Objective over two views; owns projector, predictor and the queue of the first view's projections.

    dim: width of the encoder's rows. hidden, width: of the projector's three layers. predictor_hidden: width inside the predictor.
    queue_size: rows that neighbours are looked for among; by default 98304, or a quarter of the samples where that is fewer, because in a
    queue that holds most of the data a sample is its own neighbour. temperature: what cosines are divided by.

    Monitors, of the first view: "same_sample", the share of neighbours that are of the row's own sample, where the views have an index;
    "same_label", the share of its class, where the set has labels (0 while the queue has none).
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 256,
        predictor_hidden: int = 4096,
        queue_size: int | None = None,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.project = mlp(dim, hidden, hidden, width, last="norm")
        self.predict = predictor(width, predictor_hidden)
        self.queue_size, self.queue = queue_size, Queue(QUEUE if queue_size is None else queue_size, width, notes=("sample", "label"))
        self._pending: dict[int, Tensor] = {}

    def prepare(self, views: ViewSet, samples: int) -> None:
        """Make the queue a quarter of the data at most, unless its size was asked for."""
        if self.queue_size is None and samples < SHARE * QUEUE:
            self.queue = self.queue.resized(math.ceil(samples / SHARE))

    def forward(self, step: Step) -> Losses:
        first, second = (self.project(step.encode(view).rows) for view in step.seen_whole[:2])
        places = [gather_rows(self.queue.nearest(rows)) for rows in (first, second)]
        neighbours = (self.queue.rows[places[0]], self.queue.rows[places[1]])
        predictions = (gather_rows(self.predict(first)), gather_rows(self.predict(second)))
        self._pending[id(step)] = first.detach()
        loss = nnclr_loss(neighbours, predictions, self.temperature)
        return Losses(nnclr=loss, monitors=self._agreement(places[0], _notes(step, len(first))))

    def _agreement(self, places: Tensor, notes: dict[str, Tensor]) -> dict[str, float | Tensor]:
        """By note, the share of neighbours that have the same one, of those that have any."""
        shares: dict[str, float | Tensor] = {}
        for name, ours in notes.items():
            theirs = self.queue.note(name)[places]
            known = (theirs >= 0).sum().clamp_min(1)
            shares[f"same_{name}"] = ((theirs == gather_rows(ours)) & (theirs >= 0)).sum() / known
        return shares

    def after_step(self, step: Step) -> None:
        rows = self._pending.pop(id(step))
        self.queue.push(rows, **_notes(step, len(rows)))

    def collapse_line(self, rows: int) -> float:
        return math.log(rows)


def _notes(step: Step, rows: int) -> dict[str, Tensor]:
    """What is known of this rank's rows: their samples' ids and classes, where there is one of each for every row."""
    found: dict[str, Any] = {"sample": step.seen_whole[0].index, "label": step.labels}
    return {name: value for name, value in found.items() if _is_one_each(value, rows)}


def _is_one_each(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.shape == (rows,) and value.dtype == torch.long
