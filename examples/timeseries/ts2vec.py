"""TS2Vec: a representation of every step of series with missing values, of whole series, and of each step when only its past is known.

python examples/timeseries/ts2vec.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import anyview
from anyview.views.view import View
from anyview_timeseries.datasets import open_series
from anyview_timeseries.dilated_convolution import sliding_tokens
from anyview_timeseries.recipes.ts2vec import ts2vec


def main() -> None:
    """Train on windows with gaps, and embed them in three ways."""
    windows = open_series("chirps", scale="window").windows.clone()
    windows[::5, :, 40:60] = torch.nan  # a sensor that failed: such steps are hidden, not guessed
    source = open_series(windows, missing="mask")
    recipe = ts2vec(source, hidden=32, dim=64, depth=6, iterations=100)
    with TemporaryDirectory() as folder:
        run = anyview.pretrain(recipe, Path(folder) / "run")
        print(f"a row for each series: {run.embed().shape}")
    encoder = run.embedder.eval()
    with torch.no_grad():
        print(f"a row for each step: {tuple(encoder(View(windows)).tokens.shape)}")
    print(f"the same, knowing 20 steps before it and none after: {tuple(sliding_tokens(encoder, windows[:4], past=20).shape)}")


if __name__ == "__main__":
    main()
