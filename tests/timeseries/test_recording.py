"""Recordings that stay on disk: the same windows as those of a file that is read whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anyview.data.source import Epoch
from anyview.errors import UserError
from anyview.testing import check_source
from anyview_timeseries import recording
from anyview_timeseries.conversion import Flat
from anyview_timeseries.datasets import open_series
from anyview_timeseries.recording import RecordingSource
from anyview_timeseries.repair import Preparation

pandas = pytest.importorskip("pandas")

STEPS = 5000
VALUES = np.random.default_rng(0).normal(size=(STEPS, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("anyview_timeseries.conversion.BATCH_ROWS", 700)
    monkeypatch.setattr("anyview_timeseries.conversion.BLOCK_BYTES", 2**15)
    monkeypatch.setattr(recording, "SCAN_STEPS", 600)


def table(**more: Any) -> Any:
    frame = pandas.DataFrame(VALUES, columns=["ax", "ay", "az"])
    frame.insert(0, "time", np.arange(STEPS) / 50)
    return frame.assign(**more)


def save(frame: Any, path: Path) -> Path:
    frame.to_parquet(path, index=False) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".parquet"])
def test_windows_on_disk_are_those_of_the_whole_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"walk{suffix}"
    if suffix == ".npy":
        np.save(path, VALUES)
    else:
        save(table(subject=np.arange(STEPS) // 1700, label=np.where(np.arange(STEPS) % 400 < 250, "a", "b")), path)
    options = {"length": 100, "step": 50, "rate": 50.0}
    streamed = open_series(path, **options, stream=True)
    assert isinstance(streamed, RecordingSource)
    check_source(partial(open_series, path, **options, stream=True), batch_size=16)
    if suffix == ".npy":
        whole = open_series(VALUES.T[None], **options)
    else:
        whole = open_series(path, **options, stream=False)
        assert streamed.labels.tolist() == whole.labels.tolist()
        assert streamed.members["subject"].tolist() == whole.members["subject"].tolist()
    assert not isinstance(whole, RecordingSource)
    torch.testing.assert_close(torch.cat([view.data for view in streamed.clean(7)]), whole.windows)
    assert streamed.shape == whole.shape
    batch = next(streamed.batches(Epoch(batch_size=8)))
    torch.testing.assert_close(batch.data, whole.windows[batch.index])
    assert streamed.rate == 50.0


def test_ids_are_seconds_where_the_rate_is_known(tmp_path: Path) -> None:
    np.save(tmp_path / "walk.npy", VALUES.T)
    assert open_series(tmp_path / "walk.npy", length=100, step=25, rate=50.0).ids[:3] == ["0", "0.5", "1"]
    assert open_series(tmp_path / "walk.npy", length=100, step=25).ids[:3] == ["0", "25", "50"]
    source = open_series(save(table(id=np.arange(STEPS) // 2500), tmp_path / "walk.parquet"), length=1000)
    assert source.ids == ["0@0", "0@20", "1@0", "1@20"]


def test_large_tables_and_recordings_are_streamed_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(table(), tmp_path / "walk.csv")
    assert not isinstance(open_series(path, length=100), RecordingSource)
    monkeypatch.setattr(recording, "LARGE", 1000)
    assert isinstance(open_series(path, length=100), RecordingSource)
    assert isinstance(open_series(save(table(), tmp_path / "walk.parquet"), length=100), RecordingSource)
    assert not isinstance(open_series(tmp_path / "walk.parquet"), RecordingSource)


def test_a_converted_table_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path = save(table(), tmp_path / "walk.csv")
    first = open_series(path, length=100, stream=True)
    folder = tmp_path / "cache" / "recordings"
    (made,) = folder.iterdir()
    stamp = (made / "values.bin").stat().st_mtime_ns
    assert open_series(path, length=50, stream=True).fingerprint() != first.fingerprint()
    assert (made / "values.bin").stat().st_mtime_ns == stamp
    save(table(ax=0.5 * VALUES[:, 0]), path)
    assert open_series(path, length=100, stream=True).fingerprint() != first.fingerprint()
    assert len(list(folder.iterdir())) == 2


def test_missing_values_on_disk(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[100:120, 1] = np.nan
    np.save(tmp_path / "walk.npy", values)
    opened = partial(open_series, tmp_path / "walk.npy", length=100, step=50)
    with pytest.raises(
        UserError, match=r"'walk' has missing values: 20 of 15000 values \(0.13 %\); fill them with --reading.missing interpolate"
    ):
        opened()
    filled = opened(missing="interpolate")
    assert bool(torch.cat([view.data for view in filled.clean()]).isfinite().all())
    assert not filled.has_gaps
    assert filled.describe()["missing values"].endswith("interpolated in each window")
    assert opened(missing="mask").has_gaps
    values[:, 2] = np.nan
    np.save(tmp_path / "walk.npy", values)
    with pytest.raises(UserError, match="channel 2 of 'walk' has no value at all"):
        opened(missing="interpolate")


def test_a_window_without_any_value_holds_the_mean(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[100:300, 1] = np.nan
    np.save(tmp_path / "walk.npy", values)
    source = open_series(tmp_path / "walk.npy", length=100, missing="interpolate")
    torch.testing.assert_close(source.take(torch.tensor([1]))[0, 1], torch.full((100,), float(np.nanmean(values[:, 1]))))


@pytest.mark.parametrize("scale", ["window", "channel"])
def test_scales_on_disk(tmp_path: Path, scale: Any) -> None:
    np.save(tmp_path / "walk.npy", 3 * VALUES + 7)
    options = {"length": 100, "scale": scale}
    whole = open_series((3 * VALUES + 7).T[None], **options)
    torch.testing.assert_close(
        torch.cat([view.data for view in open_series(tmp_path / "walk.npy", **options).clean()]), whole.windows, atol=1e-4, rtol=1e-4
    )


def test_resampling_on_disk() -> None:
    time = np.arange(3000) / 100
    wave = np.sin(2 * np.pi * 1.5 * time)[:, None].astype(np.float32)
    source = RecordingSource(Flat(wave, ["x"], rate=100.0), "wave", Preparation(length=50, step=25, resample=25.0))
    assert (source.rate, source.shape, len(source)) == (25.0, {"channels": 1, "length": 50}, 29)
    np.testing.assert_allclose(source.take(torch.tensor([3]))[0, 0, 6:-6], wave[300:500:4, 0][6:-6], atol=0.03)
    assert source.ids[:2] == ["0", "1"]


def test_channels_and_constant_ones_on_disk(tmp_path: Path) -> None:
    path = save(table(still=1.0), tmp_path / "walk.parquet")
    with pytest.raises(UserError, match=r"1 of 4 channels of 'walk' hold one value throughout \(still\)"):
        open_series(path, length=100)
    assert open_series(path, length=100, constant="drop").shape["channels"] == 3
    source = open_series(path, length=100, channels="az,ax")
    np.testing.assert_array_equal(source.take(torch.tensor([0]))[0], VALUES[:100, [2, 0]].T)


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda frame: frame, {"length": 9000}, "windows of 9000 steps were asked for, and the longest series of 'walk' has 5000"),
        (lambda frame: frame, {}, "is a recording of 5000 steps; cut windows with --reading.length"),
        (lambda frame: frame, {"length": 50, "label": "activity"}, "the label column 'activity' was asked for"),
        (lambda frame: frame.assign(note="x"), {"length": 50}, "the column 'note' of '.*' holds words"),
        (lambda frame: frame.iloc[::-1], {"length": 50}, "do not grow everywhere: to .* sort the file by time"),
        (
            lambda frame: frame.drop(index=range(900, 950)),
            {"length": 50},
            "have gaps: 1.02 s pass before its row 901, where 0.02 s are usual",
        ),
        (
            lambda frame: frame.assign(time=np.r_[np.arange(2100) / 50, 42 + np.arange(2900) / 40]),
            {"length": 50},
            "has mixed sampling rates: 50 Hz first and 40 Hz",
        ),
        (lambda frame: frame[["time"]], {"length": 50}, "has no channels beside time"),
        (lambda frame: frame.iloc[:0], {"length": 50}, "has no rows below its header|holds words|cannot be read"),
        (lambda frame: frame.assign(ax=np.inf), {"length": 50}, "5000 values of 'walk' are infinite"),
        (lambda frame: frame, {"length": 50, "resample": 10, "layout": "windows"}, "was to be read piece by piece"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_recordings_that_do_not_fit_are_one_sentence(
    tmp_path: Path, suffix: str, change: Any, options: dict[str, Any], sentence: str
) -> None:
    path = save(change(table()), tmp_path / f"walk{suffix}")
    with pytest.raises(UserError, match=sentence) as told:
        open_series(path, **options, stream=True)
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "cache").rglob("tmp*")), "something half made stayed in the cache"


def test_an_array_without_a_length_says_what_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "walk.npy", VALUES)
    with pytest.raises(UserError, match=r"is a recording of 5000 steps and 3 channels; cut windows with --reading.length STEPS"):
        open_series(tmp_path / "walk.npy")
    assert open_series(tmp_path / "walk.npy", stream=False).shape == {"channels": 1, "length": 3}
    np.save(tmp_path / "rows.npy", VALUES[:60].reshape(9, 20))
    assert len(open_series(tmp_path / "rows.npy", length=10)) == 18
    assert isinstance(open_series(tmp_path / "rows.npy", length=10, stream=True), RecordingSource)
    (tmp_path / "walk.npy").write_text("no")
    with pytest.raises(UserError, match=r"cannot be read as a .npy file"):
        open_series(tmp_path / "walk.npy", length=5)


def test_features_of_many_windows_are_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "walk.npy", VALUES)
    monkeypatch.setattr(recording, "MOST_FEATURES", 1000)
    source = open_series(tmp_path / "walk.npy", length=160)
    found = source.features().reshape(31, 3, 16)
    np.testing.assert_allclose(found[2, 1], VALUES[320:480, 1].reshape(16, 10).mean(1), atol=1e-5)
    with pytest.raises(UserError, match="stays on disk and has no shifts"):
        source.corrupted("noise", 1, 0)
