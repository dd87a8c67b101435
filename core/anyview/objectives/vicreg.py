"""VICReg: views agree, every feature varies, no two features vary together.

Bardes, Ponce, LeCun. VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning. 2021, arXiv 2105.04906.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from anyview.distributed import gather_rows
from anyview.encoders.heads import projector
from anyview.objectives.gram import column_products, full, off_diagonal
from anyview.objectives.objective import Losses, Needs, Objective, Step


def variance_term(rows: Tensor, eps: float = 1e-4) -> Tensor:
    """How far each column's deviation stays below 1, a mean over columns; rows: (..., M, D), unbiased variance, M > 1.

    >>> round(float(variance_term(torch.ones(4, 2))), 4)
    0.99
    """
    centred = full(rows) - full(rows).mean(-2, keepdim=True)
    return _hinge(column_products(centred, centred) / (rows.shape[-2] - 1), eps).to(centred.dtype)


def covariance_term(rows: Tensor) -> Tensor:
    """Sum of the squared covariances of different columns, divided by D; rows: (..., M, D), M > 1; a mean over what comes before M.

    Exact for any M and D; costs M²D instead of MD² when M < D.

    >>> float(covariance_term(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])))
    4.0
    """
    return spread_terms(rows)[1]


def spread_terms(rows: Tensor) -> tuple[Tensor, Tensor]:
    """`variance_term` and `covariance_term` of rows (..., M, D), together at the price of the second.

    >>> variance, covariance = spread_terms(torch.eye(3))
    >>> torch.equal(variance, variance_term(torch.eye(3))), torch.equal(covariance, covariance_term(torch.eye(3)))
    (True, True)
    """
    centred = full(rows) - full(rows).mean(-2, keepdim=True)
    off, squares = off_diagonal(centred, centred)
    freedom, width = rows.shape[-2] - 1, rows.shape[-1]
    return _hinge(squares / freedom).to(centred.dtype), (off.mean() / freedom**2 / width).to(centred.dtype)


def vicreg_terms(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The terms before weighting: "invariance" (mean over M and D), "variance" (mean of both views'), "covariance" (sum of both views').

    a, b: (M, D), row i of both from the same sample, neither centred nor scaled. Raises ValueError for a single row, which has no variance.
    """
    if len(a) < 2:
        raise ValueError(f"VICReg needs at least two rows to have a variance, found {len(a)}; make the batch larger")
    (variance_a, covariance_a), (variance_b, covariance_b) = spread_terms(a), spread_terms(b)
    return {
        "invariance": mse_loss(full(a), full(b)),
        "variance": (variance_a + variance_b) / 2,
        "covariance": covariance_a + covariance_b,
    }


def vicreg_loss(a: Tensor, b: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """The weighted sum of the three terms, as in the paper (the variance term is the mean of the views', not their sum).

    a, b: (M, D). All rows equal gives variance·0.99 (24.75 with the default weight).

    >>> round(float(vicreg_loss(torch.ones(8, 4), torch.ones(8, 4))), 4)
    24.75
    """
    terms = vicreg_terms(a, b)
    return invariance * terms["invariance"] + variance * terms["variance"] + covariance * terms["covariance"]


def _hinge(variances: Tensor, eps: float = 1e-4) -> Tensor:
    return torch.relu(1 - (variances + eps).sqrt()).mean()


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
