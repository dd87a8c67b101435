"""Shifts of rows: what a table may look like when it was measured on another day, at five severities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from anyview.errors import UserError

Shift = Callable[[Tensor, int, torch.Generator], Tensor]
"""(samples (N, ...), severity 1 to 5, generator) -> samples of the same shape."""

NOISE = (0.1, 0.2, 0.4, 0.7, 1.0)
SCALE = (1.1, 1.25, 1.5, 2.0, 3.0)


def noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise on x (N, ...), its standard deviation a tenth (severity 1) to once (severity 5) that of each column.

    >>> shifted = noise(torch.arange(4.0)[:, None], 1, torch.Generator().manual_seed(0))
    >>> bool((shifted - torch.arange(4.0)[:, None]).abs().max() < 1)
    True
    """
    spread = x.std(0, correction=0, keepdim=True)
    return x + NOISE[severity - 1] * spread * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def scale(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Every sample of x (N, ...) times a gain of its own, between 1 / g and g with g from 1.1 (severity 1) to 3 (severity 5).

    >>> scale(torch.ones(1000, 1), 5, torch.Generator().manual_seed(0)).log().abs().max() < torch.tensor(3.0).log()
    tensor(True)
    """
    exponent = 2 * torch.rand((len(x), *[1] * (x.ndim - 1)), generator=generator, dtype=x.dtype) - 1
    return x * SCALE[severity - 1] ** exponent


ROW_SHIFTS: dict[str, Shift] = {"noise": noise, "scale": scale}


def shifted(x: Tensor, shifts: Mapping[str, Shift], name: str, severity: int, seed: int) -> Tensor:
    """x (N, ...) after the shift `name` of `shifts`, drawn from `seed` alone; raises UserError for a severity that there is not."""
    if severity not in range(1, 6):
        raise UserError(f"shifts have the severities 1 to 5, and {severity} was asked for")
    return shifts[name](x, severity, torch.Generator().manual_seed(seed))
