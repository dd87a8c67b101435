from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anyview.evaluation.answers import auroc, auroc_one_versus_one, auroc_one_versus_rest, of_classes, of_numbers


@pytest.fixture
def answered() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), (40, 25, 10, 5))
    return truth, (scores := np.exp(random.normal(size=(80, 4)) + 2 * np.eye(4)[truth])) / scores.sum(1, keepdims=True)


def test_aurocs_are_scikit_learns(answered: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = answered
    for mine, how in ((auroc_one_versus_rest, "ovr"), (auroc_one_versus_one, "ovo")):
        assert mine(truth, probabilities) == pytest.approx(roc_auc_score(truth, probabilities, multi_class=how))


def test_two_classes_have_one_auroc() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    probabilities = np.stack([1 - (score := np.array([0.1, 0.6, 0.5, 0.6, 0.9])), score], 1)
    expected = roc_auc_score(truth, score)
    assert auroc_one_versus_rest(truth, probabilities) == pytest.approx(expected)
    assert auroc_one_versus_one(truth, probabilities) == pytest.approx(expected)
    assert auroc(score[truth == 1], score[truth == 0]) == pytest.approx(expected)


def test_classes_that_the_test_part_lacks_are_left_out(answered: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = answered
    there = truth != 2
    found = of_classes(truth[there], probabilities[there].argmax(1), probabilities[there])
    assert all(np.isfinite(value) for value in found.values())
    assert "auroc_one_versus_one" not in of_classes(np.zeros(3, int), np.zeros(3, int), np.ones((3, 4)) / 4)


def test_a_constant_answer_agrees_no_more_than_chance() -> None:
    truth = np.array([0, 0, 0, 1])
    assert of_classes(truth, np.zeros(4, int)) == {"macro_f1": pytest.approx(3 / 7), "weighted_f1": pytest.approx(9 / 14), "kappa": 0.0}
    assert of_classes(np.zeros(4, int), np.zeros(4, int))["kappa"] == 0.0


def test_numbers() -> None:
    truth, predicted = np.array([50.0, 100.0, 0.0]), np.array([60.0, 90.0, 5.0])
    found = of_numbers(truth, predicted)
    assert found["mae"] == pytest.approx(25 / 3)
    assert found["rmse"] == pytest.approx(np.sqrt(225 / 3))
    assert found["mape"] == pytest.approx(0.15)
    assert found["correlation"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
    assert of_numbers(truth, np.full(3, 7.0))["correlation"] == 0.0
    assert "mape" not in of_numbers(np.zeros(3), predicted)
