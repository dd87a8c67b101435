"""Barlow Twins: two views agree on every feature, and no two features say the same.

Zbontar, Jing, Misra, LeCun, Deny. Barlow Twins: Self-Supervised Learning via Redundancy Reduction. 2021, arXiv 2103.03230.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import projector
from anyview.objectives.gram import Grams, full, off_diagonal
from anyview.objectives.objective import Losses, Needs, Objective, Step


def standardise(rows: Tensor, eps: float = 1e-5) -> Tensor:
    """Columns with mean 0 and variance 1, (M, D) to (M, D); biased variance, eps inside the root, so a constant column becomes 0.

    >>> standardise(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), eps=0.0)[:, 0]
    tensor([-1.,  1.])
    """
    return torch.batch_norm(rows, None, None, None, None, True, 0.0, eps, False)  # the same in one pass, and its backward in another


def barlow_twins_loss(a: Tensor, b: Tensor, redundancy: float = 0.0051) -> Tensor:
    """Squared distance of the views' cross-correlation matrix from the identity, a sum over its entries.

    a, b: (M, D), row i of both from the same sample. redundancy: weight of the off-diagonal part (lambda in the paper).
    Exact for any M and D; costs M²D instead of MD² when M < D. All rows equal gives D; all columns equal gives
    redundancy·D(D - 1). With M <= D the off-diagonal part has a floor, see `redundancy_floor`.

    >>> z = torch.randn(64, 16)
    >>> float(barlow_twins_loss(z, z)) < float(barlow_twins_loss(z, torch.randn(64, 16)))
    True
    """
    return correlation_loss(standardise(full(a)), standardise(full(b)), redundancy)


def correlation_loss(a: Tensor, b: Tensor, redundancy: float, grams: Grams | None = None) -> Tensor:
    """The Barlow Twins loss of views whose columns are standardised already; grams: as in `off_diagonal`.

    >>> float(correlation_loss(torch.ones(2, 3), torch.ones(2, 3), redundancy=1.0))
    6.0
    """
    off, diagonal = off_diagonal(a, b, grams)
    return ((diagonal / len(a) - 1).square().sum() + redundancy * off / len(a) ** 2).to(a.dtype)


def redundancy_floor(rows: int, width: int) -> float:
    """The least that the squares off the diagonal can sum to while the diagonal is 1: width²/(rows - 1) - width, or 0 with more rows.

    Fewer rows than columns cannot be decorrelated; what is above redundancy·floor is what training can take away.

    >>> round(0.0051 * redundancy_floor(256, 2048), 1)
    73.4
    """
    return max(0.0, width**2 / (rows - 1) - width) if rows > 1 else 0.0


class BarlowTwins(Objective):
    """Objective over two views; owns the projector that the loss is taken on.

    dim: width of the encoder's rows. width: of the projector's three layers (256 to 1024 serve small data). redundancy: weight of the
    off-diagonal part; 1/width is a good start for small widths.

    Monitor: above_floor, the loss less what no training takes away from batches that have fewer rows than the projector has columns.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("information maximisation",)

    def __init__(self, dim: int, *, width: int = 8192, redundancy: float = 0.0051) -> None:
        super().__init__()
        self.width = width
        self.project = projector(dim, width, width, width)
        self.redundancy = redundancy

    def forward(self, step: Step) -> Losses:
        a, b = (gather_rows(self.project(step.encode(view).rows)) for view in step.seen_whole[:2])
        loss = barlow_twins_loss(a, b, self.redundancy)
        return Losses(barlow_twins=loss, monitors={"above_floor": loss.detach() - self.redundancy * redundancy_floor(len(a), self.width)})

    def collapse_line(self, rows: int) -> float:
        return float(self.width)
