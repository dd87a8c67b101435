"""MiniRocket and ridge regression: the classical method that most published encoders do not beat."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from torch import Tensor

from anyview.errors import MissingDependencyError

ALPHAS = np.logspace(-3, 3, 10)
SHORTEST = 9
"""Steps that MiniRocket's kernels need."""


def minirocket(windows: np.ndarray, train: Tensor, labels: np.ndarray, seed: int) -> np.ndarray:
    """Classes (N,) of windows (N, C, T) by a ridge classifier on MiniRocket's features.

    Dempster, Schmidt, Webb. MiniRocket. KDD 2021, arXiv 2012.08791. train: (n,) the rows to learn from; labels: (n,) their classes. Series
    shorter than 9 steps are padded with zeros. Raises MissingDependencyError without aeon.
    """
    transformer = _transformer(seed)
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.nan_to_num(windows.astype(np.float32))
    if x.shape[2] < SHORTEST:
        x = np.pad(x, ((0, 0), (0, 0), (0, SHORTEST - x.shape[2])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(transformer, StandardScaler(with_mean=False), RidgeClassifierCV(alphas=ALPHAS))
        return model.fit(x[train.numpy()], labels).predict(x)


def _transformer(seed: int) -> Any:
    try:
        from aeon.transformations.collection.convolution_based import MiniRocket
    except ImportError as error:
        sentence = "MiniRocket needs the package 'aeon', which is not installed; pip install 'anyview[minirocket]'"
        raise MissingDependencyError(sentence) from error
    return MiniRocket(random_state=seed, n_jobs=1)
