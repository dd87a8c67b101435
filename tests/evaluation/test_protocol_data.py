"""Labels and splits as protocols get them, the scores, and the best constant answer."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.protocol_data import ProtocolData, labelled, majority_on_test, measure, prepare_labels, unseen_classes


def split(train: list[int], test: list[int]) -> Split:
    return Split(*(torch.tensor(part, dtype=torch.long) for part in (train, [], test)), name="drawn")


def test_best_constant_answer_for_classes():
    data = ProtocolData(np.zeros((6, 1)), np.array([0, 0, 0, 1, 1, 0]), split([0, 1, 2], [3, 4, 5]), 2)
    assert majority_on_test(data) == {"accuracy": 2 / 3}


def test_best_constant_answers_by_trying_all():
    labels = (np.random.default_rng(0).random((30, 4)) < [0.8, 0.5, 0.3, 0.05]).astype(np.int64)
    data = ProtocolData(np.zeros((30, 1)), labels, split([0], list(range(30))), 4)
    best = max(measure(np.tile(answer, (30, 1)), labels) for answer in product((0, 1), repeat=4))
    assert majority_on_test(data)["micro_f1"] == pytest.approx(best)


def test_majority_on_cora(cora):
    assert majority_on_test(cora)["accuracy"] == 0.319


def test_unlabelled_rows_leave_the_split():
    labels = prepare_labels(torch.tensor([5, -1, 9, 5, -100, 9]), "knn", several=False)
    assert labels.values.tolist() == [0, -1, 1, 0, -1, 1]
    cut = labelled(split([0, 1, 2], [3, 4]), labels)
    assert (cut.train.tolist(), cut.test.tolist(), cut.name) == ([0, 2], [3], "drawn")


def test_unseen_classes_are_called_by_the_datas_names():
    labels = prepare_labels(np.array([10, 20, 30, 40]), "knn", several=False)
    assert unseen_classes(split([0, 1], [1, 2, 3]), labels) == ["30", "40"]
    assert unseen_classes(split([0, 1, 2], [2]), labels) == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs labels, and the data has none"),
        (np.zeros(4), "needs classes, and the labels are of type float64"),
        (np.array([3, 3, -1]), "needs at least 2 classes, and the labels hold 1"),
        (np.eye(3), "takes one class per sample, and the labels are 3 answers each"),
    ],
)
def test_unfit_labels_are_refused_in_one_sentence(labels, message):
    with pytest.raises(UserError, match=message) as caught:
        prepare_labels(labels, "knn", several=False)
    assert "\n" not in str(caught.value)


def test_answers_are_zeros_and_ones():
    assert prepare_labels(torch.eye(3), "linear", several=True).names.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="3 columns of 0 and 1, and found other values"):
        prepare_labels(torch.full((2, 3), torch.nan), "linear", several=True)


@pytest.mark.parametrize(
    ("train", "test", "message"), [([], [0], "the train part"), ([0, 1], [2], "the test part"), ([0, 3], [1], "holds one class")]
)
def test_parts_that_nothing_can_be_learnt_from_are_refused(train, test, message):
    labels = prepare_labels(np.array([0, 1, -1, 0]), "knn", several=False)
    with pytest.raises(UserError, match=message):
        labelled(split(train, test), labels)
