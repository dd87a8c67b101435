"""Mahalanobis distances with a shrunk covariance.

Lee, Lee, Lee, Shin. A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks. 2018, arXiv 1807.03888.
Shrinkage: Ledoit, Wolf. A well-conditioned estimator for large-dimensional covariance matrices. 2004. Relative form: Ren, Fort, Liu, Roy,
Padhy, Lakshminarayanan. A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection. 2021, arXiv 2106.09022.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anyview.evaluation.neighbourhoods import EXACT
from anyview.evaluation.rows import TINY


def ledoit_wolf(rows: Tensor) -> float:
    """How far the covariance S of centred rows (N, D) is best shrunk towards tr S / D on the diagonal: 0 not at all, 1 wholly.

    min(b, d) / d with d = ||S - m I||² / D, m = tr S / D and b = (sum of ||x||⁴ - N ||S||²) / (N² D). Rows must come without their mean,
    or their class means; 0 where S is that diagonal already. Taken from the smaller of S and the N x N Gram matrix.

    >>> 0 < ledoit_wolf(torch.randn(20, 10) * torch.arange(10)) < 1
    True
    """
    samples, width = rows.shape
    squares = rows.square().sum(1)
    gram = rows @ rows.T if samples < width else rows.T @ rows
    norm = float(gram.square().sum()) / samples**2
    mean = float(squares.sum()) / samples / width
    apart = norm / width - mean**2
    noise = (float(squares.square().sum()) - samples * norm) / (samples**2 * width)
    return min(1.0, max(0.0, noise / apart)) if apart > 1e-14 * max(norm / width, TINY) else 0.0


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Class means (C, D) and one covariance, (1 - shrinkage) S + shrinkage tr S / D I, of rows (N, D) about their means."""

    means: Tensor
    centred: Tensor
    shrinkage: float

    @classmethod
    def fit(cls, rows: Tensor, labels: Tensor) -> Gaussians:
        """To rows (N, D), float64, with labels (N,); classes without rows have no mean."""
        _, own = labels.unique(return_inverse=True)
        count = torch.bincount(own)
        means = rows.new_zeros(len(count), rows.shape[1]).index_add_(0, own, rows) / count[:, None]
        centred = rows - means[own]
        return cls(means, centred, ledoit_wolf(centred))

    def distances(self, rows: Tensor) -> Tensor:
        """Squared Mahalanobis distances (n,) of rows (n, D) to the nearest of the means.

        By the N x N form of the inverse (Woodbury) where there are fewer rows than columns.
        """
        samples, width = self.centred.shape
        mean = float(self.centred.square().sum()) / samples / width
        ridge = max(self.shrinkage * mean, 1e-12 * mean, 1e-30)  # rows that are all alike have no covariance to invert
        share = (1 - self.shrinkage) / samples
        if share == 0:
            return _squared(rows, self.means).amin(1) / ridge
        if samples >= width:
            factor = _cholesky(share * self.centred.T @ self.centred, ridge)
            return _squared(_solved(factor, rows), _solved(factor, self.means)).amin(1)
        factor = _cholesky(self.centred @ self.centred.T, ridge / share)
        explained = _squared(*(_solved(factor, part @ self.centred.T) for part in (rows, self.means)))
        return ((_squared(rows, self.means) - explained).clamp_min(0) / ridge).amin(1)


def _squared(rows: Tensor, means: Tensor) -> Tensor:
    """Squared distances (n, C), by differences, so that small ones are exact."""
    return torch.cdist(rows, means, compute_mode=EXACT).square()


def _solved(factor: Tensor, rows: Tensor) -> Tensor:
    """L^-1 x for every row x, (n, D)."""
    return torch.linalg.solve_triangular(factor, rows.T, upper=False).T


def _cholesky(matrix: Tensor, ridge: float) -> Tensor:
    return torch.linalg.cholesky(matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype))


def mahalanobis_scores(train: Tensor, labels: Tensor, rows: Tensor, *, relative: bool = False) -> tuple[Tensor, float]:
    """Scores (n,) of rows (n, D), larger = further from every class of train (N, D), labels (N,); and the shrinkage.

    relative: less the squared distance to one Gaussian of all training rows, which takes out what is far from everything.
    """
    classes = Gaussians.fit(train, labels)
    scores = classes.distances(rows)
    if relative:
        scores = scores - Gaussians.fit(train, torch.zeros_like(labels)).distances(rows)
    return scores, classes.shrinkage
