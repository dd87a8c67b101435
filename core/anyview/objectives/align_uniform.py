"""Alignment and uniformity: a sample's views lie close together, and all samples spread over the sphere.

Wang, Isola. Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere. 2020, arXiv 2005.10242.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.objectives.contrast import blocks, part, require_others, unit
from anyview.objectives.gram import full_products, wide
from anyview.objectives.objective import Losses, Needs, Objective, Step


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of unit rows, a mean over rows, between 0 and 4.

    a, b: (M, D), row i of both from the same sample, on any scale.

    >>> float(alignment(torch.eye(3), 2 * torch.eye(3)))
    0.0
    """
    return (unit(a) - unit(b)).square().sum(1).mean()


def uniformity(z: Tensor) -> Tensor:
    """log of the mean over pairs of rows of exp(-2·squared distance) of unit rows; the lower, the more evenly they are spread.

    z: (M, D), on any scale. All rows equal gives 0, the largest value; the smallest, of a regular simplex, is -4 - 4/(M - 1), and rows
    spread evenly over a sphere in many dimensions come near -4. With many rows the M x M matrix is made in blocks. Raises ValueError for
    a single row, which makes no pair.

    >>> float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])))
    -8.0
    """
    require_others(len(z), "uniformity")
    mean: Tensor = _MeanKernel.apply(unit(z, 2.0))  # -2 |x - y|² = 4 x·y - 4, and products of rows of length 2 are 4 x·y
    return mean.log()


class _MeanKernel(torch.autograd.Function):
    """The mean over pairs of rows (M, D) of length 2 of exp(x·y - 4), which is never above 1, so that no logits need a shift.

    The matrix of M x M kernels is symmetric, so the gradient takes one product; it is kept where it fits one block, else made again.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.parts, sums = blocks(len(rows), len(rows)), []
        for own in ctx.parts:
            kernels = _kernels(rows, own)
            sums.append(kernels.sum(1))
        ctx.save_for_backward(rows, *([kernels] if len(ctx.parts) == 1 else []))
        ctx.pairs = len(rows) * (len(rows) - 1)
        return (torch.cat(sums).sum(dtype=wide(rows.device)) / ctx.pairs).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rows, *kept = ctx.saved_tensors
        to_rows = torch.empty_like(rows)
        for own in ctx.parts:
            kernels = kept[0] if kept else _kernels(rows, own)
            with full_products(rows.device):
                torch.mm(kernels, rows, out=to_rows[own])
        return to_rows.mul_(2 * gradients[0] / ctx.pairs)


def _kernels(rows: Tensor, own: slice) -> Tensor:
    """The rows `own` of the matrix of kernels, 0 where a row meets itself."""
    with full_products(rows.device):
        products = part(rows, own) @ rows.T
    products.sub_(4).exp_().diagonal(own.start).zero_()
    return products


class AlignUniform(Objective):
    """Objective over two views; owns the projector that both terms are taken on.

    dim: width of the encoder's rows. hidden, width: of the projector's two layers. uniformity: weight of the views' mean uniformity.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, hidden: int = 2048, width: int = 128, uniformity: float = 1.0) -> None:
        super().__init__()
        self.uniformity = uniformity
        self.project = mlp(dim, hidden, width)

    def forward(self, step: Step) -> Losses:
        a, b = (gather_rows(self.project(step.encode(view).rows)) for view in step.seen_whole[:2])
        return Losses(alignment=alignment(a, b), uniformity=self.uniformity * (uniformity(a) + uniformity(b)) / 2)

    def collapse_line(self, rows: int) -> float:
        return 0.0
