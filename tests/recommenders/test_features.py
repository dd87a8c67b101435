"""Features: bags of codes out of tables with the log's own ids, what is missing, and what a run keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anyview.data.source import Outline
from anyview.errors import UserError
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.feature_tables import FeatureOptions, codes_of, read_table
from anyview_recommenders.features import Feature, SideFeatures, histories_of
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.source import InteractionSource

LOG = pd.DataFrame({"user": [1, 1, 1, 2, 2, 2, 3, 3, 3], "item": [7, 8, 9, 7, 8, 10, 8, 9, 7], "time": range(9)})
ITEMS = pd.DataFrame(
    {
        "item": [10, 9, 8, 7, 99],
        "genres": ["war|noir", "", "war", "noir|war|war", "war"],
        "maker": ["a", "b", "a", None, "a"],
        "price": [1.0, 2.0, np.nan, 4.0, 5.0],
        "actors": [["x"], ["x", "y"], [], ["y"], ["z"]],
    }
)


def opened(**options: object) -> InteractionSource:
    found = open_interactions(LOG, **{"split": "leave_one_out", "validation": 0, "item_features": ITEMS, "numbers": "price", **options})
    assert isinstance(found, InteractionSource)
    return found


def named(source: InteractionSource, side: str = "items") -> dict[str, Feature]:
    return {feature.name: feature for feature in getattr(SideFeatures.of(source), side)}


def bags(feature: Feature) -> list[list[str]]:
    words = ["?", *feature.values]
    codes = [words[code] if feature.values.size else str(code) for code in feature.codes]
    return [codes[start:end] for start, end in zip(feature.starts[:-1], feature.starts[1:], strict=True)]


def test_columns_become_bags_in_the_order_of_the_catalogue() -> None:
    source = opened()
    assert source.parts.train.item_ids.tolist() == [7, 8, 9, 10]
    found = named(source)
    assert [(name, feature.kind) for name, feature in found.items()] == [
        ("id", "id"),
        ("genres", "list"),
        ("maker", "category"),
        ("price", "number"),
        ("actors", "list"),
    ]
    assert bags(found["genres"]) == [["noir", "war"], ["war"], ["?"], ["war", "noir"]]
    assert bags(found["maker"]) == [["?"], ["a"], ["?"], ["a"]], "b has one item, and a value needs two"
    assert bags(found["actors"]) == [["y"], ["?"], ["x", "y"], ["x"]]
    assert bags(named(opened(least=1))["maker"]) == [["?"], ["a"], ["b"], ["a"]]
    assert "maker (category, 1 values, 50 % unknown)" in str(source.describe()["features of items"])


def test_an_item_that_training_does_not_know_has_no_id() -> None:
    train = opened().parts.train
    assert bags(named(opened())["id"]) == [["1"], ["2"], ["3"], []]
    assert 3 not in train.item


def test_edges_of_buckets_are_those_of_what_training_knows() -> None:
    price = named(opened(buckets=2))["price"]
    assert price.edges.tolist() == [3.0], "the median of 4 and 2; the item at 1 is in no training interaction, and that at 5 in no log"
    assert price.codes.tolist() == [2, 0, 1, 1]
    assert price.size == 3


def test_histories_are_of_training_alone_the_latest_first() -> None:
    train = opened().parts.train
    history = histories_of(train)
    assert bags(history) == [["2", "1"], ["2", "1"], ["3", "2"]]
    assert bags(histories_of(train, longest=1)) == [["2"], ["2"], ["3"]]
    nobody = Interactions(train.user, train.item, np.array([1, 2, 3, 4]), train.item_ids, time=train.time)
    assert bags(histories_of(nobody))[3] == []


def test_kinds_and_columns_are_as_asked() -> None:
    found = named(opened(categories="genres,price", numbers=(), left_out=["actors"], least=1))
    assert (found["genres"].kind, found["price"].kind) == ("category", "category")
    assert bags(found["genres"])[0] == ["noir|war|war"]
    assert "actors" not in found
    many = pd.DataFrame({"item": range(40), "price": [f"{number}.5" for number in range(40)]})
    log = pd.DataFrame({"user": np.repeat(range(10), 4), "item": range(40)})
    source = open_interactions(log, split="ratio", item_features=many)
    assert named(source)["price"].kind == "number"  # type: ignore[arg-type]


def test_items_of_the_table_alone_join_the_catalogue_where_asked() -> None:
    source = opened(new_items=True)
    assert source.parts.test.item_ids.tolist() == [7, 8, 9, 10, 99]
    assert bags(named(source)["genres"])[4] == ["war"]
    assert "items without a row of features" not in source.describe()
    fewer = opened(item_features=ITEMS.iloc[:2])
    assert fewer.describe()["items without a row of features"] == 2


def test_files_have_ids_as_the_log_does(tmp_path: Path) -> None:
    LOG.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "items.csv").write_text("movieId;genre;plot\n7;war;x|y\n8;noir;\n9;war;x\n", encoding="utf-8")
    (tmp_path / "users.user").write_text("user_id:token\tage:float\n1\t30\n2\t40\n3\t40\n", encoding="utf-8")
    options = {"split": "leave_one_out", "validation": 0, "least": 1}
    source = open_interactions(tmp_path / "log.csv", item_features="items.csv", user_features="users.user", **options)
    assert bags(named(source)["genre"]) == [["war"], ["noir"], ["war"], ["?"]]  # type: ignore[arg-type]
    assert bags(named(source)["plot"]) == [["x", "y"], ["?"], ["x"], ["?"]]  # type: ignore[arg-type]
    assert bags(named(source, "users")["age"]) == [["30.0"], ["40.0"], ["40.0"]]  # type: ignore[arg-type]
    as_strings = LOG.assign(item=[f"i{item}" for item in LOG["item"]])
    lacking = open_interactions(as_strings, item_features=tmp_path / "items.csv", **options)
    assert lacking.describe()["items without a row of features"] == 4


def test_a_run_keeps_features_and_its_data_is_known_by_them() -> None:
    source, other = opened(), opened(left_out="maker")
    assert source.fingerprint() == opened().fingerprint() != other.fingerprint()
    kept = SideFeatures.of(Outline("log", source.shape, source.keeps()))
    for ours, theirs in zip((*kept.users, *kept.items), (*source.side.users, *source.side.items), strict=True):  # type: ignore[union-attr]
        assert (ours.name, ours.kind, ours.size, ours.values.tolist()) == (theirs.name, theirs.kind, theirs.size, theirs.values.tolist())
        assert all(np.array_equal(getattr(ours, part), getattr(theirs, part)) for part in ("starts", "codes", "edges"))
    assert all(array.dtype != object for array in source.keeps().values())


def test_rows_of_another_table_have_the_codes_of_the_first() -> None:
    options = FeatureOptions(features=True)
    new = pd.DataFrame({"item": ["n1", "n2"], "genres": ["noir|opera", "opera"], "price": [100.0, np.nan]})
    found = {name: bags(codes_of(feature, read_table(new, "item"), options)) for name, feature in named(opened(buckets=2)).items()}
    assert found == {
        "id": [[], []],
        "genres": [["noir"], ["?"]],
        "maker": [["?"], ["?"]],
        "price": [["2"], ["0"]],
        "actors": [["?"], ["?"]],
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"item_features": "nowhere.csv"}, "there is no table of features 'nowhere.csv'"),
        (
            {"item_features": ITEMS.rename(columns={"item": "thing"})},
            "none is called as items usually are; name it with --reading.item NAME",
        ),
        ({"item_features": pd.concat([ITEMS, ITEMS])}, "has two rows for the item 10, and one was expected"),
        ({"numbers": "maker"}, "has to hold numbers, and there is 'a' in row 0"),
        ({"lists": "actor"}, "there is no column of features 'actor'; did you mean 'actors'"),
        ({"buckets": 1}, "the option buckets of features is a whole number of 2 or more, and 1 was given"),
        ({"item_features": 5}, "is of type int, and a DataFrame or a file was expected"),
        ({"train_share": 0.0}, "the share of training interactions lies above 0 and up to 1"),
    ],
)
def test_mistakes_are_told(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        opened(**options)


def test_a_log_that_was_opened_without_features_has_none() -> None:
    source = open_interactions(LOG, split="leave_one_out", validation=0)
    assert "features_of_items" not in source.keeps()
    with pytest.raises(UserError, match="was opened without; open it with"):
        SideFeatures.of(source)


def test_a_share_of_training_keeps_every_user() -> None:
    whole, part = (open_interactions("generated", train_share=share).parts for share in (1.0, 0.2))  # type: ignore[attr-defined]
    assert len(part.train) == round(0.2 * len(whole.train))
    assert set(part.train.user.tolist()) == set(whole.train.user.tolist())
    assert (len(part.test), len(part.validation)) == (len(whole.test), len(whole.validation))
    assert part.name.endswith("20 % of training")


def test_the_real_films_bring_their_features(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    found = named(open_interactions("ml-latest-small", features=True))  # type: ignore[arg-type]
    assert {name: feature.kind for name, feature in found.items()} == {
        "id": "id",
        "year": "number",
        "decade": "category",
        "genres": "list",
        "words": "list",
        "tags": "list",
    }
    assert found["genres"].size == 20
