"""BYOL: predict what a slowly moving teacher makes of the other view.

Grill et al. Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning. 2020, arXiv 2006.07733.
"""

from __future__ import annotations

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

    The loss is the mean of both orders (student sees one view, teacher the other). Each view is a forward pass of its own, so batch norm
    takes its moments per view. dim: width of the encoder's rows. hidden, width: of projector and predictor. momentum, final_momentum: the
    teacher's, from the first to the last step along half a cosine.
    """

    needs = Needs(views=2, teacher=True)
    tags = ("distillation", "joint-embedding prediction")

    def __init__(self, dim: int, *, hidden: int = 4096, width: int = 256, momentum: float = 0.996, final_momentum: float = 1.0) -> None:
        super().__init__()
        self.momentum = Cosine(momentum, final_momentum)
        self.project = mlp(dim, hidden, width)
        self.predict = predictor(width, hidden)
        self.teacher_project = MovingAverage(self.project, self.momentum)

    def forward(self, step: Step) -> Losses:
        a, b = step.seen_whole[:2]
        return Losses(byol=(self._one_order(step, a, b) + self._one_order(step, b, a)) / 2)

    def _one_order(self, step: Step, seen: View, guessed: View) -> Tensor:
        prediction = self.predict(self.project(step.encode(seen).rows))
        target = self.teacher_project(step.encode(guessed, teacher=True).rows)
        return byol_loss(gather_rows(prediction), gather_rows(target))
