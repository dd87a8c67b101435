"""Logistic regression: the choice of its strength, standardisation by the training part alone, and no second look at test rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from anyview.data.splits import Split
from anyview.evaluation.logistic import STRENGTHS, logistic
from anyview.evaluation.protocol_data import ProtocolData


def plain(data: ProtocolData) -> tuple[float, float]:
    """Every strength fitted from scratch on rows standardised by hand."""
    rows, labels = data.part("train")
    mean, spread = rows.astype(np.float64).mean(0), rows.astype(np.float64).std(0)
    models = [LogisticRegression(C=1 / strength, max_iter=5000, tol=1e-6).fit((rows - mean) / spread, labels) for strength in STRENGTHS]
    held_out, truth = data.part("validation")
    best = int(np.argmax([model.score((held_out - mean) / spread, truth) for model in models]))
    test, answers = data.part("test")
    return models[best].score((test - mean) / spread, answers), STRENGTHS[best]


def test_there_are_twelve_strengths():
    assert sorted(STRENGTHS) == pytest.approx([10.0**power for power in range(-6, 6)])


@pytest.mark.parametrize("seed", range(3))
def test_chooses_on_validation_what_a_plain_search_chooses(blobs, seed):
    data = blobs(separation=2.0, seed=seed)
    accuracy, strength = plain(data)
    found = logistic(data, 0)
    assert (found["accuracy"], found["strength"]) == (pytest.approx(accuracy, abs=0.02), strength)


def test_scale_of_the_columns_does_not_matter(blobs):
    data = blobs(separation=2.0)
    scaled = ProtocolData(data.rows * np.geomspace(1e-3, 1e3, 12, dtype=np.float32), data.labels, data.split, 4)
    assert logistic(scaled, 0) == logistic(data, 0)


def test_one_test_row_does_not_move_the_others(blobs, monkeypatch):
    data = blobs(separation=2.0)
    moved = data.rows.copy()
    moved[data.split.test.numpy()[0]] *= 1e4
    seen: list[np.ndarray] = []
    monkeypatch.setattr(ProtocolData, "score", lambda _, predicted: seen.append(predicted) or 0.0)
    for rows in (data.rows, moved):
        logistic(ProtocolData(rows, data.labels, data.split, 4), 0)
    np.testing.assert_array_equal(seen[0][1:], seen[1][1:])


def test_without_validation_a_part_of_training_is_held_out_and_the_rest_given_back(blobs):
    data = blobs(separation=2.0)
    both = torch.cat([data.split.train, data.split.validation])
    joined = ProtocolData(data.rows, data.labels, Split(both, both[:0], data.split.test), 4)
    scores = logistic(joined, 0)
    assert scores == logistic(joined, 0)
    rows, labels = joined.part("train")
    mean, spread = rows.mean(0), rows.std(0)
    model = LogisticRegression(C=1 / scores["strength"], max_iter=5000).fit((rows - mean) / spread, labels)
    test, answers = joined.part("test")
    assert scores["accuracy"] == pytest.approx(model.score((test - mean) / spread, answers), abs=0.02)


def test_one_row_per_class_leaves_nothing_to_choose_on(blobs):
    data = blobs(separation=9.0)
    few = Split(torch.arange(4), torch.arange(0), data.split.test)
    assert logistic(ProtocolData(data.rows, data.labels, few, 4), 0)["strength"] == 1.0
