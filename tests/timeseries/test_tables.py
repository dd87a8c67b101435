"""CSV and parquet tables, wide and long, and folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anyview.errors import UserError
from anyview_timeseries.datasets import open_series

pandas = pytest.importorskip("pandas")


def walks(count: int = 3, steps: int = 40, rate: float = 20.0, seed: int = 0) -> Any:
    """A table with a row for each time step of several walks."""
    random = np.random.default_rng(seed)
    parts = []
    for number in range(count):
        part = pandas.DataFrame(random.normal(size=(steps, 2)), columns=["ax", "ay"])
        part.insert(0, "time", np.arange(steps) / rate)
        part.insert(0, "id", f"walk {number}")
        part["subject"] = "ab"[number % 2]
        part["label"] = ["slow", "fast"][number % 2]
        parts.append(part)
    return pandas.concat(parts, ignore_index=True)


def save(frame: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_row_for_each_window(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).normal(size=(5, 12))
    frame = pandas.DataFrame(x, columns=[f"t{step}" for step in range(12)])
    frame["activity"], frame["who"], frame["id"] = ["a", "b", "", "a", "b"], [1, 1, 2, 2, 3], list("vwxyz")
    source = open_series(save(frame, tmp_path / f"mine{suffix}"), label="activity", subject="who")
    np.testing.assert_allclose(source.windows[:, 0], x, rtol=1e-5)
    assert source.labels.tolist() == [0, 1, -1, 0, 1]
    assert (source.groups.tolist(), source.ids) == ([0, 0, 1, 1, 2], list("vwxyz"))
    assert source.describe()["read as"] == "one row for each window, one column for each time step"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_row_for_each_time_step(tmp_path: Path, suffix: str) -> None:
    frame = walks()
    source = open_series(save(frame, tmp_path / f"mine{suffix}"))
    assert source.shape == {"channels": 2, "length": 40}
    assert (source.rate, source.ids) == (20.0, ["walk 0", "walk 1", "walk 2"])
    np.testing.assert_allclose(source.windows[1], frame[["ax", "ay"]].to_numpy()[40:80].T, rtol=1e-5)
    assert (source.labels.tolist(), source.class_names) == ([1, 0, 1], ["fast", "slow"])
    assert source.describe()["subjects"] == 2


def test_a_long_table_is_the_same(tmp_path: Path) -> None:
    frame = walks()
    long = frame.melt(["id", "time", "subject", "label"], var_name="channel", value_name="value").sample(frac=1, random_state=0)
    wide, narrow = open_series(save(frame, tmp_path / "wide.csv")), open_series(save(long, tmp_path / "long.csv"))
    np.testing.assert_array_equal(wide.windows, narrow.windows)
    assert wide.labels.tolist() == narrow.labels.tolist()
    assert narrow.describe()["read as"] == "long table"


def test_windows_of_a_table_have_the_label_of_most_of_their_steps(tmp_path: Path) -> None:
    frame = walks(1, steps=100).drop(columns=["id", "subject"])
    frame["label"] = [7] * 55 + [9] * 45
    source = open_series(save(frame, tmp_path / "mine.csv"), length=20, step=10)
    assert source.labels.tolist() == [7, 7, 7, 7, 7, 9, 9, 9, 9]
    assert source.ids[:2] == ["0@0", "0@10"]
    assert source.kept_apart == "block"
    source = open_series(save(frame.assign(label=np.linspace(0, 1, 100)), tmp_path / "numbers.csv"), length=50)
    np.testing.assert_allclose(source.labels, [0.2475, 0.7525], atol=1e-3)


def test_dates_are_times(tmp_path: Path) -> None:
    frame = walks(1)
    frame["time"] = pandas.Timestamp("2024-02-28 23:59:59") + pandas.to_timedelta(frame["time"], unit="s")
    assert open_series(save(frame, tmp_path / "mine.csv")).rate == 20.0
    assert open_series(save(frame, tmp_path / "mine.parquet")).rate == 20.0


@pytest.mark.parametrize("labelled", [True, False])
def test_a_folder_of_recordings(tmp_path: Path, labelled: bool) -> None:
    for number in range(4):
        frame = walks(1, seed=number).drop(columns=["id", "subject"])
        frame = frame.assign(label="same") if labelled else frame.drop(columns="label")
        save(frame, tmp_path / ["rest", "walk"][number % 2] / f"{number}.csv")
    source = open_series(tmp_path, length=10)
    assert (len(source), source.describe()["series"]) == (16, 4)
    assert source.describe()["read as"].startswith("4 files")
    assert source.ids[:2] == ["rest/0.csv@0", "rest/0.csv@10"]
    assert source.class_names == (["same"] if labelled else ["rest", "walk"])


def test_files_of_a_folder_must_have_the_same_channels(tmp_path: Path) -> None:
    save(walks(1), tmp_path / "a.csv")
    save(walks(1).rename(columns={"ay": "gy"}), tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"have different channels, ax, gy in 'b.csv' and ax, ay in 'a.csv'"):
        open_series(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no .csv or .parquet files"):
        open_series(tmp_path / "empty")


def test_channels_are_chosen_by_name_or_number(tmp_path: Path) -> None:
    path = save(walks(), tmp_path / "mine.csv")
    for asked in ("ay", "1", ["ay"], 1):
        np.testing.assert_array_equal(open_series(path, channels=asked).windows[:, 0], open_series(path).windows[:, 1])
    assert open_series(path, channels="ay, ax").shape["channels"] == 2
    with pytest.raises(UserError, match="the channel 'az' of 'mine' was asked for, and it has ax, ay"):
        open_series(path, channels="az")


def test_a_grid_is_laid_over_times_that_differ(tmp_path: Path) -> None:
    slow, fast = walks(1, steps=41, rate=10.0), walks(1, steps=81, rate=20.0).assign(id="fast")
    for frame in (slow, fast):
        frame["ax"] = 3 * frame["time"]
    path = save(pandas.concat([slow, fast]), tmp_path / "mine.csv")
    source = open_series(path, resample=10.0)
    assert source.describe()["resampled"] == "from 10, 20 Hz to 10 Hz by the file's times"
    np.testing.assert_allclose(source.windows[0, 0], source.windows[1, 0], atol=1e-5)
    np.testing.assert_allclose(source.windows[0, 0], 0.3 * np.arange(41), atol=1e-5)


def test_a_gap_in_time_is_filled_only_when_asked(tmp_path: Path) -> None:
    frame = walks(1, steps=100).drop(index=range(40, 60))
    path = save(frame, tmp_path / "mine.csv")
    with pytest.raises(UserError, match=r"have 1 gaps: 1.05 s pass after its row 40, where 0.05 s are usual; lay it on a grid"):
        open_series(path)
    with pytest.raises(UserError, match="has missing values: 40 of 200 values"):
        open_series(path, resample=20)
    source = open_series(path, resample=20, missing="interpolate")
    assert source.shape["length"] == 100
    assert source.describe()["missing values"] == "40 of 200 values (20 %), in 1 of 1 series: interpolated along time"
    masked = open_series(path, resample=20, missing="mask")
    assert masked.windows[0, 0].isnan().nonzero().flatten().tolist() == list(range(40, 60))


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (
            lambda frame: frame,
            {"label": "activity"},
            "the label column 'activity' was asked for, and '.*' has id, time, ax, ay, subject, label",
        ),
        (lambda frame: frame.assign(note="x"), {}, "the column 'note' of '.*' holds words"),
        (lambda frame: frame.iloc[[0, 2, 1, 3]], {}, "do not grow everywhere: from 0.1 to 0.05 s at its row 3; sort the file by time"),
        (lambda frame: frame.iloc[[0, 1, 1, 2]], {}, "do not grow everywhere"),
        (lambda frame: frame.assign(time="noon"), {}, "are neither numbers nor dates"),
        (lambda frame: frame.assign(time=[np.nan, *frame["time"][1:]]), {}, "1 times of series .* are missing"),
        (lambda frame: frame[["time", "id"]], {}, "has no channels beside id, time"),
        (lambda frame: frame.iloc[:0], {}, "has no rows below its header"),
        (lambda frame: frame, {"layout": "long"}, "lacks channel; name it --reading.channel"),
        (
            lambda _: pandas.concat([walks(2), walks(1, rate=33).assign(id="z")]),
            {"lengths": "cut"},
            "most have 20 Hz and series 2 has 33 Hz",
        ),
        (lambda frame: frame.assign(ax=1.0), {}, r"1 of 2 channels of 'mine' hold one value throughout \(ax\)"),
        (lambda frame: frame.assign(ax=1.0, ay=0.0), {"constant": "drop"}, "every channel of 'mine' holds one value throughout"),
        (lambda frame: frame.assign(ax=np.nan), {"missing": "interpolate"}, "channel 0 of series 0 of 'mine' has no value at all"),
        (lambda frame: frame.assign(ax=np.inf), {}, "series 0 of 'mine' holds infinite numbers"),
    ],
)
def test_tables_that_do_not_fit_are_one_sentence(tmp_path: Path, change: Any, options: dict[str, Any], sentence: str) -> None:
    path = save(change(walks(1)), tmp_path / "mine.csv")
    with pytest.raises(UserError, match=sentence) as told:
        open_series(path, **options)
    assert "\n" not in str(told.value)


def test_a_long_table_with_two_values_at_one_time(tmp_path: Path) -> None:
    long = walks(2).melt(["time"], ["ax", "ay"], "channel", "value")
    with pytest.raises(UserError, match="has several values of one channel at one time; name the column that tells series apart"):
        open_series(save(long, tmp_path / "mine.csv"))


def test_categories_are_words(tmp_path: Path) -> None:
    frame = walks()
    frame["label"] = frame["label"].astype("category")
    frame["subject"] = frame["subject"].astype("category")
    source = open_series(save(frame, tmp_path / "mine.parquet"))
    assert source.class_names == ["fast", "slow"]
    frame.loc[frame["id"] == "walk 1", "label"] = None
    assert open_series(save(frame, tmp_path / "mine.parquet")).labels.tolist() == [0, -1, 0]


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00a,b\n1")
    with pytest.raises(UserError, match=r"cannot be read as a table|has no rows below its header"):
        open_series(tmp_path / "mine.csv")
    (tmp_path / "mine.parquet").write_text("no")
    with pytest.raises(UserError, match="cannot be read as a table"):
        open_series(tmp_path / "mine.parquet")
