"""TS-TCC on windows of your own, and how far the same encoder is without it.

python examples/timeseries/ts_tcc.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import anyview
from anyview_timeseries.datasets import open_series
from anyview_timeseries.recipes.ts_tcc import ts_tcc


def main() -> None:
    """Train, and score beside the controls."""
    source = open_series("chirps", scale="window")  # or a path, or an array (windows, channels, time steps)
    recipe = ts_tcc(source, dim=64, epochs=15, lr=1e-3)
    with TemporaryDirectory() as folder:
        run = anyview.pretrain(recipe, Path(folder) / "run")
        for result in run.evaluate(["logistic"], seeds=3):
            for name in result.values:
                print(f"{name:25} {result.mean(name):.3f}")


if __name__ == "__main__":
    main()
