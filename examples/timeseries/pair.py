"""Two augmented views of each window, and an objective of your choice: here BYOL on a transformer over patches of time.

python examples/timeseries/pair.py
"""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import anyview
from anyview.objectives.byol import BYOL
from anyview_timeseries.datasets import open_series
from anyview_timeseries.encoders import PatchTransformer
from anyview_timeseries.recipes.pair import pair


def main() -> None:
    """Train, evaluate."""
    recipe = pair(
        open_series("chirps", scale="window"),
        encoder=functools.partial(PatchTransformer, patch=8, dim=64, depth=2, heads=4),
        objective=functools.partial(BYOL, hidden=128, width=64),
        augmentation="motion",
        second="weak",
        batch_size=120,
        epochs=30,
    )
    with TemporaryDirectory() as folder:
        run = anyview.pretrain(recipe, Path(folder) / "run")
        for result in run.evaluate(["logistic"], seeds=3):
            for name in result.values:
                print(f"{name:25} {result.mean(name):.3f}")


if __name__ == "__main__":
    main()
