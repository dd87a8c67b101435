"""How many directions rows fill: effective ranks of their singular values, without any label.

RankMe: Garrido, Balestriero, Najman, LeCun. RankMe: Assessing the downstream performance of pretrained self-supervised representations
by their rank. 2022, arXiv 2210.02885. NESum: He, Ozay. Exploring the gap between collapsed & whitened features in self-supervised
learning. 2022. Everything is computed in float64.

One family: with p the normalised eigenvalues of the covariance, the stable rank is 1 / max p (order infinity), the participation ratio
1 / sum p² (order 2), the entropy rank exp H(p) (order 1); none is larger than the next, nor than the rank. RankMe is the member of order 1
on singular values instead of eigenvalues, of rows that are not centred.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.evaluation.rows import TINY, Rows, centred, float64

EPSILON = 1e-7
"""RankMe's, as published; 1e-5, which is met elsewhere, adds up to K epsilon of mass."""

LARGE_MEAN = 0.5
"""Above this share of the mean squared norm, the common mean swamps an uncentred spectrum."""

ROWS_PER_COLUMN = 10
"""Below this many rows per column, effective ranks are bounded by the number of rows rather than by the representation."""


def rankme(rows: Rows, *, epsilon: float = EPSILON) -> float:
    """RankMe as published: exp entropy of p_j = sigma_j / sum sigma + epsilon, on rows (N, K) that are not centred.

    At most about min(N, K); rows that are all zero give 1. Compare runs of one method on one data set only. arXiv 2210.02885, eq. 1.

    >>> q, _ = torch.linalg.qr(torch.randn(1000, 64, dtype=torch.float64))
    >>> round(rankme(q), 4)
    64.0013
    """
    return rankme_of(torch.linalg.svdvals(float64(rows)), epsilon)


def centred_rankme(rows: Rows, *, epsilon: float = EPSILON) -> float:
    """RankMe of rows (N, K) without their mean; not the published number, but the one to read when the common mean is large."""
    return rankme_of(torch.linalg.svdvals(centred(rows)), epsilon)


def mean_share(rows: Rows) -> float:
    """Squared norm of the mean row over the mean squared norm of the rows (N, K), 0 to 1; above one half RankMe sees little else."""
    rows = float64(rows)
    return float(rows.mean(0).square().sum() / rows.square().sum(1).mean().clamp_min(TINY))


def entropy_rank(rows: Rows) -> float:
    """exp H(p) with p the normalised eigenvalues of the covariance of rows (N, K); 0 when all rows are equal."""
    return entropy_rank_of(torch.linalg.svdvals(centred(rows)))


def participation_ratio(rows: Rows) -> float:
    """(tr C)² / ||C||² with C the covariance of rows (N, K): how many directions carry the variance; 0 when all rows are equal.

    Needs no eigenvalues; taken from the N x N Gram matrix when N < K, which has the same trace and the same norm.

    >>> round(participation_ratio(torch.eye(8)), 6)
    7.0
    """
    z = centred(rows)
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    return float(gram.trace() ** 2 / gram.square().sum().clamp_min(TINY))


def stable_rank(rows: Rows) -> float:
    """Sum of the covariance's eigenvalues over the largest, rows (N, K): NESum (He & Ozay 2022); 0 when all rows are equal."""
    return stable_rank_of(torch.linalg.svdvals(centred(rows)))


def uncentred_stable_rank(rows: Rows) -> float:
    """||Z||² / ||Z||₂² of rows (N, K) as they are, Frobenius over spectral norm: the mean counts as a direction; 0 when all are zero."""
    return stable_rank_of(torch.linalg.svdvals(float64(rows)))


def singular_values(rows: Tensor, *, centred: bool) -> Tensor:
    """Of rows (N, K) with or without their mean, largest first, for those who ask often.

    By the smaller Gram matrix: effective ranks agree to 1e-6 unless singular values span more than 7 decades.
    """
    z = rows - rows.mean(0) if centred else rows
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    return torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).sqrt()


def rankme_of(singular_values: Tensor, epsilon: float = EPSILON) -> float:
    """RankMe by singular values (min(N, K),) of the rows."""
    p = singular_values / singular_values.sum().clamp_min(TINY) + epsilon
    return float(torch.exp(-(p * p.log()).sum()))


def entropy_rank_of(singular_values: Tensor) -> float:
    """exp H(p) by singular values (min(N, K),) of the centred rows."""
    power = singular_values.square()
    if not power.any():
        return 0.0
    return float(torch.special.entr(power / power.sum()).sum().exp())


def participation_ratio_of(singular_values: Tensor) -> float:
    """(sum of the eigenvalues)² over the sum of their squares, by singular values (min(N, K),) of the centred rows."""
    power = singular_values.square()
    return float(power.sum() ** 2 / power.square().sum().clamp_min(TINY))


def stable_rank_of(singular_values: Tensor) -> float:
    """Sum of the eigenvalues over the largest, by singular values (min(N, K),) of the rows, centred or not."""
    power = singular_values.square()
    return float(power.sum() / power.max().clamp_min(TINY))
