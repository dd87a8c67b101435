"""TF-C with an encoder of your choice for the window and for its spectrum.

python examples/timeseries/tf_c.py
"""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import anyview
from anyview_timeseries.datasets import open_series
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.recipes.tf_c import tf_c
from anyview_timeseries.time_frequency import TimeFrequencyConsistency


def main() -> None:
    """Train with the paper's consistency term, which the published code leaves out, and score beside the controls."""
    source = open_series("chirps", scale="window")
    recipe = tf_c(
        source,
        encoder=functools.partial(ResNet1d, dim=64, width=16, blocks=4, dropout=0.0, stride=2),
        objective=functools.partial(TimeFrequencyConsistency, triplet=0.1),
        epochs=15,
        lr=1e-3,
    )
    with TemporaryDirectory() as folder:
        run = anyview.pretrain(recipe, Path(folder) / "run")
        print(f"an embedding: {recipe.stages[0].encoder.dim} numbers of the window, as many of its spectrum")
        for result in run.evaluate(["logistic"], seeds=3):
            for name in result.values:
                print(f"{name:25} {result.mean(name):.3f}")


if __name__ == "__main__":
    main()
