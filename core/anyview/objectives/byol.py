"""BYOL: predict what a slowly moving teacher makes of the other view.

Grill et al. Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning. 2020, arXiv 2006.07733.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp, predictor
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.cosines import cosines
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.schedules import Cosine
from anyview.views.view import View


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit rows, 2 - 2 cos, a mean over rows, between 0 and 4; no gradient to the target.

    prediction, target: (M, D), row i of both from the same sample. Equal rows everywhere give 0, which is also the minimum: the loss
    cannot tell that it has collapsed.

    >>> float(byol_loss(torch.eye(3), -torch.eye(3)))
    4.0
    """
    return 2 - 2 * cosines(prediction, target).mean()


class BYOL(Objective):
    """Objective over two views and a teacher; owns projector, predictor and the projector's moving average.

    The loss is the mean of both orders (student sees one view, teacher the other). dim: width of the encoder's rows. hidden, width: of
    projector and predictor. momentum, final_momentum: the teacher's, from the first to the last step along half a cosine. bn_views: whether
    each view is a forward pass of its own, so that batch norm takes its moments per view, as published, or both are one ("joint"); views
    must then be tensors of one shape.
    """

    needs = Needs(views=2, teacher=True)
    tags = ("distillation", "joint-embedding prediction")

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 4096,
        width: int = 256,
        momentum: float = 0.996,
        final_momentum: float = 1.0,
        bn_views: Literal["each", "joint"] = "each",
    ) -> None:
        super().__init__()
        self.momentum, self.bn_views = Cosine(momentum, final_momentum), bn_views
        self.project = mlp(dim, hidden, width)
        self.predict = predictor(width, hidden)
        self.teacher_project = MovingAverage(self.project, self.momentum)

    def forward(self, step: Step) -> Losses:
        views = step.seen_whole[:2]
        predictions = self._seen(step, views, lambda rows: self.predict(self.project(rows)))
        targets = self._seen(step, views, self.teacher_project, teacher=True)
        orders = [byol_loss(*map(gather_rows, pair)) for pair in zip(predictions, reversed(targets), strict=True)]
        return Losses(byol=(orders[0] + orders[1]) / 2)

    def _seen(self, step: Step, views: list[View], head: Callable[[Tensor], Tensor], teacher: bool = False) -> list[Tensor]:
        """What a branch and its head make of each view, (M, width)."""
        if self.bn_views == "each":
            return [head(step.encode(view, teacher).rows) for view in views]
        rows = [encoding.rows for encoding in step.encode_together(views, teacher)]
        return list(head(torch.cat(rows)).chunk(len(rows)))
