"""Where tokens lie: coordinates on a grid of any number of axes, and the codes that a transformer reads them from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from anyview.errors import UserError


def grid_coordinates(grid: Sequence[int], *, like: Tensor | None = None) -> Tensor:
    """The centres of a grid's cells, (N, C), 0 to 1 along each of C axes, the last axis running fastest.

    grid: cells along each axis. like: a tensor whose device is taken, and whose type where that is finer than float32.

    >>> grid_coordinates((1, 2)).tolist()
    [[0.5, 0.25], [0.5, 0.75]]
    """
    device = None if like is None else like.device
    dtype = torch.float32 if like is None else torch.promote_types(torch.float32, like.dtype)
    axes = [(torch.arange(cells, device=device, dtype=dtype) + 0.5) / cells for cells in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def position_code(coordinates: Tensor, dim: int, turns: float = 16.0) -> Tensor:
    """Sines and cosines of coordinates, (..., C) to (..., dim): a fixed code for any place, on a grid or between its cells.

    Each axis gets the same share of `dim`, in waves of half a turn (by which any two places differ) to `turns` turns along the axis, in
    geometric steps; what `dim` holds beyond 2C numbers per wave is zero. Raises UserError when dim is below 2C.

    >>> position_code(torch.tensor([[0.0], [0.5], [1.0]]), 2).round(decimals=3).tolist()
    [[0.0, 1.0], [1.0, -0.0], [-0.0, -1.0]]
    """
    axes = coordinates.shape[-1]
    waves = dim // (2 * axes)
    if waves < 1:
        raise UserError(f"places on {axes} axes need a code of at least {2 * axes} numbers, and the width is {dim}; make it larger")
    coordinates = coordinates.to(torch.promote_types(torch.float32, coordinates.dtype))
    steps = torch.arange(waves, device=coordinates.device, dtype=coordinates.dtype) / max(1, waves - 1)
    angles = coordinates[..., None] * (math.pi * (2 * turns) ** steps)
    code = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return pad(code, (0, dim - code.shape[-1]))
