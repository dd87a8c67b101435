"""What contrastive losses share: unit rows, log-sum-exp over products of rows, and InfoNCE.

InfoNCE: van den Oord, Li, Vinyals. Representation Learning with Contrastive Predictive Coding. 2018, arXiv 1807.03748.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.linalg import vector_norm
from torch.utils.checkpoint import checkpoint

from anyview.objectives.gram import full, full_products, products_are_full

BLOCK = 2**25
"""The most numbers of a matrix of products that are kept at once (128 MiB of float32); beyond it the matrix is made in blocks, twice."""


def unit(rows: Tensor, length: float = 1.0) -> Tensor:
    """Rows (M, D) scaled to one length, in float32 or float64; a row of zeros stays what it is.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), length=10.0).tolist()
    [[6.0, 8.0], [0.0, 0.0]]
    """
    rows = full(rows)
    lengths: Tensor = vector_norm(rows, dim=1, keepdim=True)
    return rows * (length / lengths.clamp_min(1e-12))


def require_others(rows: int, name: str) -> None:
    """Raise ValueError when a batch of `rows` samples leaves nothing to contrast with."""
    if rows < 2:
        raise ValueError(f"{name} compares a sample with others and needs at least two rows, found {rows}; make the batch larger")


def log_sum_exp(queries: Tensor, keys: Tensor, apart: Sequence[int] = ()) -> Tensor:
    """For each query i the log of the sum over keys k of exp(queries_i · keys_k): (M, D) and (N, D) to (M,), with gradient to both.

    apart: diagonals k - i of the (M, N) matrix that are left out of the sums; every query must keep a key. One M x N matrix is all that is
    made, in place; of one with more than BLOCK numbers, a block of rows at a time.

    >>> log_sum_exp(torch.zeros(3, 2), torch.zeros(3, 2), apart=[0]).exp()
    tensor([2., 2., 2.])
    """
    return cross_entropy(queries, keys, targets=(), apart=apart)


def cross_entropy(queries: Tensor, keys: Tensor, targets: Sequence[int], apart: Sequence[int] = ()) -> Tensor:
    """`log_sum_exp` less the products on the diagonals `targets`, (M,): how hard it is to tell by a query which key is its own.

    Each query has one target or none, and it is not left out.

    >>> cross_entropy(torch.zeros(3, 2), torch.zeros(3, 2), targets=[0]).exp().round(decimals=4)
    tensor([3., 3., 3.])
    """
    losses: Tensor = _CrossEntropy.apply(full(queries), full(keys), tuple(targets), tuple(apart))
    return losses


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding key i among all keys by query i, by their cosines over the temperature; a mean over queries.

    queries, keys: (M, D), row i of both from the same sample, on any scale; gradient goes to both. All rows equal gives log M. Raises
    ValueError for a single row, which has no other to be told from.

    >>> round(float(info_nce(torch.ones(8, 4), torch.ones(8, 4), 0.2).exp()), 3)
    8.0
    """
    require_others(len(queries), "InfoNCE")
    queries, keys = unit(queries, 1 / temperature), unit(keys)
    places = torch.arange(len(queries), device=queries.device)

    def losses(own: slice) -> Tensor:
        return nn.functional.cross_entropy(products(part(queries, own), keys), part(places, own), reduction="none")

    return in_blocks(losses, len(queries), len(keys)).mean()


def blocks(rows: int, columns: int) -> list[slice]:
    """Consecutive slices of `rows` rows, at least one, each with at most BLOCK numbers when a row has `columns`."""
    length = max(1, BLOCK // max(1, columns))
    return [slice(start, min(start + length, rows)) for start in range(0, max(1, rows), length)]


def part(rows: Tensor, own: slice) -> Tensor:
    """The rows `own`; where that is all of them, the tensor itself, whose gradient is then not copied into one of zeros."""
    return rows if own.stop - own.start == len(rows) else rows[own]


def in_blocks(losses: Callable[[slice], Tensor], rows: int, columns: int) -> Tensor:
    """The losses of all rows, (rows,), which `losses` makes for a slice of them from a matrix with `columns` columns.

    Of several slices, each one's matrix is made again in the backward pass and not kept until then.

    >>> in_blocks(lambda own: torch.arange(5)[own], rows=5, columns=100).tolist()
    [0, 1, 2, 3, 4]
    """
    parts = blocks(rows, columns)
    if len(parts) == 1:
        return losses(parts[0])
    return torch.cat([checkpoint(losses, own, use_reentrant=False, preserve_rng_state=False) for own in parts])


def products(a: Tensor, b: Tensor) -> Tensor:
    """ABᵀ, (M, D) and (N, D) to (M, N), in full precision also where autocast is on and also in the backward pass.

    >>> products(torch.eye(2), torch.ones(3, 2)).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    a, b = full(a), full(b)
    if products_are_full(a.device):
        return a @ b.T
    made: Tensor = _Products.apply(a, b)
    return made


class _Products(torch.autograd.Function):
    """Autograd's own backward would multiply under no autocast, but in whatever precision is set."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with full_products(a.device):
            return a @ b.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        with full_products(a.device):
            return gradients[0] @ b if of_a else None, gradients[0].T @ a if of_b else None


class _CrossEntropy(torch.autograd.Function):
    """The logits' matrix is turned in place into its own gradient, row by row up to a factor, and kept where it fits one block.

    With e = exp(logits - shift) and r its row sums, the gradient of a row of losses is e / r, less 1 at the target: (e less r there) / r.
    Where there are several blocks, each is made again in the backward pass, with the log-sum-exp as shift and r = 1.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, targets: tuple[int, ...], apart: tuple[int, ...]) -> Tensor:
        parts = blocks(len(queries), len(keys))
        losses, shifts, kept = [], [], []
        for own in parts:
            logits = _logits(queries, keys, own, apart)
            at_target = _on_diagonals(logits, own, targets)
            largest = logits.amax(1)
            sums = logits.sub_(largest[:, None]).exp_().sum(1)
            shifts.append(largest + sums.log())
            losses.append(shifts[-1] - at_target)
            kept = [_less_at(logits, own, targets, sums), sums] if len(parts) == 1 else []
        ctx.parts, ctx.targets, ctx.apart = parts, targets, apart
        ctx.save_for_backward(queries, keys, torch.cat(shifts), *kept)
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, shifts, *kept = ctx.saved_tensors
        of_queries, of_keys, *_ = ctx.needs_input_grad
        to_queries = torch.empty_like(queries) if of_queries else None
        to_keys = torch.empty_like(keys) if of_keys else None
        for own in ctx.parts:
            if kept:
                slopes, scale = kept[0], gradients[0] / kept[1]
            else:
                made = _logits(queries, keys, own, ctx.apart).sub_(shifts[own, None]).exp_()
                slopes, scale = _less_at(made, own, ctx.targets, torch.ones_like(shifts[own])), gradients[0][own]
            with full_products(queries.device):
                if to_queries is not None:
                    torch.mm(slopes, keys, out=to_queries[own]).mul_(scale[:, None])
                if to_keys is not None:
                    to_keys.addmm_(slopes.T, queries[own] * scale[:, None], beta=0 if own.start == 0 else 1)
        return to_queries, to_keys, None, None


def _logits(queries: Tensor, keys: Tensor, own: slice, apart: tuple[int, ...]) -> Tensor:
    """The rows `own` of the matrix of products, -inf on the diagonals `apart`."""
    with full_products(queries.device):
        logits = queries[own] @ keys.T
    for offset in apart:
        logits.diagonal(offset + own.start).fill_(-torch.inf)
    return logits


def _on_diagonals(matrix: Tensor, own: slice, offsets: tuple[int, ...]) -> Tensor:
    """For each of the rows `own` what stands on the diagonals, 0 for rows that have none: (m,)."""
    found = matrix.new_zeros(len(matrix))
    for offset in offsets:
        diagonal = matrix.diagonal(offset + own.start)
        found[_rows(offset + own.start, diagonal)] = diagonal
    return found


def _less_at(matrix: Tensor, own: slice, offsets: tuple[int, ...], amounts: Tensor) -> Tensor:
    """The same matrix, less each row's amount where it stands on the diagonals."""
    for offset in offsets:
        diagonal = matrix.diagonal(offset + own.start)
        diagonal.sub_(amounts[_rows(offset + own.start, diagonal)])
    return matrix


def _rows(offset: int, diagonal: Tensor) -> slice:
    """Which rows a diagonal runs through."""
    return slice(max(0, -offset), max(0, -offset) + len(diagonal))
