"""The only file that speaks to torch.distributed; on one process every function here is the identity."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them."""
    return dist.get_rank() if ranks() > 1 else 0


def gather_rows(rows: Tensor) -> Tensor:
    """All ranks' rows, (M, ...) each, concatenated in rank order, with gradient; ranks may hold different numbers of rows.

    Backward: the sum over ranks of the gradients that reach this rank's rows. When every rank takes the loss of the whole gathered
    batch, and gradients are averaged over ranks, the result is exactly that of one process with all rows.
    """
    return rows if ranks() == 1 else _GatherRows.apply(rows)


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a tensor over ranks, with gradient (backward: sum of the gradients over ranks)."""
    return value if ranks() == 1 else _SumOverRanks.apply(value)


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over ranks, without gradient."""
    return value.detach() if ranks() == 1 else _all_reduced(value) / ranks()


def any_rank(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether any rank says True."""
    return flag if ranks() == 1 else bool(_all_reduced(torch.tensor(float(flag), device=device)) > 0)


def _all_reduced(value: Tensor) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _all_reduced(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all_reduced(gradients[0])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(ranks())]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        ctx.counts = [int(count) for count in counts]
        longest = max(ctx.counts)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in ctx.counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = _all_reduced(gradients[0])
        start = sum(ctx.counts[: rank()])
        return total[start : start + ctx.counts[rank()]]
