"""Frame projections: pre-train without augmentation on windows of your own, embed them, and score them beside their controls.

    python examples/timeseries/frame_projections.py

Takes a minute on the embedded set of chirps. Any other data is a path ("gym.npz") or a tensor (N, C, T) in place of `source`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import anyview
from anyview_timeseries.datasets import open_series
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.recipes.frame_projections import frame_projections


def main() -> None:
    """Train, embed, evaluate."""
    source = open_series("chirps", scale="window")
    recipe = frame_projections(
        source,
        frames=("fourier", "morlet"),
        frame_options={"morlet": {"scales": "fit", "pool": 4}},
        encoder=functools.partial(ResNet1d, width=16, stride=2, dropout=0.0),
        frame_width=4,
        cache=True,
        epochs=20,
        batch_size=120,
    )
    with TemporaryDirectory() as folder:
        run = anyview.pretrain(recipe, Path(folder) / "run")
        rows = run.embed()
        own = run.embedder.own  # what the time encoder says, without the mappers
        print(f"{rows.shape[0]} windows, {rows.shape[1]} numbers each, of which {own.start} to {own.stop - 1} are the time encoder's own")
        for result in run.evaluate(["logistic"], seeds=3):
            for name in result.values:
                print(f"{name:25} {result.mean(name):.3f}")


if __name__ == "__main__":
    main()
