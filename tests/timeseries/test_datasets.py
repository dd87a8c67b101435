"""What a user's data means, and the sets by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anyview.errors import UserError
from anyview.evaluation.linear import linear
from anyview.evaluation.protocol import RAW, evaluate_rows
from anyview.evaluation.subject import RawFeatures
from anyview.plugins import host
from anyview.testing import check_source
from anyview_timeseries.datasets import open_series
from anyview_timeseries.datasets_named import BROUGHT, chirps, ieee_spc12, monkey_reach_chewie1, uci_har_subset, watch_exercises
from anyview_timeseries.series import SeriesSource

NINE = {
    "ArrowHead": (36, 175, 1, 251, 3),
    "BasicMotions": (40, 40, 6, 100, 4),
    "Coffee": (28, 28, 1, 286, 2),
    "ECG200": (100, 100, 1, 96, 2),
    "FaceFour": (24, 88, 1, 350, 4),
    "GunPoint": (50, 150, 1, 150, 2),
    "ItalyPowerDemand": (67, 1029, 1, 24, 2),
    "Lightning7": (70, 73, 1, 319, 7),
    "Plane": (105, 105, 1, 144, 7),
}


@pytest.fixture
def real(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (data_root / "timeseries").is_dir():
        pytest.skip("no time series under the data root")
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))


def test_chirps_keep_the_contract() -> None:
    check_source(chirps, batch_size=64)
    source = open_series("chirps")
    assert source.describe() == open_series("timeseries/chirps").describe()
    assert (len(source), source.shape, source.rate) == (480, {"channels": 2, "length": 128}, 64.0)
    columns = {RAW: RawFeatures(source), "log spectrum": RawFeatures(source, control="log spectrum")}
    result = evaluate_rows(columns, source.labels, source.split, linear, [0])
    assert result.mean("log spectrum") > result.mean(RAW) + 0.2


def test_arrays_and_sources() -> None:
    source = SeriesSource(torch.zeros(3, 1, 4))
    assert open_series(source, length=7) is source
    x = np.random.default_rng(0).normal(size=(4, 30))
    assert open_series(x).shape == open_series(torch.from_numpy(x)).shape == {"channels": 1, "length": 30}
    assert len(open_series(x, length=10)) == 12
    with pytest.raises(UserError, match=r"are an array of \(3,\), float64"):
        open_series(np.zeros(3))


def test_a_file_of_windows_as_an_array(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 2, 20))
    np.save(tmp_path / "mine.npy", x)
    assert open_series(tmp_path / "mine.npy").shape == {"channels": 2, "length": 20}


@pytest.mark.parametrize(
    ("data", "options", "sentence"),
    [
        ("some/where.csv", {}, "there is no file or folder 'some/where.csv'"),
        ("where.ts", {}, "there is no file or folder 'where.ts'"),
        ("chirp", {}, "there is no data set 'chirp'; did you mean .*chirps"),
        ("chirps", {"lenght": 3}, "there is no option of the data 'chirps' 'lenght'; did you mean 'length'"),
        ("chirps", {"layout": "long"}, "there is no option of the data set 'chirps' 'layout'"),
        ("chirps", {"length": 500}, "windows of 500 steps were asked for"),
        ("core/digits", {}, r"the data set 'digits' has {'features': 64}, and time series were asked for"),
        ("core/digits", {"length": 3}, "the data set 'core/digits' takes no options, and length was given"),
    ],
)
def test_data_that_is_not_there_or_no_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        open_series(data, **options)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a")
    with pytest.raises(UserError, match=r"is no data of time series; give a file that ends in .npz, .ts"):
        open_series(tmp_path / "mine.txt")


def test_absent_sets_say_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    names = {component.name for component in host().components("datasets") if component.full_name.startswith("timeseries/")}
    assert names >= {*NINE, *BROUGHT, "ieee_spc12", "uci_har_subset", "watch_exercises", "monkey_reach_chewie1"}
    for name in names - {"chirps"}:
        with pytest.raises(UserError, match=rf"the data set '{name}' is not under the data root|put {name}.npz .* into"):
            open_series(f"timeseries/{name}")


def test_a_set_that_users_bring_has_its_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    folder = tmp_path / "timeseries" / "dalia"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    np.savez(folder / "dalia.npz", X=random.normal(size=(30, 1, 200)), y=random.integers(60, 90, 30), subject=np.arange(30) // 3)
    source = open_series("dalia", target=2)
    assert (source.rate, source.band) == (25.0, (0.25, 4.0))
    assert source.split(0).test.tolist() == [6, 7, 8]
    assert source.split(0).train.tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]
    assert len(source.train_rows) == 27
    np.savez(folder / "dalia.npz", X=random.normal(size=(30, 2, 200)))
    with pytest.raises(UserError, match=r"has 2 channels, and dalia is X \(N, 1, 200\) at 25 Hz"):
        open_series("dalia")


@pytest.mark.parametrize("name", NINE)
def test_the_nine_sets_of_the_archive(real: None, name: str) -> None:
    train, test, channels, length, classes = NINE[name]
    source = open_series(name)
    split = source.split(0)
    assert (len(split.train), len(split.validation), len(split.test)) == (train, 0, test)
    assert source.shape == {"channels": channels, "length": length}
    assert (source.describe()["classes"], len(source.train_rows)) == (classes, train)


def test_ieee_spc12(real: None) -> None:
    source = ieee_spc12()
    assert (len(source), source.shape, source.rate) == (1768, {"channels": 1, "length": 200}, 25.0)
    assert (int(source.labels.min()), int(source.labels.max())) == (69, 177)
    for target in range(5):
        held = ieee_spc12(target=target)
        subject = held.members["subject"]
        split = held.split(0)
        assert set(subject[split.test].tolist()) == {target}
        assert set(subject[split.train].tolist()) == set(range(5)) - {target}
        assert set(subject[held.train_rows].tolist()) == set(range(12)) - {target}
    assert set(subject[ieee_spc12(target=9).split(0).train].tolist()) == set(range(12)) - {9}


def test_uci_har_subset(real: None) -> None:
    source = uci_har_subset()
    split = source.split(0)
    assert (len(split.train), len(split.test)) == (2400, 950)
    assert source.labels[split.test].bincount().sum() == 950
    assert sorted(source.class_names)[0].lower().startswith("lay")
    assert open_series("uci_har_subset", scale="channel").scaling is not None


def test_watch_exercises(real: None) -> None:
    source = watch_exercises()
    assert source.shape == {"channels": 6, "length": 250}
    assert source.describe() | {"subjects": 10, "series": 140, "classes": 7} == source.describe()
    split = source.split(1)
    owners = [set(source.groups[part].tolist()) for part in (split.train, split.validation, split.test)]
    assert not owners[0] & owners[2]
    assert [len(own) for own in owners] == [6, 2, 2]
    assert watch_exercises(length=900).describe()["windows"] == "900 steps, 900 apart"
    assert set(source.groups[open_series("watch_exercises", target=3).split(0).test].tolist()) == {2}


def test_monkey_reach(real: None) -> None:
    source = monkey_reach_chewie1()
    split = source.split(0)
    assert (len(source), source.shape) == (1640, {"channels": 163, "length": 1})
    assert (len(split.train), len(split.test), len(source.train_rows)) == (734, 161, 1332)
    assert not set(source.members["trial"][source.train_rows].tolist()) & set(source.members["trial"][split.test].tolist())
    assert len(monkey_reach_chewie1(moving=False).split(0).test) == 308
    raw = monkey_reach_chewie1(scale="none")
    assert source.scaling is not None
    mean, deviation = source.scaling
    torch.testing.assert_close((raw.windows[:, :, 0] - mean) / deviation, source.windows[:, :, 0])
