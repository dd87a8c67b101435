"""SimSiam: predict the other view's projection, which is held fixed; there is neither a teacher nor a negative.

Chen, He. Exploring Simple Siamese Representation Learning. 2020, arXiv 2011.10566.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp, predictor
from anyview.learning_rates import ParameterGroup
from anyview.objectives.contrast import unit
from anyview.objectives.cosines import cosines
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.schedules import Constant


def simsiam_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The negative cosine, a mean over rows, between -1 and 1; no gradient to the target.

    prediction, target: (M, D), row i of both from the same sample. Equal rows everywhere give -1, which is also the minimum: a loss that
    stays at -1 is a collapse or a perfect fit, and only the spread of the projections tells which.

    >>> float(simsiam_loss(torch.eye(3), -torch.eye(3)))
    1.0
    """
    return -cosines(prediction, target).mean()


@torch.no_grad()
def spread(rows: Tensor) -> Tensor:
    """sqrt(D) times the mean over columns of the standard deviation of unit rows (M, D): 1 healthy (isotropic), 0 collapsed.

    >>> float(spread(torch.ones(10, 4)))
    0.0
    """
    return unit(rows.detach()).std(0, correction=0).mean() * rows.shape[1] ** 0.5


class SimSiam(Objective):
    """Objective over two views; owns projector and predictor.

    The loss is the mean of both orders. Each view is a forward pass of its own, so batch norm takes its moments per view. dim: width of
    the encoder's rows. width: of the projector's three layers. hidden: width inside the predictor, a bottleneck. constant_predictor:
    leave the predictor's learning rate at its highest throughout, as the paper does, while the rest follows the stage's schedule. Monitor:
    "projection_standard_deviation" of both views' unit projections, 1 healthy and 0 collapsed.
    """

    needs = Needs(views=2)
    tags = ("joint-embedding prediction",)

    def __init__(self, dim: int, *, width: int = 2048, hidden: int = 512, constant_predictor: bool = True) -> None:
        super().__init__()
        self.constant_predictor = constant_predictor
        self.project = mlp(dim, width, width, width, bias=False, last="norm without affine")
        self.predict = predictor(width, hidden)

    def forward(self, step: Step) -> Losses:
        a, b = (self.project(step.encode(view).rows) for view in step.seen_whole[:2])
        predictions = [gather_rows(self.predict(rows)) for rows in (a, b)]
        a, b = gather_rows(a), gather_rows(b)
        loss = (simsiam_loss(predictions[0], b) + simsiam_loss(predictions[1], a)) / 2
        return Losses(simsiam=loss, monitors={"projection_standard_deviation": (spread(a) + spread(b)) / 2})

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.predict.parameters(), Constant())] if self.constant_predictor else []
