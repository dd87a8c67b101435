from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from anyview.data.arrays import ArraySource, digits, open_rows
from anyview.data.source import Epoch
from anyview.errors import UserError
from anyview.testing import check_source

X = np.random.default_rng(0).normal(size=(23, 4))


@pytest.mark.parametrize("batch_size", [None, 5, 23, 100])
def test_keeps_the_contract(batch_size: int | None) -> None:
    check_source(partial(ArraySource, X, np.arange(23) % 3), batch_size=batch_size)
    check_source(partial(ArraySource, X, np.arange(23) % 3, groups=np.arange(23) // 4, ids=list("abcdefghijklmnopqrstuvw")))


def test_digits() -> None:
    source = digits()
    assert len(source) == 1797
    assert source.shape == {"features": 64}
    assert (float(source.x.min()), float(source.x.max())) == (0.0, 1.0)
    assert source.describe() == {"name": "digits", "samples": 1797, "features": 64, "classes": 10}


def test_an_epoch_shows_equal_batches_in_a_fresh_order() -> None:
    source = ArraySource(X)
    orders = []
    for number in range(2):
        batches = list(source.batches(Epoch(number=number, batch_size=5)))
        assert [len(batch.data) for batch in batches] == [5] * 4
        orders.append(torch.cat([batch.index for batch in batches]))
        for batch in batches:
            assert torch.equal(batch.data, source.x[batch.index])
    assert not torch.equal(*orders)


def test_no_row_is_left_out_of_every_epoch() -> None:
    source = ArraySource(X)
    seen = {int(row) for number in range(10) for batch in source.batches(Epoch(number=number, batch_size=10)) for row in batch.index}
    assert seen == set(range(23))


def test_labels_reach_batches_only_when_asked() -> None:
    y = np.arange(23) % 3
    assert next(ArraySource(X, y).batches(Epoch())).labels is None
    batch = next(ArraySource(X, y, labelled=True).batches(Epoch(batch_size=5)))
    assert batch.labels.tolist() == (batch.index % 3).tolist()


def test_groups_reach_views_and_batches() -> None:
    source = ArraySource(X, groups=[f"subject {row // 6}" for row in range(23)])
    batch = next(source.batches(Epoch(batch_size=5)))
    assert batch.groups["group"].tolist() == (batch.index // 6).tolist()
    assert next(iter(source.clean(7))).groups["group"].tolist() == [0] * 6 + [1]


def test_tensors_have_their_axes_named() -> None:
    assert ArraySource(np.zeros((5, 3, 7))).shape == {"features": 21, "channels": 3, "length": 7}
    assert ArraySource(torch.zeros(5, 3, 4, 6)).shape == {"features": 72, "channels": 3, "height": 4, "width": 6}
    assert ArraySource(np.zeros((5, 3, 7))).features().shape == (5, 21)


def test_words_are_classes_in_sorted_order_and_several_answers_stay() -> None:
    assert ArraySource(X[:4], ["b", "a", "c", "a"]).labels.tolist() == [1, 0, 2, 0]
    assert ArraySource(X[:3], np.array([7, 3, 7])).labels.tolist() == [1, 0, 1]
    assert ArraySource(X[:2], np.array([[0, 1], [1, 1]])).labels.tolist() == [[0, 1], [1, 1]]


def test_fingerprint_sees_data_and_labels() -> None:
    y = np.arange(23) % 3
    assert len({ArraySource(X).fingerprint(), ArraySource(X, y).fingerprint(), ArraySource(X + 1, y).fingerprint()}) == 3
    assert ArraySource(X, name="other").fingerprint() == ArraySource(X).fingerprint()


def nan_row() -> np.ndarray:
    x = X.copy()
    x[3, 1] = np.nan
    return x


MISTAKES = {
    "empty": (partial(ArraySource, np.zeros((0, 4))), "at least one sample"),
    "one axis": (partial(ArraySource, np.zeros(4)), "at least one sample"),
    "missing": (lambda: ArraySource(nan_row()), "in 1 rows, first in row 3"),
    "words": (partial(ArraySource, [["a", "b"]]), "as numbers"),
    "labels": (partial(ArraySource, X, [0, 1]), "labels of 'array' are 2 and the rows 23"),
    "ids": (partial(ArraySource, X, ids=["a"]), "ids of 'array' are 1"),
    "groups": (partial(ArraySource, X, groups=[1, 2]), "groups of 'array' are 2"),
    "gaps": (partial(ArraySource, X[:2], [1.0, np.nan]), "have gaps"),
    "ranks": (lambda: list(ArraySource(X).batches(Epoch(batch_size=2, ranks=3))), "cannot be shared by 3 ranks"),
    "no labels": (lambda: ArraySource(X).split(0), "no labels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(mistake: str) -> None:
    make, phrase = MISTAKES[mistake]
    with pytest.raises(UserError, match=phrase) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "things.npz", x=X, y=np.arange(23) % 2, groups=np.arange(23) // 5, ids=[f"r{i}" for i in range(23)])
    source = open_rows(str(tmp_path / "things.npz"))
    assert source.name == "things"
    np.testing.assert_allclose(source.features(), X, rtol=1e-6)
    assert source.labels.tolist() == [row % 2 for row in range(23)]
    assert source.groups.tolist() == [row // 5 for row in range(23)]
    assert source.ids[2] == "r2"


def test_csv(tmp_path: Path) -> None:
    text = "\ufeffID,height,label,weight\nann,1.5,cat,3\nbob,-2e1,dog,4\n\ncid,0,cat,5\n"
    (tmp_path / "people.csv").write_text(text, encoding="utf-8")
    source = open_rows(tmp_path / "people.csv")
    assert source.features().tolist() == [[1.5, 3.0], [-20.0, 4.0], [0.0, 5.0]]
    assert source.labels.tolist() == [0, 1, 0]
    assert source.ids == ["ann", "bob", "cid"]
    assert source.groups is None


def test_names_are_looked_for_under_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    np.savez(tmp_path / "mine.npz", x=X)
    assert len(open_rows("mine")) == len(open_rows("mine.npz")) == 23


def test_registered_names_arrays_and_sources() -> None:
    assert open_rows("digits").name == open_rows("core/digits").name == "digits"
    assert len(open_rows(torch.zeros(3, 2))) == 3
    source = ArraySource(X)
    assert open_rows(source) is source


FILES = {
    "no x": (".npz", lambda path: np.savez(path, data=X), "none called 'x'"),
    "objects": (".npz", lambda path: np.savez(path, x=np.array([{}, {}])), "plain arrays"),
    "not a zip": (".npz", lambda path: path.write_text("x"), "plain arrays"),
    "no header": (".csv", lambda path: path.write_text("1,2\n3,4\n"), "no header"),
    "empty file": (".csv", lambda path: path.write_text(""), "no header"),
    "no rows": (".csv", lambda path: path.write_text("a,b\n"), "at least one sample"),
    "a word": (".csv", lambda path: path.write_text("a,b\n1,2\n3,x\n"), "line 3, column 'b' of .* holds 'x'"),
    "an empty cell": (".csv", lambda path: path.write_text("a,b\n1,\n"), "holds ''"),
    "a short line": (".csv", lambda path: path.write_text("a,b\n1\n"), "line 2 .* has 1 cells and the header 2"),
    "missing number": (".csv", lambda path: path.write_text("a,b\n1,nan\n"), "missing or infinite"),
}


@pytest.mark.parametrize("mistake", FILES)
def test_bad_files_are_one_sentence(mistake: str, tmp_path: Path) -> None:
    ending, write, phrase = FILES[mistake]
    path = tmp_path / f"data{ending}"
    write(path)
    with pytest.raises(UserError, match=phrase) as caught:
        open_rows(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_not_known() -> None:
    with pytest.raises(UserError, match=r"there is no data file 'nowhere\.csv'"):
        open_rows("nowhere.csv")
    with pytest.raises(UserError, match=r"the ending '\.xlsx'"):
        open_rows("folder/table.xlsx")
    with pytest.raises(UserError, match="did you mean 'digits'"):
        open_rows("digit")
