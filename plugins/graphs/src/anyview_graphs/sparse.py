"""Features with few non-zeros: rows, products and dropout that only touch what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anyview.sparse import csr_product
from anyview_graphs import dropout

HALVES = (torch.float16, torch.bfloat16)
SPARSE_BELOW = 0.10
"""Share of non-zeros under which sparse products are faster than dense ones."""


@dataclass(slots=True)
class NodeRows:
    """What the first layer of an encoder reads: every node's features, some of them behind a mask token.

    x: (R, F) dense or CSR, without gradient. rows: (N,) which row of x each node shows, None = its own.
    tokens: (T,) nodes that show the token instead, None = none. token: (1, F), with gradient.
    """

    x: Tensor
    rows: Tensor | None = None
    tokens: Tensor | None = None
    token: Tensor | None = None

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.x.shape[0] if self.rows is None else self.rows.numel()

    def dense(self) -> Tensor:
        """(N, F) the features as shown, with the token's gradient: the plain form."""
        shown = self.x.to_dense() if self.x.is_sparse_csr else self.x
        shown = shown if self.rows is None else shown[self.rows]
        if self.tokens is None or self.token is None:
            return shown
        return shown.index_copy(0, self.tokens, self.token.expand(self.tokens.numel(), -1))


def sparse_if_worthwhile(x: Tensor) -> Tensor:
    """(N, F) features as CSR when fewer than 10 % differ from zero, else dense.

    >>> sparse_if_worthwhile(torch.eye(20)).layout, sparse_if_worthwhile(torch.ones(20, 20)).layout
    (torch.sparse_csr, torch.strided)
    """
    if x.is_sparse_csr:
        return x
    return x.to_sparse_csr() if x.numel() and int(x.count_nonzero()) < SPARSE_BELOW * x.numel() else x


def select_rows(x: Tensor, rows: Tensor) -> Tensor:
    """(n, F) the given rows of a dense or CSR matrix, in the same layout; rows: (n,), repeats allowed."""
    if not x.is_sparse_csr:
        return x.index_select(0, rows)
    start = x.crow_indices()
    return _gathered(x, start.index_select(0, rows), start.diff().index_select(0, rows))


def transposed(matrix: Tensor) -> Tensor:
    """The transpose of a CSR matrix, as CSR."""
    columns = matrix.col_indices()
    order = columns.argsort(stable=True)
    rows = torch.repeat_interleave(matrix.crow_indices().diff(), output_size=columns.numel())
    counts = torch.bincount(columns, minlength=matrix.shape[1])
    return csr(_starts(counts), rows.index_select(0, order), matrix.values().index_select(0, order), (matrix.shape[1], matrix.shape[0]))


def csr(indptr: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A torch CSR tensor from its parts, unchecked."""
    return torch.sparse_csr_tensor(indptr, columns, values, shape, check_invariants=False)


def full_precision(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    """function.apply(*inputs) outside autocast, with half-precision tensors as float32: sparse kernels know nothing less."""
    device = next(value.device.type for value in inputs if isinstance(value, Tensor))
    with torch.autocast(device, enabled=False):
        return function.apply(*(value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value for value in inputs))


def sparse_linear(matrix: Tensor, weight: Tensor) -> Tensor:
    """matrix (n, F) CSR or dense, without gradient, times weight (F, D) with gradient."""
    return full_precision(_SparseLinear, matrix, weight) if matrix.is_sparse_csr else matrix @ weight


def token_linear(token: Tensor, weight: Tensor, keep: Tensor, scale: float) -> Tensor:
    """Rows of a token under dropout times a weight: scale · (keep ∘ token) weight, (T, D).

    token: (1, F). weight: (F, D). keep: (T, F) of zeros and ones. One product P = keep' dY gives both gradients:
    d weight = scale · token' ∘ P and d token = scale · row sums of P ∘ weight.
    """
    return full_precision(_TokenLinear, token, weight, keep, scale)


def masked_linear(nodes: NodeRows, weight: Tensor, rate: float) -> Tensor:
    """dropout(features as shown) times weight (F, D), (N, D), without forming the (N, F) features.

    Sparse rows stay sparse, and dropout touches their non-zeros only; rows that show the token are multiplied densely, each under its
    own dropout, and as one row when rate is 0.
    """
    visible, at = _visible(nodes)
    shown = sparse_linear(_dropped(visible, rate), weight)
    if at is not None:
        shown = shown.new_zeros(nodes.num_nodes, weight.shape[1]).index_copy_(0, at, shown)
    if nodes.tokens is None or nodes.token is None:
        return shown
    return shown.index_add_(0, nodes.tokens, _token_rows(nodes.token, nodes.tokens.numel(), weight, rate).to(shown.dtype))


def _visible(nodes: NodeRows) -> tuple[Tensor, Tensor | None]:
    """The rows that show features, and where they stand; sparse matrices keep all N rows and leave the token's empty."""
    if nodes.tokens is None:
        return (nodes.x if nodes.rows is None else select_rows(nodes.x, nodes.rows)), None
    rows = torch.arange(nodes.num_nodes, device=nodes.x.device) if nodes.rows is None else nodes.rows
    if nodes.x.is_sparse_csr:
        start = nodes.x.crow_indices()
        lengths = start.diff().index_select(0, rows).index_fill_(0, nodes.tokens, 0)
        return _gathered(nodes.x, start.index_select(0, rows), lengths), None
    shows = torch.ones(nodes.num_nodes, dtype=torch.bool, device=nodes.x.device).index_fill_(0, nodes.tokens, False)
    at = shows.nonzero().flatten()
    return nodes.x.index_select(0, rows.index_select(0, at)), at


def _dropped(matrix: Tensor, rate: float) -> Tensor:
    if not matrix.is_sparse_csr:
        return dropout.dropped(matrix, rate)
    values = dropout.dropped(matrix.values(), rate)
    return csr(matrix.crow_indices(), matrix.col_indices(), values, (matrix.shape[0], matrix.shape[1]))


def _token_rows(token: Tensor, count: int, weight: Tensor, rate: float) -> Tensor:
    if rate == 0.0:
        return (token @ weight).expand(count, -1)
    keep, scale = dropout.keep_mask((count, weight.shape[0]), rate, weight)
    return token_linear(token, weight, keep, scale)


def _gathered(x: Tensor, start: Tensor, lengths: Tensor) -> Tensor:
    """CSR matrix of the stretches start .. start + lengths of x's entries, one per row."""
    indptr = _starts(lengths)
    total = int(indptr[-1])
    entries = torch.repeat_interleave(start - indptr[:-1], lengths, output_size=total) + torch.arange(total, device=start.device)
    columns, values = x.col_indices().index_select(0, entries), x.values().index_select(0, entries)
    return csr(indptr, columns, values, (lengths.numel(), x.shape[1]))


def _starts(lengths: Tensor) -> Tensor:
    indptr = torch.zeros(lengths.numel() + 1, dtype=torch.long, device=lengths.device)
    torch.cumsum(lengths, 0, out=indptr[1:])
    return indptr


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, weight: Tensor) -> Tensor:
        ctx.matrix = matrix
        return csr_product(matrix, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, csr_product(transposed(ctx.matrix), gradients[0])


class _TokenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor, weight: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(token, weight, keep)
        ctx.scale = scale
        return keep @ (weight * (scale * token.t()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        token, weight, keep = ctx.saved_tensors
        shared = keep.t() @ gradients[0]
        d_token = (shared * weight).sum(1).mul_(ctx.scale).unsqueeze(0)
        return d_token, shared.mul_(ctx.scale * token.t()), None, None
