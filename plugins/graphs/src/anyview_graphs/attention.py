"""Attention over the edges into a node: softmax and weighted sum on contiguous ranges, backward through the transposed order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anyview.sparse import csr_product
from anyview_graphs.graph import Edges
from anyview_graphs.sparse import csr, full_precision


def segment_sum(values: Tensor, indptr: Tensor) -> Tensor:
    """(n,) sums of the ranges indptr[i] .. indptr[i + 1] of values (E,); empty ranges give 0."""
    return torch.segment_reduce(values, "sum", offsets=indptr, initial=0, unsafe=True)


def segment_max(values: Tensor, indptr: Tensor) -> Tensor:
    """(n,) maxima of the ranges indptr[i] .. indptr[i + 1] of values (E,); empty ranges give -inf."""
    return torch.segment_reduce(values, "max", offsets=indptr, unsafe=True)


def edge_softmax(scores: Tensor, edges: Edges) -> Tensor:
    """(E,) softmax of scores (E,) over the edges into each node, without gradient."""
    weights = (scores - segment_max(scores, edges.indptr).index_select(0, edges.dst)).exp_()
    return weights.div_(segment_sum(weights, edges.indptr).index_select(0, edges.dst))


def attend(z: Tensor, left: Tensor, right: Tensor, edges: Edges, *, keep: Tensor | None = None, slope: float = 0.2) -> Tensor:
    """out_i = sum over edges j -> i of keep_ji alpha_ji z_j, with alpha_ji = softmax over j of LeakyReLU(left_j + right_i).

    z: (N, D). left, right: (N,) what a node adds to the score as source and as destination. keep: (E,) attention dropout, its factor
    included, applied after the softmax and without normalising again; None = none. slope: LeakyReLU's for negative scores.
    Several heads: give `edges.repeated(H)` and (N H, D) rows, node-major. Nodes without incoming edges get 0.
    No (E, D) tensor is made in either direction.
    """
    return full_precision(_Attend, z, left, right, edges, keep, slope)


def aggregate(z: Tensor, edges: Edges, weights: Tensor | None = None) -> Tensor:
    """out_i = sum over edges j -> i of weights_ji z_j, (N, D); weights: (E,) without gradient, None = ones."""
    return full_precision(_Aggregate, z, edges, z.new_ones(len(edges)) if weights is None else weights.to(z.dtype))


def _gather(edges: Edges, weights: Tensor, z: Tensor) -> Tensor:
    return csr_product(csr(edges.indptr, edges.src, weights, (edges.num_nodes, edges.num_nodes)), z)


def _gather_back(edges: Edges, weights: Tensor, gradient: Tensor) -> Tensor:
    values = weights.index_select(0, edges.order_t)
    return csr_product(csr(edges.indptr_t, edges.dst_t, values, (edges.num_nodes, edges.num_nodes)), gradient)


def _edge_products(edges: Edges, into: Tensor, out_of: Tensor) -> Tensor:
    """(E,) inner products of into[dst] and out_of[src]."""
    pattern = csr(edges.indptr, edges.src, into.new_zeros(len(edges)), (edges.num_nodes, edges.num_nodes))
    return torch.sparse.sampled_addmm(pattern, into, out_of.t(), beta=0.0).values()


class _Aggregate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, edges: Edges, weights: Tensor) -> Tensor:
        ctx.edges, ctx.weights = edges, weights
        return _gather(edges, weights, z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _gather_back(ctx.edges, ctx.weights, gradients[0].contiguous()), None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, left: Tensor, right: Tensor, edges: Edges, keep: Tensor | None, slope: float) -> Tensor:
        scores = left.index_select(0, edges.src).add_(right.index_select(0, edges.dst))
        alpha = edge_softmax(torch.nn.functional.leaky_relu(scores, slope), edges)
        ctx.save_for_backward(z, alpha, scores >= 0)
        ctx.edges, ctx.keep, ctx.slope = edges, keep, slope
        return _gather(edges, alpha if keep is None else alpha * keep, z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        z, alpha, rising = ctx.saved_tensors
        edges, keep, gradient = ctx.edges, ctx.keep, gradients[0].contiguous()
        d_z = _gather_back(edges, alpha if keep is None else alpha * keep, gradient)
        d_alpha = _edge_products(edges, gradient, z)
        pull = alpha * (d_alpha if keep is None else d_alpha.mul_(keep))
        d_scores = pull - alpha * segment_sum(pull, edges.indptr).index_select(0, edges.dst)
        d_scores = torch.where(rising, d_scores, d_scores * ctx.slope)
        d_left = segment_sum(d_scores.index_select(0, edges.order_t), edges.indptr_t)
        return d_z, d_left, segment_sum(d_scores, edges.indptr), None, None, None
