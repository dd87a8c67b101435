"""DCL: contrast without the positive pair among what it is held against.

Yeh, Hong, Hsu, Liu, Chen, LeCun. Decoupled Contrastive Learning. 2021, arXiv 2110.06848.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.objectives.contrast import log_sum_exp, require_others, unit
from anyview.objectives.objective import Losses, Needs, Objective, Step


def dcl_loss(a: Tensor, b: Tensor, temperature: float = 0.1, *, weighted: bool = False, sigma: float = 0.5) -> Tensor:
    """NT-Xent whose denominator holds the 2(M - 1) rows of other samples alone, a mean over the 2M rows; it may be negative.

    a, b: (M, D), row i of both from the same sample, on any scale. temperature: what cosines are divided by. weighted: DCLW, in which
    `positive_weights` (with sigma) multiply the positive pairs. All rows equal gives log(2M - 2). Raises ValueError for a single sample.

    >>> round(float(dcl_loss(torch.ones(8, 4), torch.ones(8, 4)).exp()), 3)
    14.0
    """
    require_others(len(a), "DCL")
    rows = unit(torch.cat([a, b]), temperature**-0.5)
    first, second = rows.chunk(2)
    positive = (first * second).sum(1)
    if weighted:
        positive = positive * positive_weights(temperature * positive.detach(), sigma)
    return log_sum_exp(rows, rows, apart=[0, len(a), -len(a)]).mean() - positive.mean()


def positive_weights(cosines: Tensor, sigma: float = 0.5) -> Tensor:
    """DCLW's weights of positive pairs, larger where the views are far apart: 2 - M·softmax(cosines / sigma), (M,) to (M,), of mean 1.

    >>> [round(weight, 1) for weight in positive_weights(torch.tensor([0.9, 0.9, 0.1])).tolist()]
    [0.6, 0.6, 1.7]
    """
    return 2 - len(cosines) * (cosines / sigma).softmax(0)


class DCL(Objective):
    """Objective over two views; owns the projector that the loss is taken on.

    dim: width of the encoder's rows. hidden, width: of the projector's two layers. temperature: what cosines are divided by. weighted:
    DCLW, which gives more weight to views that are far apart; sigma: how much (smaller is more).
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 128,
        temperature: float = 0.1,
        weighted: bool = False,
        sigma: float = 0.5,
    ) -> None:
        super().__init__()
        self.temperature, self.weighted, self.sigma = temperature, weighted, sigma
        self.project = mlp(dim, hidden, width)

    def forward(self, step: Step) -> Losses:
        a, b = (gather_rows(self.project(step.encode(view).rows)) for view in step.seen_whole[:2])
        return Losses(dcl=dcl_loss(a, b, self.temperature, weighted=self.weighted, sigma=self.sigma))

    def collapse_line(self, rows: int) -> float:
        return math.log(2 * rows - 2)
