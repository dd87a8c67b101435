"""The entries of a product AᵀB off its diagonal, from whichever side is smaller: ‖AᵀB‖² = ⟨AAᵀ, BBᵀ⟩."""

from __future__ import annotations

import torch
from torch import Tensor


def off_diagonal(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the squares of AᵀB's entries off its diagonal, and that diagonal (D,); both float64, with gradient.

    a, b: (M, D). With M < D two M x M Gram matrices are made and no D x D one: M²D multiplications instead of MD², M² numbers instead of
    D². Matrices are multiplied in the tensors' type (float32 or float64, never lower). Sums of squares and their difference are float64: a
    column that is much longer than the others makes the diagonal nearly all there is to subtract from.

    >>> a, b = torch.randn(2, 3, 50).double()
    >>> product = a.T @ b
    >>> torch.allclose(off_diagonal(a, b)[0], product.square().sum() - product.diagonal().square().sum())
    True
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = full(a), full(b)
        if len(a) < a.shape[1]:
            diagonal = (a * b).sum(0, dtype=torch.float64)
            return ((a @ a.T) * (b @ b.T)).sum(dtype=torch.float64) - diagonal.square().sum(), diagonal
        product = a.T @ b
        squares = product.square()
        return squares.sum(dtype=torch.float64) - squares.diagonal().sum(dtype=torch.float64), product.diagonal().double()


def full(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that: what losses are computed in, under autocast too."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
