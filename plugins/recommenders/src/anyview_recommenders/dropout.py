"""Dropout of what a graph convolution passes on, by a seed that comes with a view, so that it is equal on all ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anyview.views.draws import Draws, derive_seed
from anyview.views.view import View


def message_dropout(rows: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Rows (N, D), of which a random share `rate` of the numbers is 0 and the rest larger by 1 / (1 - rate); all stay without a generator.

    >>> message_dropout(torch.ones(1, 2), 0.5, None).tolist()
    [[1.0, 1.0]]
    """
    if generator is None or not rate:
        return rows
    keep = torch.rand(rows.shape, generator=generator, device=rows.device) >= rate
    return rows * keep / (1 - rate)


def seeded(view: View, device: torch.device) -> torch.Generator | None:
    """The generator of a view's dropout; None where it has no seed."""
    return torch.Generator(device).manual_seed(view.data["seed"]) if "seed" in view.data else None


def dropping(draws: Draws, number: int = 0) -> dict[str, Any]:
    """What a view's data needs for dropout, equal on all ranks; views of one step take different numbers."""
    return {"seed": derive_seed(draws.generator.initial_seed(), "dropout", number)}
