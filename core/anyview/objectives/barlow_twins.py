"""Barlow Twins: two views agree on every feature, and no two features say the same.

Zbontar, Jing, Misra, LeCun, Deny. Barlow Twins: Self-Supervised Learning via Redundancy Reduction. 2021, arXiv 2103.03230.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import projector
from anyview.objectives.gram import full, off_diagonal
from anyview.objectives.objective import Losses, Needs, Objective, Step


def standardise(rows: Tensor, eps: float = 1e-5) -> Tensor:
    """Columns with mean 0 and variance 1, (M, D) to (M, D); biased variance, eps inside the root, so a constant column becomes 0."""
    centred = rows - rows.mean(0)
    return centred * (centred.square().mean(0) + eps).rsqrt()


def barlow_twins_loss(a: Tensor, b: Tensor, redundancy: float = 0.0051) -> Tensor:
    """Squared distance of the views' cross-correlation matrix from the identity, a sum over its entries.

    a, b: (M, D), row i of both from the same sample. redundancy: weight of the off-diagonal part (lambda in the paper).
    Exact for any M and D; costs M²D instead of MD² when M < D. All rows equal gives D; all columns equal gives
    redundancy·D(D - 1). With M <= D the off-diagonal part cannot fall below D²/(M - 1) - D while the diagonal is 1.

    >>> z = torch.randn(64, 16)
    >>> float(barlow_twins_loss(z, z)) < float(barlow_twins_loss(z, torch.randn(64, 16)))
    True
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = standardise(full(a)), standardise(full(b))
        off, diagonal = off_diagonal(a, b)
        return ((diagonal / len(a) - 1).square().sum() + redundancy * off / len(a) ** 2).to(a.dtype)


class BarlowTwins(Objective):
    """Objective over two views; owns the projector that the loss is taken on.

    dim: width of the encoder's rows. width: of the projector's three layers (256 to 1024 serve small data). redundancy: weight of the
    off-diagonal part; 1/width is a good start for small widths.
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
        return Losses(barlow_twins=barlow_twins_loss(a, b, self.redundancy))

    def collapse_line(self, rows: int) -> float:
        return float(self.width)
