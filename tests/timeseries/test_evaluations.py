"""Protocols of numbers and of classes, each against a plain form, and the control rows on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.logistic import logistic
from anyview.evaluation.protocol import RAW, TRAINED, Result, evaluate_rows
from anyview.evaluation.protocol_data import ProtocolData, any_split
from anyview.evaluation.subject import RawFeatures
from anyview_timeseries import datasets_named
from anyview_timeseries.evaluations import heart_rate, softmax_probe, step_count
from anyview_timeseries.evaluations_classes import angular_scores, fit_svm, rbf_svm, reach_angle
from anyview_timeseries.series import SeriesSource

RATE = 25.0


def beats(count: int = 200, noise: float = 0.1, seed: int = 0) -> SeriesSource:
    """Pulses whose label is their rate a minute."""
    random = np.random.default_rng(seed)
    bpm = random.integers(50, 150, count)
    time = np.arange(200) / RATE
    x = np.sin(2 * np.pi * bpm[:, None] / 60 * time + random.uniform(0, 6, (count, 1))) + noise * random.normal(size=(count, 200))
    return SeriesSource(x[:, None].astype(np.float32), bpm, groups={"subject": np.arange(count) // 20}, name="beats", rate=RATE)


def controls_of(source: SeriesSource) -> dict[str, Any]:
    return {RAW: RawFeatures(source), **{name: RawFeatures(source, control=name) for name in source.controls()}}


def result_of(source: SeriesSource, protocol: Any, seeds: Any = (0,), **options: Any) -> Result:
    return evaluate_rows(controls_of(source), source.labels, lambda seed: any_split(source, seed), protocol, list(seeds), options)


def test_heart_rate_beside_its_controls() -> None:
    result = result_of(beats(), heart_rate, epochs=60)
    assert list(result.values) == [RAW, "log spectrum", "tapered spectrum", "statistics + spectrum", "spectral peak", "mean predictor"]
    assert result.mean("spectral peak") < 1
    assert result.mean("tapered spectrum") < result.mean("mean predictor")
    assert result.mean("spectral peak", "correlation") > 0.99
    assert result.mean("mean predictor", "correlation") == 0
    assert result.label("mae") == "mae, bpm"


def test_the_probe_is_the_published_one() -> None:
    """Against torch's own layer, scheduler and Adam in float64 from the same weights."""
    generator = torch.Generator().manual_seed(3)
    rows, classes = torch.randn(40, 6, generator=generator), torch.arange(40) % 5
    weight, bias = softmax_probe(rows, classes, 5, seed=1, lr=0.03, epochs=20)
    layer = torch.nn.Linear(6, 5).double()
    own = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.weight.copy_(0.01 * torch.randn(5, 6, generator=own))
        layer.bias.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(rows.double()), classes).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(weight.double(), layer.weight, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(bias.double(), layer.bias, atol=1e-4, rtol=1e-3)


def test_any_number_is_predicted_by_classes_over_a_range() -> None:
    random = np.random.default_rng(0)
    numbers = random.uniform(-1, 1, 300).astype(np.float32)
    rows = np.eye(20, dtype=np.float32)[np.floor((numbers + 1) * 10).astype(int)]
    source = SeriesSource(random.normal(size=(300, 1, 10)), numbers)
    data = ProtocolData(rows, numbers, source.split(0), 0)
    found = heart_rate(data, 0, low=-1.0, high=1.0, bins=20)
    assert found["mae"] < 0.03
    assert found["correlation"] > 0.99


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"low": 100.0, "high": 140.0}, "the range from 100 to 140 was asked for, and .* training labels lie outside"),
        ({"low": 210.0, "high": 30.0}, "goes from low to high, and was given as 210 to 30"),
        ({"bins": 1}, "takes bins at least 2"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        result_of(beats(80), heart_rate, epochs=1, **options)


def test_a_peak_needs_a_rate_and_is_left_out_without() -> None:
    source = beats(60)
    source.rate = None
    result = result_of(source, heart_rate, epochs=2)
    assert "spectral peak" not in result.values
    assert any("the baseline spectral peak is left out: it needs the sampling rate of 'beats' in Hz" in told for told in result.warnings)


def test_step_count_has_a_percentage_error() -> None:
    source = beats(120)
    source.labels = (source.labels.float() / 60 * 8).round().long()  # cycles in 8 seconds
    result = result_of(source, step_count, epochs=30, low=0.0, high=40.0, bins=40)
    assert result.headline == "mape"
    assert result.mean("spectral peak") < 0.05
    assert result.mean("spectral peak", "mae") < 0.5
    assert result.cell("spectral peak", "mape").count(".") == 1


def blobs(count: int = 120, classes: int = 3, seed: int = 0) -> ProtocolData:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    angle = 2 * np.pi * labels / classes
    rows = (np.stack([np.cos(angle), np.sin(angle)], 1) + 0.3 * random.normal(size=(count, 2))).astype(np.float32)
    source = SeriesSource(torch.from_numpy(rows)[:, None], labels)
    return ProtocolData(rows, labels, source.split(seed), classes)


def test_the_support_vector_machine_chooses_by_folds() -> None:
    data = blobs()
    found = rbf_svm(data, 0)
    assert found["accuracy"] > 0.9
    assert found["auroc_one_versus_one"] > 0.95
    assert 0 < found["strength"] <= 1e4
    few = np.arange(12) % 3
    assert fit_svm(data.rows[:12], few, 0)[1] == np.inf
    assert rbf_svm(data, 0, most=20)["strength"] == 0


def test_classes_that_the_machine_was_not_shown_come_last() -> None:
    data = blobs()
    train = data.split.train[torch.from_numpy(data.labels[data.split.train.numpy()] != 2)]
    found = rbf_svm(ProtocolData(data.rows, data.labels, Split(train, data.split.validation, data.split.test), 3), 0)
    assert np.isfinite(list(found.values())).all()


def test_reach_angles() -> None:
    found = reach_angle(blobs(classes=8, count=400), 0)
    assert found["accuracy"] > 0.6
    assert found["delta_accuracy"] > found["accuracy"]
    state = torch.get_rng_state()
    assert reach_angle(blobs(), 1, epochs=2) == reach_angle(blobs(), 1, epochs=2)
    assert torch.equal(state, torch.get_rng_state())
    assert angular_scores(np.arange(8), np.arange(8) * np.pi / 4 - 2 * np.pi, 8) == {"accuracy": 1.0, "delta_accuracy": 1.0}
    result = evaluate_rows({TRAINED: blobs(classes=8).rows}, blobs(classes=8).labels, lambda _: blobs(classes=8).split, reach_angle, [0])
    assert list(result.values)[-1] == "one direction"


@pytest.fixture
def real(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (data_root / "timeseries").is_dir():
        pytest.skip("no time series under the data root")
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    return data_root


def test_control_rows_of_ieee_spc12(real: Path) -> None:
    """Targets 0 to 4, each tested by a probe on the other four; one seed, mean over targets."""
    errors: dict[str, list[float]] = {}
    for target in range(5):
        result = result_of(datasets_named.ieee_spc12(target=target), heart_rate)
        for name in result.values:
            errors.setdefault(name, []).append(result.mean(name))
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    assert means["mean predictor"] == pytest.approx(20.5, abs=0.05)
    assert means["spectral peak"] == pytest.approx(14.5, abs=0.1)
    assert means[RAW] == pytest.approx(22.6, abs=0.4)
    assert means["log spectrum"] == pytest.approx(12.6, abs=0.4)
    assert means["tapered spectrum"] == pytest.approx(8.0, abs=0.3)


def test_control_rows_of_uci_har(real: Path) -> None:
    source = datasets_named.uci_har_subset()
    columns = {"statistics + spectrum": RawFeatures(source, control="statistics + spectrum")}
    result = evaluate_rows(columns, source.labels, source.split, logistic, [0])
    assert result.mean("statistics + spectrum") == pytest.approx(0.924, abs=0.012)
    assert result.sizes == {"train": 2400, "validation": 0, "test": 950}


def test_control_rows_of_the_reaches(real: Path) -> None:
    source = datasets_named.monkey_reach_chewie1()
    assert source.shape == {"channels": 163, "length": 1}
    result = evaluate_rows({RAW: RawFeatures(source)}, source.labels, source.split, reach_angle, range(5))
    assert result.sizes == {"train": 734, "validation": 0, "test": 161}
    assert result.mean(RAW) == pytest.approx(0.624, abs=0.015)
    assert result.mean(RAW, "delta_accuracy") == pytest.approx(0.799, abs=0.01)
    x, split = source.features(), source.split(0)
    angle = 2 * np.pi * source.labels.numpy() / 8
    from sklearn.linear_model import Ridge

    ridge = Ridge().fit(x[split.train], np.stack([np.cos(angle), np.sin(angle)], 1)[split.train]).predict(x[split.test])
    scores = angular_scores(source.labels.numpy()[split.test], np.arctan2(ridge[:, 1], ridge[:, 0]), 8)
    assert scores["accuracy"] == pytest.approx(0.615, abs=0.005)
    assert scores["delta_accuracy"] == pytest.approx(0.795, abs=0.005)
