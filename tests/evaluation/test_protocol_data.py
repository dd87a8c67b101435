"""Labels and splits as protocols get them, the scores, and the best constant answer."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.protocol_data import (
    ProtocolData,
    any_split,
    labelled,
    majority_on_test,
    measure,
    no_labels,
    prepare_labels,
    unseen_classes,
)
from anyview.evaluation.subject import RawFeatures


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


def test_data_without_labels_is_split_by_rows_or_groups():
    x = np.zeros((50, 2))
    parts = any_split(ArraySource(x), 3)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [30, 10, 10]
    assert parts.name == "random 60/20/20, seed 3"
    grouped = ArraySource(x, groups=np.arange(50) // 5)
    parts = any_split(grouped, 0)
    assert not set(grouped.groups[parts.train].tolist()) & set(grouped.groups[parts.test].tolist())
    labelled_source = ArraySource(x, np.arange(50) % 2)
    assert torch.equal(any_split(labelled_source, 1).test, labelled_source.split(1).test)
    assert no_labels(3).values.tolist() == [-1, -1, -1]


def test_a_value_with_commas_is_one_data_set_or_several():
    sources = {name: ArraySource(np.zeros((4, 2)), name=name) for name in ("a", "b", "edges.csv,features.csv")}

    def open_by_name(name: object) -> ArraySource:
        if isinstance(name, ArraySource):
            return name
        if name not in sources:
            raise UserError(f"there is no data {name!r}")
        return sources[name]

    source = ArraySource(np.zeros((4, 2)))
    data = ProtocolData(source.features(), np.zeros(4), any_split(source, 0), 1, RawFeatures(source, open=open_by_name).origin(0))
    assert [one.name for one in data.open("a")] == ["a"]
    assert [one.name for one in data.open("a, b,")] == ["a", "b"]
    assert [one.name for one in data.open(["b", sources["a"]])] == ["b", "a"]
    assert [one.name for one in data.open("edges.csv,features.csv")] == ["edges.csv,features.csv"]
    with pytest.raises(UserError, match="no data 'c'"):
        data.open("a,c")


def grouped(groups: list[int], labels: list[int]) -> ProtocolData:
    source = ArraySource(np.arange(len(groups), dtype=np.float32)[:, None], np.array(labels), groups=np.array(groups))
    origin = RawFeatures(source).origin(0)
    return ProtocolData(source.features(), np.array(labels), split(list(range(len(groups))), []), 2, origin)


def test_what_is_held_out_of_the_training_part_shares_no_group_with_the_rest():
    data = grouped([number // 4 for number in range(40)], [number % 2 for number in range(40)])
    inner = data.with_validation(0).split
    assert (len(inner.train), len(inner.validation)) == (32, 8)
    assert not {row // 4 for row in inner.train.tolist()} & {row // 4 for row in inner.validation.tolist()}


def test_nothing_is_held_out_where_that_would_leave_one_class():
    data = grouped([0] * 4 + [1] * 4 + [2] * 4, [0] * 4 + [0] * 4 + [1] * 4)
    inner = [data.with_validation(seed).split for seed in range(20)]
    assert all(len(np.unique(data.labels[one.train.numpy()])) == 2 for one in inner)
    assert {len(one.validation) for one in inner} == {0, 4}
    assert grouped([0], [0]).with_validation(0).split.validation.tolist() == []
