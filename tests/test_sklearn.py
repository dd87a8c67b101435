"""A recipe as a scikit-learn transformer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline

from anyview.sklearn import SelfSupervised

QUICK = {"epochs": 2, "hidden": 32, "dim": 16}


def test_it_stands_in_a_pipeline() -> None:
    x, y = load_digits(return_X_y=True)
    pipeline = Pipeline([("ssl", SelfSupervised("core/pair", parameters=QUICK)), ("clf", LogisticRegression(max_iter=500))])
    assert pipeline.fit(x[:600] / 16, y[:600]).score(x[600:900] / 16, y[600:900]) > 0.5
    assert cross_val_score(clone(pipeline), x[:120] / 16, y[:120], cv=2).shape == (2,)


def test_a_seed_repeats_and_order_is_kept() -> None:
    x = np.random.default_rng(0).normal(size=(64, 6))
    first, again = (SelfSupervised("core/pair", parameters=QUICK, seed=3).fit(x) for _ in range(2))
    assert np.array_equal(first.transform(x), again.transform(x))
    np.testing.assert_allclose(first.transform(x[::-1]), first.transform(x)[::-1], atol=1e-6)
    assert first.get_feature_names_out().shape == (16,)


def test_the_run_is_kept_on_request(tmp_path: Path) -> None:
    SelfSupervised("core/pair", parameters=QUICK, out=tmp_path / "run").fit(np.random.default_rng(0).normal(size=(64, 6)))
    assert (tmp_path / "run" / "encoder.safetensors").is_file()


def test_mistakes() -> None:
    fitted = SelfSupervised("core/pair", parameters=QUICK).fit(np.random.default_rng(0).normal(size=(64, 6)))
    with pytest.raises(ValueError, match="X has 5 features, but SelfSupervised was fitted on 6"):
        fitted.transform(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(np.full((4, 2), np.nan))
