"""The data sets that are at hand: what is in them, and that classical recommenders score on them as they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anyview.errors import UserError
from anyview_recommenders.baselines.item_knn import item_knn
from anyview_recommenders.baselines.popularity import popularity
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.evaluations import score_part
from anyview_recommenders.source import InteractionSource


@pytest.fixture(autouse=True)
def _root(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))


def opened(name: str, **options: Any) -> InteractionSource:
    source = open_interactions(name, **options)
    assert isinstance(source, InteractionSource)
    return source


def test_lastfm() -> None:
    source = opened("lastfm", validation=0)
    facts = source.describe()
    assert (facts["users"], facts["items"], facts["interactions"]) == (1880, 4489, 52668)
    assert facts["split"] == "given: 42135/0/10533 training/validation/test"
    assert facts["test users"] == 1858
    assert facts["test users without training interactions"] == 2
    popular = score_part(popularity(source.parts.train.matrix()), source, k=20, part="test")
    assert (popular["recall"], popular["ndcg"]) == pytest.approx((0.037, 0.021), abs=1e-3)  # its ties follow the order of the file
    near = score_part(item_knn(source.parts.train.matrix(), 100, 10), source, k=20, part="test")
    assert (near["recall"], near["ndcg"]) == pytest.approx((0.2619, 0.2059), abs=2e-4)
    assert (near["users"], near["cold_users"]) == (1856, 2)


def test_movies() -> None:
    source = opened("ml-latest-small", split="leave_one_out", validation=0)
    assert (source.shape["users"], source.shape["items"]) == (671, 9066)
    assert source.parts.train.rating is not None
    popular = score_part(popularity(source.parts.train.matrix()), source, k=10, part="test")
    assert (popular["hit_rate"], popular["ndcg"]) == pytest.approx((0.042, 0.019), abs=1e-3)
    liked = opened("ml-latest-small", min_rating=4, k_core=5)
    assert liked.parts.whole().rating.min() == 4  # type: ignore[union-attr]


def test_beauty() -> None:
    chosen = [len(part) for part in opened("amazon-beauty").parts.all]
    assert chosen == [153776, 22363, 22363]
    source = opened("amazon-beauty", split="given", validation=0)
    facts = source.describe()
    assert (facts["users"], facts["items"]) == (22363, 12101)
    assert facts["split"] == "given: 176139/0/22363 training/validation/test"
    assert len(np.setdiff1d(source.parts.test.item, source.parts.train.item)) == 9
    assert "test pairs that are in training too" not in facts
    popular = score_part(popularity(source.parts.train.matrix()), source, k=10, part="test")
    assert (popular["hit_rate"], popular["ndcg"]) == pytest.approx((0.0135, 0.0061), abs=3e-4)


def test_retail_rocket() -> None:
    source = opened("retail_rocket", validation=0)
    assert source.split(0).name == "given"
    assert [len(part) for part in source.parts.all] == [9551, 0, 2174]
    popular = score_part(popularity(source.parts.train.matrix()), source, k=10, part="test", cold=True)
    assert (popular["hit_rate"], popular["ndcg"]) == pytest.approx((0.0382, 0.0208), abs=3e-4)
    every = opened("retail_rocket", behaviour="all", validation=0)
    assert [int((every.parts.train.behaviour == kind).sum()) for kind in range(3)] == [75374, 12456, 9551]


def test_a_set_that_is_not_there_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"'lastfm' is not under .*; put its files \(train.txt and test.txt, .*\) into "):
        open_interactions("lastfm")
