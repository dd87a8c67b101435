"""Robustness: means and drop by hand, a probe that never sees a shift, names and severities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.data.source import Source
from anyview.errors import UserError
from anyview.evaluation.corruption import corruption
from anyview.evaluation.logistic import fit_logistic
from anyview.evaluation.protocol import MAJORITY, RANDOM, RAW, TRAINED
from anyview.evaluation.protocol_data import ProtocolData
from anyview.evaluation.subject import RawFeatures
from tests.evaluation.sources import clusters, result_of


class Shifted(ArraySource):
    """Shifts with known answers: nothing, zeros in a share of the samples, and no information at all."""

    corruptions = ("nothing", "blank", "shuffle")
    asked: list[tuple[str, int, int]]

    def corrupted(self, name: str, severity: int, seed: int) -> Source:
        self.asked.append((name, severity, seed))
        x = self.x.clone()
        if name == "blank":
            x[: len(x) * severity // 5] = 0
        if name == "shuffle":
            x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]
        return ArraySource(x, name=name)


def shifted_clusters() -> Shifted:
    source = clusters(separation=8.0)
    made = Shifted(source.x, source.labels, name="shifted")
    made.asked = []
    return made


def data_of(source: ArraySource, seed: int = 0) -> ProtocolData:
    return ProtocolData(source.features(), source.labels.numpy(), source.split(seed), 4, RawFeatures(source).origin(seed))


def test_scores_are_those_of_a_probe_fitted_to_clean_rows():
    data = data_of(shifted_clusters())
    found = corruption(data, 0, severities="1,5")
    model, strength = fit_logistic(data, 0, 1000)
    test = data.split.test.numpy()
    truth = data.labels[test]

    def accuracy(name: str, severity: int) -> float:
        rows = data.source.corrupted(name, severity, 0).features()[test]
        return float(np.mean(model.predict(rows) == truth))

    by_shift = {name: np.mean([accuracy(name, 1), accuracy(name, 5)]) for name in ("nothing", "blank", "shuffle")}
    clean = float(np.mean(model.predict(data.rows[test]) == truth))
    assert found["clean_accuracy"] == clean == found["accuracy_nothing"]
    for name, value in by_shift.items():
        assert found[f"accuracy_{name}"] == pytest.approx(value)
    assert found["corrupted_accuracy"] == pytest.approx(np.mean(list(by_shift.values())))
    assert found["relative_drop"] == pytest.approx((clean - found["corrupted_accuracy"]) / clean)
    assert found["strength"] == strength
    assert found["accuracy_shuffle"] < 0.5


def test_every_shift_and_severity_is_asked_for_with_the_seed():
    source = shifted_clusters()
    corruption(data_of(source, 4), 4)
    assert source.asked == [(name, severity, 4) for name in source.corruptions for severity in range(1, 6)]
    source.asked.clear()
    corruption(data_of(source), 0, shifts="blank, nothing", severities="2")
    assert source.asked == [("blank", 2, 0), ("nothing", 2, 0)]


def test_controls_stand_beside_it():
    result = result_of(clusters(separation=6.0), corruption)
    assert list(result.values) == [TRAINED, RANDOM, RAW, MAJORITY]
    assert result.headline == "corrupted_accuracy"
    assert set(result.scores) == {"corrupted_accuracy", "clean_accuracy", "relative_drop", "accuracy_noise", "accuracy_scale"}
    assert result.mean(RAW, "clean_accuracy") > result.mean(RAW) > result.mean(MAJORITY) == 0.25
    assert result.mean(MAJORITY, "relative_drop") == 0


def test_severity_lowers_accuracy_under_noise():
    data = data_of(clusters(separation=4.0))
    falls = [corruption(data, 0, shifts="noise", severities=str(severity))["corrupted_accuracy"] for severity in (1, 5)]
    assert falls[1] < falls[0] - 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shifts": "fog"}, "'shifted' has no shift 'fog'; it has nothing, blank, shuffle"),
        ({"severities": "0"}, "takes severities at least 1 and at most 5, and was given 0"),
        ({"severities": "1.5"}, "takes severities 1, 2, 3, 4 and 5, and was given 1.5"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        corruption(data_of(shifted_clusters()), 0, **options)


def test_data_without_shifts_and_shifts_that_lose_samples_are_refused():
    class Bare(ArraySource):
        corruptions = ()

    class Loses(ArraySource):
        def corrupted(self, name: str, severity: int, seed: int) -> Source:
            return ArraySource(self.x[1:], name=name)

    for kind, words in ((Bare, "brings none|has none"), (Loses, "turned 300 samples into 299")):
        source = kind(clusters().x, clusters().labels)
        with pytest.raises(UserError, match=words):
            corruption(data_of(source), 0)
