"""Cosines of rows with rows that get no gradient: what predictions of a teacher, or of a stopped branch, are compared by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.linalg import vector_norm

from anyview.objectives.gram import full


def cosines(rows: Tensor, fixed: Tensor) -> Tensor:
    """The cosine of each row with the one beside it, (M,), in float32 or float64; gradient goes to `rows` alone.

    rows, fixed: (M, D), on any scale. A row of zeros has cosine 0. Two matrices of that size are made, one each way; torch's own function
    makes more than twice as many.

    >>> cosines(torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    tensor([0.7071, 0.0000])
    """
    rows = full(rows)
    found: Tensor = _Cosines.apply(rows, fixed.detach().to(rows))
    return found


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, fixed: Tensor) -> Tensor:
        own, other = (vector_norm(z, dim=1).clamp_min_(1e-12) for z in (rows, fixed))
        found = (rows * fixed).sum(1).div_(own).div_(other)
        ctx.save_for_backward(rows, fixed, own, other, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows, fixed, own, other, found = ctx.saved_tensors
        slope = gradients[0] / own
        return (fixed * (slope / other)[:, None]).addcmul_(rows, (slope * found / own)[:, None], value=-1), None
