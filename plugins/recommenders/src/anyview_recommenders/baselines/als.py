"""Alternating least squares on implicit feedback: every user and every item in turn solves a small ridge regression.

Hu, Koren, Volinsky. Collaborative Filtering for Implicit Feedback Datasets. ICDM 2008.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from anyview.errors import UserError
from anyview_recommenders.scorer import DotProduct

BLOCK = 2**22
"""The most numbers of padded histories, and of normal matrices, that are solved at once (32 MiB of float64)."""


def als(
    matrix: sparse.csr_matrix | sparse.csr_array,
    factors: int = 64,
    *,
    regularisation: float = 10.0,
    confidence: float = 10.0,
    iterations: int = 15,
    seed: int = 0,
) -> DotProduct:
    """Factors X (U, D), Y (I, D) that descend sum over all pairs of c (p - x·y)² + regularisation (|X|² + |Y|²).

    matrix: (U, I); p is 1 at its entries and 0 elsewhere, c is 1 + confidence at its entries and 1 elsewhere. Each iteration solves X
    exactly for Y and Y exactly for X, in float64. seed: of Y's first values, normal with deviation 0.01. Raises UserError unless factors,
    iterations and regularisation are above 0 and confidence is not below.

    >>> scorer = als(sparse.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])), factors=2, regularisation=0.1)
    >>> scorer.score(torch.tensor([0])).round(decimals=1).tolist()
    [[1.0, 1.0, 0.0]]
    """
    if min(factors, iterations) < 1 or regularisation <= 0 or confidence < 0:
        found = f"factors {factors}, iterations {iterations}, regularisation {regularisation}, confidence {confidence}"
        raise UserError(f"als needs a factor, an iteration and a regularisation above 0, and was given {found}; try 64, 15, 10, 10")
    by_user = sparse.csr_array(matrix)
    by_item = by_user.T.tocsr()
    items = 0.01 * torch.randn(matrix.shape[1], factors, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for _ in range(iterations):
        users = solve(by_user, items, regularisation, confidence)
        items = solve(by_item, users, regularisation, confidence)
    return DotProduct(users.float(), items.float())


def solve(matrix: sparse.csr_array, fixed: Tensor, regularisation: float, confidence: float) -> Tensor:
    """The rows (n, D) that minimise the loss for a matrix (n, m) when the other side is fixed (m, D); a row without entries is zero.

    x = (YᵀY + confidence · sum y yᵀ + regularisation)⁻¹ (1 + confidence) · sum y, sums over the row's entries; Cholesky, many rows at once.
    """
    columns, starts = torch.from_numpy(matrix.indices.astype(np.int64)), torch.from_numpy(matrix.indptr.astype(np.int64))
    padded = torch.cat([fixed, fixed.new_zeros(1, fixed.shape[1])])  # the last row stands where a history has ended
    base = fixed.T @ fixed + regularisation * torch.eye(fixed.shape[1], dtype=fixed.dtype)
    solved = fixed.new_zeros(matrix.shape[0], fixed.shape[1])
    for rows, longest in _alike(starts.diff(), fixed.shape[1]):
        places = starts[rows, None] + torch.arange(longest)
        entries = torch.where(places < starts[rows + 1, None], columns[places.clamp(max=len(columns) - 1)], len(fixed))
        own = padded[entries]
        normal = torch.baddbmm(base.expand(len(rows), -1, -1), own.mT, own, alpha=confidence)
        right = (1 + confidence) * own.sum(1)
        solved[rows] = torch.cholesky_solve(right[..., None], torch.linalg.cholesky(normal))[..., 0]
    return solved


def _alike(counts: Tensor, width: int) -> Iterator[tuple[Tensor, int]]:
    """Rows with entries, in groups of similar counts that fit a block, and the largest count of each group."""
    order = counts.argsort(descending=True, stable=True)
    order = order[counts[order] > 0]
    begin = 0
    while begin < len(order):
        longest = int(counts[order[begin]])
        count = max(1, BLOCK // (width * max(longest, width)))
        yield order[begin : begin + count], longest
        begin += count
