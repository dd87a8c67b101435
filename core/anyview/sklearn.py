"""A recipe as a scikit-learn transformer: fit pre-trains on rows, transform embeds them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from anyview.data.arrays import ArraySource
from anyview.evaluation.embedding import embed
from anyview.run import build
from anyview.training import pretrain


class SelfSupervised(TransformerMixin, BaseEstimator):
    """Pre-trains a row-wise recipe in `fit`, without labels, and embeds rows in `transform`.

    recipe: a recipe's name. parameters: values for its parameters, without `data`. seed: decides everything. out: folder to keep the run
    in; None keeps nothing. overwrite: let a second fit replace the run in `out`. After fitting, `encoder_` is the embedder and
    `n_features_in_` the number of columns.

    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.linear_model import LogisticRegression
    >>> ssl = SelfSupervised("core/pair", parameters={"epochs": 1, "hidden": 32, "dim": 8})
    >>> pipeline = Pipeline([("ssl", ssl), ("clf", LogisticRegression())])
    >>> pipeline.fit(np.random.rand(64, 5), np.arange(64) % 2).predict(np.zeros((3, 5))).shape
    (3,)
    """

    def __init__(
        self,
        recipe: str = "core/pair",
        *,
        parameters: Mapping[str, Any] | None = None,
        seed: int = 0,
        out: str | Path | None = None,
        overwrite: bool = False,
    ) -> None:
        self.recipe = recipe
        self.parameters = parameters
        self.seed = seed
        self.out = out
        self.overwrite = overwrite

    def fit(self, X: Any, y: Any = None) -> Self:
        """Pre-train on rows X (N, F); y is not looked at."""
        rows = check_array(X, dtype=np.float32)
        source = ArraySource(rows, name="rows given to fit")
        recipe = build(self.recipe, {**(self.parameters or {}), "data": source}, seed=self.seed)
        if self.out is None:
            with tempfile.TemporaryDirectory() as folder:
                pretrain(recipe, folder, seed=self.seed)
        else:
            pretrain(recipe, self.out, seed=self.seed, overwrite=self.overwrite)
        self.encoder_ = recipe.embedder
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Rows X (N, F) as embeddings (N, D), in the same order."""
        check_is_fitted(self, "encoder_")
        rows = check_array(X, dtype=np.float32)
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {rows.shape[1]} features, but SelfSupervised was fitted on {self.n_features_in_}")
        return embed(self.encoder_, ArraySource(rows, name="rows given to transform"))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the embedding's columns."""
        check_is_fitted(self, "encoder_")
        return np.asarray([f"selfsupervised{column}" for column in range(self.encoder_.dim)], dtype=object)
