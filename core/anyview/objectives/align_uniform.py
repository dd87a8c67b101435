"""Alignment and uniformity: a sample's views lie close together, and all samples spread over the sphere.

Wang, Isola. Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere. 2020, arXiv 2005.10242.
"""

from __future__ import annotations

import math

from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.objectives.contrast import log_sum_exp, require_others, unit
from anyview.objectives.objective import Losses, Needs, Objective, Step


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of unit rows, a mean over rows, between 0 and 4.

    a, b: (M, D), row i of both from the same sample, on any scale.

    >>> float(alignment(torch.eye(3), 2 * torch.eye(3)))
    0.0
    """
    return (unit(a) - unit(b)).square().sum(1).mean()


def uniformity(z: Tensor) -> Tensor:
    """log of the mean over pairs of rows of exp(-2·squared distance) of unit rows; the lower, the more evenly they are spread.

    z: (M, D), on any scale. All rows equal gives 0, the largest value; the smallest, of a regular simplex, is -4 - 4/(M - 1), and rows
    spread evenly over a sphere in many dimensions come near -4. With many rows the M x M matrix is made in blocks. Raises ValueError for
    a single row, which makes no pair.

    >>> float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])))
    -8.0
    """
    require_others(len(z), "uniformity")
    rows = unit(z, 2.0)  # -2 |x - y|² = 4 x·y - 4, and their products are 4 x·y
    return log_sum_exp(rows, rows, apart=[0]).logsumexp(0) - math.log(len(z) * (len(z) - 1)) - 4


class AlignUniform(Objective):
    """Objective over two views; owns the projector that both terms are taken on.

    dim: width of the encoder's rows. hidden, width: of the projector's two layers. uniformity: weight of the views' mean uniformity.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, hidden: int = 2048, width: int = 128, uniformity: float = 1.0) -> None:
        super().__init__()
        self.uniformity = uniformity
        self.project = mlp(dim, hidden, width)

    def forward(self, step: Step) -> Losses:
        a, b = (gather_rows(self.project(step.encode(view).rows)) for view in step.seen_whole[:2])
        return Losses(alignment=alignment(a, b), uniformity=self.uniformity * (uniformity(a) + uniformity(b)) / 2)

    def collapse_line(self, rows: int) -> float:
        return 0.0
