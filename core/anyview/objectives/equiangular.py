"""Equiangular basis vectors: fixed unit vectors, as far apart as they can be, in place of a classifier's last layer.

Shen, Sun, Wei. Equiangular Basis Vectors. 2023, arXiv 2303.11637.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy, normalize, softshrink

from anyview.errors import UserError
from anyview.objectives.gram import full, full_products

TOLERANCE = 1e-4
"""A largest cosine counts as reached when it is missed by no more."""

PATIENCE = 1000
"""After so many steps without an improvement by a hundredth the search for a cosine that was asked for is given up."""


def welch_bound(count: int, dim: int) -> float:
    """The least that the largest |cosine| between `count` directions of `dim` dimensions can be; reached by few sets.

    >>> round(welch_bound(1000, 100), 4)
    0.0949
    """
    return math.sqrt((count - dim) / (dim * (count - 1))) if count > dim else 0.0


def equiangular_basis(count: int, dim: int, max_cosine: float | None = None, seed: int = 0) -> Tensor:
    """Unit vectors, (count, dim), of which no two have a |cosine| above `max_cosine`; equal numbers give equal vectors.

    With count <= dim they are orthogonal, and with count = dim + 1 a simplex, whose cosines are all -1/dim: both exact. More are searched
    for: wherever a |cosine| is above `max_cosine` (or nine tenths of the largest, if that is more) the two are pushed apart. Without
    `max_cosine` the search goes on for as long as the largest |cosine| falls: a few seconds for 1000 vectors of 100 dimensions, ten for
    3000 of 128.

    Raises UserError when `max_cosine` is below the Welch bound, which nothing can reach, and when the search does not reach it.

    >>> basis = equiangular_basis(5, 4)
    >>> torch.allclose(basis @ basis.T, 1.25 * torch.eye(5) - 0.25, atol=1e-6)
    True
    """
    if count < 1 or dim < 1:
        raise UserError(f"{count} vectors of {dim} dimensions were asked for; give at least one of each")
    bound = welch_bound(count, dim)
    if max_cosine is not None and max_cosine < bound - 1e-9:
        asked = f"{count} vectors of {dim} dimensions with cosines of at most {max_cosine:g} were asked for"
        raise UserError(f"{asked}, and some two have at least {bound:.4f}; allow that much, or take more dimensions")
    start = torch.randn(max(count, dim), dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if count <= dim:
        basis = torch.linalg.qr(start).Q.T[:count]
    elif count == dim + 1:
        basis = _simplex(start[:dim])
    else:
        basis = _search(normalize(start.float(), dim=1), bound, max_cosine)
    return basis.to(torch.get_default_dtype()).contiguous()


class EquiangularHead(nn.Module):
    """A classifier whose weights are equiangular basis vectors and stay as they are: cosines with them, divided by a temperature.

    dim: width of the rows. classes: how many. width: of the vectors; rows are projected to it by a linear layer, without which the vectors
    are as wide as the rows. max_cosine, seed: see `equiangular_basis`. temperature, smoothing: of `loss`.

    >>> head = EquiangularHead(8, classes=5)
    >>> rows, labels = torch.randn(16, 8), torch.arange(16) % 5
    >>> head(rows).shape, head.loss(rows, labels).shape, head.predict(rows).shape
    (torch.Size([16, 5]), torch.Size([]), torch.Size([16]))
    """

    basis: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        width: int | None = None,
        max_cosine: float | None = None,
        temperature: float = 0.07,
        smoothing: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.project = nn.Identity() if width is None else nn.Linear(dim, width)
        self.register_buffer("basis", equiangular_basis(classes, width or dim, max_cosine, seed))
        self.temperature, self.smoothing = temperature, smoothing

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (M, classes) of rows (M, dim)."""
        projected = full(self.project(rows))
        with full_products(rows.device):
            return normalize(projected, dim=1, eps=1e-12) @ self.basis.to(projected).T / self.temperature

    def loss(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy with label smoothing, a mean over rows (M, dim); labels: (M,) from 0 on."""
        return cross_entropy(self(rows), labels, label_smoothing=self.smoothing)

    def predict(self, rows: Tensor) -> Tensor:
        """The nearest vector's class, (M,), of rows (M, dim)."""
        return self(rows).argmax(1)


def _simplex(start: Tensor) -> Tensor:
    """D + 1 unit vectors with cosines -1/D, turned as a random (D, D) says: the axes of D + 1 dimensions, seen along their diagonal."""
    count = len(start) + 1
    centred = torch.eye(count, dtype=start.dtype) - 1 / count
    across = torch.linalg.svd(centred).Vh[:-1]  # D directions across the diagonal
    return normalize(centred @ across.T @ torch.linalg.qr(start).Q, dim=1)


def _search(basis: Tensor, bound: float, max_cosine: float | None) -> Tensor:
    """Push unit vectors (N, D) apart until no |cosine| is above `max_cosine`, or for as long as the largest falls."""
    work = len(basis) ** 2 * basis.shape[1]
    patience = min(100, max(20, int(2e10 / work))) if max_cosine is None else PATIENCE
    goal = bound if max_cosine is None else max_cosine
    best, largest, improved, step = basis, math.inf, (math.inf, 0), 0
    while step < improved[1] + patience:
        cosines = basis @ basis.T
        cosines.fill_diagonal_(0.0)
        now = max(map(abs, map(float, cosines.aminmax())))
        if now < largest:
            best, largest = basis, now
        if largest <= goal + TOLERANCE:
            return best
        if largest < 0.99 * improved[0]:
            improved = (largest, step)
        excess = softshrink(cosines, max(goal, 0.9 * now))
        rate = min(0.5, 1 / float(vector_norm(excess, ord=1, dim=1).max()))  # a vector moves by no more than its own length
        basis, step = normalize(basis - rate * (excess @ basis), dim=1), step + 1
    if max_cosine is None:
        return best
    asked = f"{len(basis)} vectors of {basis.shape[1]} dimensions with cosines of at most {max_cosine:g} were asked for"
    raise UserError(f"{asked}, and the search came to {largest:.4f}; allow that much, or take more dimensions")
