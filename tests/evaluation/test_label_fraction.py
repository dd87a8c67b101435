"""Label fractions: which samples are used, that they are the same for all, and that they are what the probe saw."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from anyview.data.splits import Split, stratified_split
from anyview.errors import UserError
from anyview.evaluation.label_fraction import fraction, label_fraction
from anyview.evaluation.logistic import logistic
from anyview.evaluation.protocol import MAJORITY, RANDOM, RAW, TRAINED, evaluate_rows
from anyview.evaluation.protocol_data import ProtocolData


def test_fractions_are_stratified_nested_and_of_the_training_part(blobs):
    data = blobs(samples=400, classes=4)
    parts = [fraction(data, share, 0) for share in (0.01, 0.1, 0.5, 1.0)]
    train = data.split.train.numpy()
    assert [np.bincount(data.labels[part]).tolist() for part in parts] == [[1] * 4, [6] * 4, [30] * 4, [60] * 4]
    for small, large in zip(parts, [*parts[1:], train], strict=True):
        assert set(small) <= set(large)
    np.testing.assert_array_equal(parts[-1], np.sort(train))
    np.testing.assert_array_equal(parts[0], fraction(data, 0.01, 0))
    assert not np.array_equal(parts[1], fraction(data, 0.1, 1))


def test_a_rare_class_keeps_a_sample():
    labels = np.array([0] * 90 + [1] * 3 + [2] * 2)
    split = Split(torch.arange(95), torch.empty(0, dtype=torch.long), torch.arange(95))
    data = ProtocolData(np.zeros((95, 2), dtype=np.float32), labels, split, 3)
    assert np.bincount(labels[fraction(data, 0.1, 0)]).tolist() == [9, 1, 1]


def test_scores_are_those_of_the_logistic_probe_on_each_part(blobs):
    data = blobs(separation=2.0, samples=500)
    scores = label_fraction(data, 3)
    for percent in (1, 10, 100):
        part = data.restricted(fraction(data, percent / 100, 3))
        assert scores[f"accuracy_{percent}%"] == logistic(part, 3)["accuracy"]
    assert scores["accuracy_100%"] == logistic(data, 3)["accuracy"]
    assert scores["accuracy"] == pytest.approx(np.mean([scores[f"accuracy_{percent}%"] for percent in (1, 10, 100)]))
    assert scores["accuracy_1%"] < scores["accuracy_100%"]


def test_the_result_holds_the_samples_that_every_encoder_saw(blobs, monkeypatch):
    data = blobs(samples=200)
    labels, seen = torch.from_numpy(data.labels), []

    def watched(part: ProtocolData, seed: int, max_iter: int) -> dict[str, float]:
        seen.append((seed, part.split.train.tolist()))
        return {"accuracy": 0.5}

    monkeypatch.setattr("anyview.evaluation.label_fraction.logistic", watched)
    rows = {TRAINED: data.rows, RANDOM: data.rows[:, :3], RAW: data.rows}
    result = evaluate_rows(rows, labels, lambda seed: stratified_split(labels, seed), label_fraction, [0, 1], {"percent": "5,20"})
    told = json.loads(json.dumps(result.to_dict()))["records"]
    assert set(told) == {"0", "1"}
    for seed in (0, 1):
        parts = [part for of, part in seen if of == seed]
        assert parts == [told[str(seed)]["5%"], told[str(seed)]["20%"]] * 3
    assert set(result.values[MAJORITY]) == {"accuracy", "accuracy_5%", "accuracy_20%"}
    assert result.scores[0] == "accuracy"


def test_two_classes_and_whole_parts(blobs):
    data = blobs(classes=2, separation=6.0)
    assert label_fraction(data, 0, percent="100")["accuracy_100%"] > 0.95


@pytest.mark.parametrize("percent", ["0", "101", "ten"])
def test_percentages_are_checked(blobs, percent):
    with pytest.raises(UserError, match="label_fraction takes"):
        label_fraction(blobs(), 0, percent=percent)
