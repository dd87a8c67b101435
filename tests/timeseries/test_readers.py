"""Files of the archives, each written out here in small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anyview.errors import UserError
from anyview_timeseries.datasets import open_series
from anyview_timeseries.readers import as_labels, read_archive, read_npz

TS = """# a comment
@problemName walks
@univariate false
@classLabel true walk rest
@data
1,2,3:4,5,6:walk
7,8,?:1,1,1:rest
"""
ARFF = """% a comment
@relation walks
@attribute t0 numeric
@attribute t1 numeric
@attribute t2 numeric
@attribute class {1,2}
@data
1,2,3,1
4,?,6,2
"""
MULTIVARIATE = """@relation walks
@attribute bag relational
@data
'1,2,3\\n4,5,6',walk
"7,8,9\\n1,2,1",rest
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_ts(tmp_path: Path) -> None:
    raw = read_archive(write(tmp_path / "walks.ts", TS))
    np.testing.assert_array_equal(raw.series[0], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(raw.series[1], [[7, 8, np.nan], [1, 1, 1]])
    assert list(raw.labels) == ["walk", "rest"]


def test_ts_without_classes(tmp_path: Path) -> None:
    raw = read_archive(write(tmp_path / "walks.ts", TS.replace("true walk rest", "false").replace(":walk", "").replace(":rest", "")))
    assert raw.labels is None
    assert raw.series[1].shape == (2, 3)


def test_arff(tmp_path: Path) -> None:
    raw = read_archive(write(tmp_path / "walks.arff", ARFF))
    np.testing.assert_array_equal(raw.series, [[[1, 2, 3]], [[4, np.nan, 6]]])
    assert raw.labels.tolist() == [1, 2]
    raw = read_archive(write(tmp_path / "several.arff", MULTIVARIATE))
    np.testing.assert_array_equal(raw.series, [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [1, 2, 1]]])
    assert list(raw.labels) == ["walk", "rest"]


def test_train_and_test_files_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "timeseries" / "Walks" / "Walks_TRAIN.tsv", "1\t1\t2\t3\n2\t4\t5\t6\n")
    write(tmp_path / "timeseries" / "Walks" / "Walks_TEST.tsv", "2\t7\t8\t9\n1\t1\t0\t1\n1\t1\t0\t2\n")
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    for data in ("Walks", str(tmp_path / "timeseries/Walks/Walks_TRAIN.tsv"), tmp_path / "timeseries/Walks/Walks_TEST.tsv", "Walks/Walks"):
        source = open_series(data)
        assert source.name == "Walks"
        assert source.shape == {"channels": 1, "length": 3}
        assert source.labels.tolist() == [1, 2, 2, 1, 1]
        assert (source.split(0).train.tolist(), source.split(0).test.tolist()) == ([0, 1], [2, 3, 4])
        assert source.train_rows.tolist() == [0, 1]
        assert source.describe()["split"] == "official"
    (tmp_path / "timeseries" / "Walks" / "Walks_TEST.tsv").unlink()
    assert open_series("Walks").published is None


def test_unequal_lengths_at_the_end_of_a_line_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "walks.tsv", "1\t1\t2\t3\n2\t4\t5\tNaN\n")
    with pytest.raises(
        UserError, match=r"the series of 'walks' have unequal lengths, 2 to 3 steps; cut windows with --reading.length STEPS"
    ):
        open_series(path)
    assert open_series(path, lengths="cut").describe()["unequal lengths"] == "2 to 3 steps: cut to 2"
    padded = open_series(path, lengths="pad")
    assert padded.has_gaps
    assert padded.describe()["unequal lengths"] == "2 to 3 steps: padded with NaN to 3"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.ts", TS.replace("7,8", "7,eight"), r"line 7 of '.*a.ts' holds a word where a number is due"),
        ("a.ts", TS.replace("1,2,3:", ""), "have 1 to 2 channels"),
        ("a.ts", TS.replace("7,8,?", "(0,7),(1,8)"), "has a time with every value"),
        ("a.ts", "@data\n", "has no series"),
        ("a.tsv", "1\n", "line 1 of .* has no values"),
        ("a.arff", ARFF.replace("4,?,6", "4,x,6"), "holds a word"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_series(write(tmp_path / name, text))


def test_halves_of_different_sets_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a_TRAIN.ts", TS)
    write(tmp_path / "a_TEST.ts", TS.replace("1,2,3:", "").replace("7,8,?:", ""))
    with pytest.raises(UserError, match="have 2 and 1 channels; give files of one data set"):
        open_series(tmp_path / "a_TRAIN.ts")


def test_labels_as_numbers_or_words() -> None:
    assert as_labels(["1.0", "2", "10"]).tolist() == [1, 2, 10]
    assert as_labels(["-1", "1"]).tolist() == ["-1", "1"]
    assert as_labels(["1.5", "2"]).tolist() == ["1.5", "2"]


def test_npz(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 2, 9)).astype(np.float32)
    np.savez(tmp_path / "one.npz", X=x, y=np.arange(6) % 2, subject=np.repeat(["a", "b", "c"], 2), fs=50.0, channels=["p", "q"])
    source = open_series(tmp_path / "one.npz")
    assert (source.rate, source.describe()["subjects"], source.shape) == (50.0, 3, {"channels": 2, "length": 9})
    np.savez(tmp_path / "last.npz", X=x.transpose(0, 2, 1))
    np.testing.assert_array_equal(open_series(tmp_path / "last.npz", channels_last=True).windows, x)
    np.savez(tmp_path / "parts.npz", X_train=x[:4], X_test=x[4:], y_train=[0, 1, 0, 1], y_test=[1, 0])
    assert open_series(tmp_path / "parts.npz").split(0).test.tolist() == [4, 5]
    np.savez(tmp_path / "joined.npz", X=x[0].T, lengths=[4, 5], y=["a", "b"])
    assert [each.shape for each in read_npz(tmp_path / "joined.npz").series] == [(2, 4), (2, 5)]
    np.savez(tmp_path / "flat.npz", x=x[:, 0])
    assert open_series(tmp_path / "flat.npz").shape == {"channels": 1, "length": 9}


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"Z": np.zeros(3)}, r"has the arrays \['Z'\]; call the series 'X' and the labels 'y'"),
        ({"X": np.zeros((2, 3)), "lengths": np.array([5])}, "lengths that add up to 5"),
        ({"X": np.array(["a"])}, "give numbers as"),
        ({"X": np.zeros((0, 1, 4))}, "give numbers as"),
        ({"X": np.ones((2, 1, 4)), "y": np.array(["a", "b"], dtype=object)}, "cannot be read as a .npz file of plain arrays"),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path: Path, arrays: dict, sentence: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(UserError, match=sentence):
        open_series(tmp_path / "mine.npz")
