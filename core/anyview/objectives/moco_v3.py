"""MoCo v3: predict which key of the batch, made by a slow teacher, is the other view's.

Chen, Xie, He. An Empirical Study of Training Self-Supervised Vision Transformers. 2021, arXiv 2104.02057.
"""

from __future__ import annotations

import math

from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.contrast import info_nce
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.schedules import Cosine
from anyview.views.view import View


def moco_v3_loss(queries: Tensor, keys: Tensor, temperature: float = 0.2) -> Tensor:
    """InfoNCE of one direction, times twice the temperature, a mean over rows; no gradient to the keys.

    queries, keys: (M, D), row i of both from the same sample, on any scale. All rows equal gives 2·temperature·log M. Raises ValueError
    for a single row.

    >>> round(float(moco_v3_loss(torch.ones(8, 4), torch.ones(8, 4), temperature=0.5).exp()), 3)
    8.0
    """
    return 2 * temperature * info_nce(queries, keys.detach(), temperature)


class MoCoV3(Objective):
    """Objective over two views and a teacher; owns projector, predictor and the projector's moving average.

    The loss is the sum of both orders (student sees one view, teacher the other). dim: width of the encoder's rows. hidden, width: of the
    projector's three layers and the predictor's two. temperature: what cosines are divided by. momentum, final_momentum: the teacher's,
    along half a cosine. Vision transformers train more steadily when the layer that embeds their patches stays frozen as it began.
    """

    needs = Needs(views=2, teacher=True, couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 4096,
        width: int = 256,
        temperature: float = 0.2,
        momentum: float = 0.99,
        final_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum = Cosine(momentum, final_momentum)
        self.temperature = temperature
        self.project = mlp(dim, hidden, hidden, width, bias=False, last="norm without affine")
        self.predict = mlp(width, hidden, width, bias=False, last="norm without affine")
        self.teacher_project = MovingAverage(self.project, self.momentum)

    def forward(self, step: Step) -> Losses:
        a, b = step.seen_whole[:2]
        return Losses(moco_v3=self._one_order(step, a, b) + self._one_order(step, b, a))

    def _one_order(self, step: Step, seen: View, guessed: View) -> Tensor:
        queries = self.predict(self.project(step.encode(seen).rows))
        keys = self.teacher_project(step.encode(guessed, teacher=True).rows)
        return moco_v3_loss(gather_rows(queries), gather_rows(keys), self.temperature)

    def collapse_line(self, rows: int) -> float:
        return 4 * self.temperature * math.log(rows)
