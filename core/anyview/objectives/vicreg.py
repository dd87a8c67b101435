"""VICReg: views agree, every feature varies, no two features vary together.

Bardes, Ponce, LeCun. VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning. 2021, arXiv 2105.04906.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.heads import projector
from anyview.objectives.gram import full, off_diagonal
from anyview.objectives.objective import Losses, Needs, Objective, Step


def variance_term(rows: Tensor, eps: float = 1e-4) -> Tensor:
    """How far each column's deviation stays below 1, a mean over columns; rows: (M, D), unbiased variance, M > 1."""
    return torch.relu(1 - (full(rows).var(0) + eps).sqrt()).mean()


def covariance_term(rows: Tensor) -> Tensor:
    """Sum of the squared covariances of different columns, divided by D; rows: (M, D), M > 1.

    Exact for any M and D; costs M²D instead of MD² when M < D.
    """
    with torch.autocast(rows.device.type, enabled=False):
        centred = full(rows) - full(rows).mean(0)
        off, _ = off_diagonal(centred, centred)
        return (off / (len(rows) - 1) ** 2 / rows.shape[1]).to(centred.dtype)


def vicreg_terms(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The terms before weighting: "invariance" (mean over M and D), "variance" (mean of both views'), "covariance" (sum of both views').

    a, b: (M, D), row i of both from the same sample, neither centred nor scaled. Raises ValueError for a single row, which has no variance.
    """
    if len(a) < 2:
        raise ValueError(f"VICReg needs at least two rows to have a variance, found {len(a)}; make the batch larger")
    return {
        "invariance": (full(a) - full(b)).square().mean(),
        "variance": (variance_term(a) + variance_term(b)) / 2,
        "covariance": covariance_term(a) + covariance_term(b),
    }


def vicreg_loss(a: Tensor, b: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """The weighted sum of the three terms, as in the paper (the variance term is the mean of the views', not their sum).

    a, b: (M, D). All rows equal gives variance·0.99 (24.75 with the default weight).

    >>> round(float(vicreg_loss(torch.ones(8, 4), torch.ones(8, 4))), 4)
    24.75
    """
    terms = vicreg_terms(a, b)
    return invariance * terms["invariance"] + variance * terms["variance"] + covariance * terms["covariance"]


class VICReg(Objective):
    """Objective over two views; owns the projector (the paper's expander) that the loss is taken on.

    dim: width of the encoder's rows. width: of the projector's three layers (256 to 1024 serve small data).
    invariance, variance, covariance: weights of the terms.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("information maximisation",)

    def __init__(self, dim: int, *, width: int = 8192, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        self.project = projector(dim, width, width, width)
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}

    def forward(self, step: Step) -> Losses:
        a, b = (gather_rows(self.project(step.encode(view).rows)) for view in step.seen_whole[:2])
        return Losses({name: self.weights[name] * term for name, term in vicreg_terms(a, b).items()})

    def collapse_line(self, rows: int) -> float:
        return 0.99 * self.weights["variance"]
