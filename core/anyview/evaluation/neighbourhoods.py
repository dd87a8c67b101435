"""What neighbours say without labels: do views find their partners, is any row everybody's neighbour, do two encoders agree.

Hubness: Radovanovic, Nanopoulos, Ivanovic. Hubs in Space: Popular Nearest Neighbors in High-Dimensional Data. 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.evaluation.rows import Rows, unit

CHUNK = 2**23
"""Similarities that are held at once."""

TIE = 1e-12
"""Cosines that differ by no more than this are equal but for rounding."""


def self_retrieval(a: Rows, b: Rows) -> float:
    """Share of rows of one view (N, K) whose nearest row of the other view (N, K), by cosine, is their own partner.

    Where m rows are equally near, the partner among them counts 1 / m: rows that are all alike score 1 / N.

    >>> self_retrieval(torch.eye(4), torch.eye(4) + 0.1), self_retrieval(torch.ones(4, 2), torch.ones(4, 2))
    (1.0, 0.25)
    """
    first, second = unit(a), unit(b)
    found = first.new_zeros(())
    for start in range(0, len(first), max(1, CHUNK // len(second))):
        rows = first[start : start + max(1, CHUNK // len(second))]
        cosine = rows @ second.T
        near = cosine >= cosine.amax(1, keepdim=True) - TIE
        found += (near.diagonal(start) / near.sum(1)).sum()
    return float(found) / len(first)


def hubness(rows: Rows, *, k: int = 10) -> float:
    """Skewness over rows (N, K) of how often each is among the k nearest (by cosine) of the others: 0 none, large = few hubs.

    >>> round(hubness(torch.cat([torch.eye(50), torch.ones(1, 50)]), k=1))
    7
    """
    neighbours = nearest(rows, k)
    return skewness(torch.bincount(neighbours.flatten(), minlength=len(neighbours)).double())


def skewness(values: Tensor) -> float:
    """Third central moment of values (N,) over the third power of their standard deviation; 0 when all are equal."""
    apart = values - values.mean()
    variance = apart.square().mean()
    return float(apart.pow(3).mean() / variance.pow(1.5)) if variance > 0 else 0.0


def neighbourhood_agreement(a: Rows, b: Rows, *, k: int = 10) -> float:
    """Mean share of a row's k nearest (by cosine) by one encoder, (N, K), that are so by the other, (N, L); chance is k / (N - 1).

    >>> rows = torch.randn(50, 8)
    >>> neighbourhood_agreement(rows, 2 * rows, k=5)
    1.0
    """
    if len(a) != len(b):
        raise UserError(f"neighbourhoods are compared sample by sample, and there are {len(a)} and {len(b)} rows; embed the same data")
    first, second = nearest(a, k), nearest(b, k)
    shared = (first[:, :, None] == second[:, None, :]).any(2)
    return float(shared.double().mean())


def nearest(rows: Rows, k: int) -> Tensor:
    """The k nearest others (N, k) of each of rows (N, K) by cosine, nearest first."""
    z = unit(rows)
    if not 1 <= k < len(z):
        raise UserError(f"{k} neighbours were asked for, and each of {len(z)} rows has {len(z) - 1} others; give more rows")
    return torch.cat([_without_self(part @ z.T, start, -torch.inf).topk(k, 1).indices for start, part in _chunks(z)])


def nearest_distances(rows: Tensor, k: int) -> Tensor:
    """Euclidean distances (N, k) of rows (N, K) to their k nearest others, nearest first; by differences, so that small ones are exact."""
    parts = [_without_self(torch.cdist(part, rows, compute_mode=EXACT), start, torch.inf) for start, part in _chunks(rows)]
    return torch.cat([part.topk(k, 1, largest=False).values for part in parts])


EXACT = "donot_use_mm_for_euclid_dist"


def _chunks(rows: Tensor) -> list[tuple[int, Tensor]]:
    size = max(1, CHUNK // len(rows))
    return [(start, rows[start : start + size]) for start in range(0, len(rows), size)]


def _without_self(values: Tensor, start: int, instead: float) -> Tensor:
    """Values (n, N) of rows start .. start + n with every row's own replaced."""
    own = torch.arange(len(values), device=values.device)
    values[own, own + start] = instead
    return values
