"""alpha-ReQ: how fast the eigenvalues of the covariance fall, as the exponent of a power law.

Agrawal, Mondal, Ghosh, Richards. alpha-ReQ: Assessing representation quality in self-supervised learning by measuring eigenspectrum
decay. 2022, NeurIPS.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anyview.evaluation.rows import Rows, centred

FIRST = 3
"""The first eigenvalue of the fit, counted from 1: the largest few are no part of the law."""

SMALLEST = 1e-6
"""Eigenvalues below this share of the largest are left out of the fit."""

POINTS = 3
"""Fewer eigenvalues than these make no fit: a line through two is always perfect."""


@dataclass(frozen=True, slots=True)
class AlphaReQ:
    """alpha: -slope of log eigenvalue over log number; near 1 good, far below it white, far above it collapsed; None where there is no fit.

    r2: how well the line fits, 0 to 1. first, last: the eigenvalues that it was fitted to, from 1, both included; the range changes alpha
    more than most models do, so compare numbers of one range.
    """

    alpha: float | None
    r2: float | None
    first: int
    last: int


def alpha_req(rows: Rows, *, first: int = FIRST, last: int | None = None) -> AlphaReQ:
    """The power law of the covariance's eigenvalues of rows (N, K), by least squares of log lambda_j on log j, j from first to last.

    last: None = the last eigenvalue above 1e-6 times the largest, at most K / 2.

    >>> law = alpha_req(torch.linalg.qr(torch.randn(500, 64).double() - 0.01)[0] * torch.arange(1, 65) ** -0.5)
    >>> (law.first, law.last), 0.8 < law.alpha < 1.2
    ((3, 32), True)
    """
    z = centred(rows)
    return alpha_req_of(torch.linalg.svdvals(z).square(), z.shape[1], first=first, last=last)


def alpha_req_of(eigenvalues: Tensor, width: int, *, first: int = FIRST, last: int | None = None) -> AlphaReQ:
    """The power law of eigenvalues (J,), largest first, of rows of that width; scale does not matter."""
    if last is None:
        last = min(int((eigenvalues > SMALLEST * eigenvalues[0]).sum()), width // 2)
    last = min(last, int((eigenvalues > 0).sum()))
    if last - first + 1 < POINTS:
        return AlphaReQ(None, None, first, last)
    x = torch.arange(first, last + 1, dtype=torch.float64).log()
    y = eigenvalues[first - 1 : last].double().cpu().log()
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x)
    unexplained = (y - slope * x).square().sum()
    spread = y.square().sum()
    return AlphaReQ(-float(slope), float(1 - unexplained / spread) if spread > 0 else 1.0, first, last)
