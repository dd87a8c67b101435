"""What a series may look like when it was measured on another day or by another sensor, at five severities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyview.data.shifts import NOISE, SCALE, Shift

DRIFT = (0.1, 0.2, 0.4, 0.7, 1.0)
GAP = (0.05, 0.1, 0.2, 0.3, 0.5)


def noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise on x (N, C, T), its standard deviation a tenth (severity 1) to once (severity 5) that of each window and channel."""
    return x + NOISE[severity - 1] * _spread(x) * torch.randn(x.shape, generator=generator)


def gain(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Every window of x (N, C, T) times a gain of its own, between 1 / g and g with g from 1.1 (severity 1) to 3 (severity 5)."""
    return x * SCALE[severity - 1] ** (2 * torch.rand((len(x), 1, 1), generator=generator) - 1)


def drift(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Half a slow wave, of random phase, on every channel of x (N, C, T), a tenth (severity 1) to once (severity 5) its deviation high."""
    time = torch.linspace(0, math.pi, x.shape[2])
    phase = 2 * math.pi * torch.rand((*x.shape[:2], 1), generator=generator)
    return x + DRIFT[severity - 1] * _spread(x) * torch.sin(time + phase)


def gap(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """One run of every window of x (N, C, T) held at its channel's mean, a twentieth (severity 1) to half (severity 5) of it long."""
    steps = max(1, round(GAP[severity - 1] * x.shape[2]))
    start = torch.randint(0, x.shape[2] - steps + 1, (len(x), 1, 1), generator=generator)
    time = torch.arange(x.shape[2])
    return torch.where((time >= start) & (time < start + steps), x.nanmean(2, keepdim=True), x)


def _spread(x: Tensor) -> Tensor:
    """Standard deviation of every window's channels over the time steps that are there, (N, C, 1)."""
    return (x - x.nanmean(2, keepdim=True)).square().nanmean(2, keepdim=True).sqrt()


SHIFTS: dict[str, Shift] = {"noise": noise, "gain": gain, "drift": drift, "gap": gap}
