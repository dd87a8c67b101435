"""Views of rows: some columns are hidden, others each time."""

from __future__ import annotations

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet


class HiddenColumns(ViewMaker):
    """Two views of each row; in each, every column is set to zero with probability `rate`, for every row anew.

    batch.data: (B, F). Each view's data: (B, F), scaled by 1 / (1 - rate), so that its expected value is the row.
    """

    gives = Gives(views=2)

    def __init__(self, rate: float = 0.3) -> None:
        if not 0 <= rate < 1:
            raise UserError(f"rate is the share of columns to hide, from 0 to below 1, and {rate} was given; choose one such as 0.3")
        self.rate = rate

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([self._view(batch, draws), self._view(batch, draws)])

    def _view(self, batch: Batch, draws: Draws) -> View:
        shown = draws.bernoulli(1 - self.rate, batch.data.shape[1])
        return View(batch.data * shown / (1 - self.rate), index=batch.index, groups=batch.groups)
