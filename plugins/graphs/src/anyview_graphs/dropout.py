"""Dropout from sixteen random bits per number: the draws, not the products, are what dropout costs on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anyview.errors import UserError

LEVELS = 1 << 16


def check_rate(name: str, rate: float) -> float:
    """The rate itself; raises UserError unless 0 <= rate < 1."""
    if not 0.0 <= rate < 1.0:
        raise UserError(f"{name} must lie in [0, 1), {rate} was given; choose a rate such as 0.2")
    return rate


def keep_mask(shape: Sequence[int], rate: float, like: Tensor) -> tuple[Tensor, float]:
    """Independent draws of 1 (keep) and 0 (drop) in the type and on the device of `like`, and the factor that keeps the mean.

    The rate is rounded to a multiple of 2^-16, and the factor belongs to the rounded rate: the expectation is exact.

    >>> keep, scale = keep_mask((1000, 100), 0.2, torch.zeros(1))
    >>> bool((keep * scale).mean().sub(1).abs() < 0.01), round(scale, 3)
    (True, 1.25)
    """
    dropped = min(round(rate * LEVELS), LEVELS - 1)
    keep = torch.empty(*shape, dtype=like.dtype, device=like.device)
    bits = torch.empty(-(-keep.numel() // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    torch.ge(bits.view(torch.int16)[: keep.numel()].view(keep.shape), dropped - LEVELS // 2, out=keep)
    return keep, LEVELS / (LEVELS - dropped)


def dropped(x: Tensor, rate: float) -> Tensor:
    """x with each element zeroed at the given rate, the others scaled by 1 / (1 - rate)."""
    if rate == 0.0:
        return x
    keep, scale = keep_mask(x.shape, rate, x)
    return x * keep.mul_(scale)
