"""MYOW on activity of your own neurons: bins with the trial that each is of. Here the neurons are made up, and have preferred directions.

python examples/timeseries/myow.py
"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import anyview
from anyview_timeseries.recipes.myow import myow
from anyview_timeseries.series import SeriesSource


def make_reaches(trials: int = 80, bins: int = 12, neurons: int = 60) -> SeriesSource:
    """Rates of neurons whose preferred direction is the trial's, more or less, in the middle of a reach."""
    random = torch.Generator().manual_seed(0)
    direction = torch.randint(8, (trials,), generator=random).repeat_interleave(bins)
    strength = torch.sin(math.pi * (torch.arange(bins) + 0.5) / bins).repeat(trials)
    preferred = 2 * math.pi * torch.rand(neurons, generator=random)
    rates = strength[:, None] * torch.cos(direction[:, None] * math.pi / 4 - preferred) + 1
    rates = rates + torch.randn(rates.shape, generator=random)
    z_scored = (rates - rates.mean(0)) / rates.std(0)
    return SeriesSource(z_scored[..., None], direction, groups={"trial": torch.arange(trials).repeat_interleave(bins)}, name="reaches")


def main() -> None:
    """Train, and tell the direction of a reach by a linear layer, beside the raw rates and the untrained encoder."""
    recipe = myow(make_reaches(), epochs=150, hidden=64, dim=64, candidates=256)
    with TemporaryDirectory() as folder:
        run = anyview.pretrain(recipe, Path(folder) / "run")
        for result in run.evaluate(["reach_angle"], seeds=3):
            for name in result.values:
                print(f"{name:25} {result.mean(name):.3f}")


if __name__ == "__main__":
    main()
