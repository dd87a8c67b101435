"""Nearest neighbours: against scikit-learn, against the formula written out, ties and chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from anyview.data.splits import Split
from anyview.evaluation.knn import knn, neighbours, vote
from anyview.evaluation.protocol_data import ProtocolData


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_plain_vote_is_scikit_learns(blobs, k):
    data = blobs(separation=2.0)
    rows, labels = data.part("train")
    test, _ = data.part("test")
    reference = KNeighborsClassifier(k).fit(normalize(rows), labels).predict(normalize(test))
    found = vote(torch.from_numpy(test), torch.from_numpy(rows), torch.from_numpy(labels), 4, k=k, temperature=None)
    np.testing.assert_array_equal(found, reference)
    assert knn(data, 0, k=k, weighted=False) == {**data.scores(reference), "k": k}


@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5])
def test_weighted_vote_is_the_formula(blobs, temperature):
    data = blobs(separation=1.5)
    (rows, labels), (test, _) = data.part("train"), data.part("test")
    cosine = normalize(test.astype(np.float64)) @ normalize(rows.astype(np.float64)).T
    expected = []
    for row in cosine:
        score = np.zeros(4)
        for index in np.argsort(-row)[:20]:
            score[labels[index]] += np.exp(row[index] / temperature)
        expected.append(score.argmax())
    found = vote(torch.from_numpy(test), torch.from_numpy(rows), torch.from_numpy(labels), 4, k=20, temperature=temperature)
    np.testing.assert_array_equal(found, expected)


def test_weights_can_turn_a_majority():
    bank, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([1, 0, 0])
    row = torch.tensor([[1.0, 0.05]])
    assert vote(row, bank, labels, 2, k=3, temperature=0.1).tolist() == [1]
    assert vote(row, bank, labels, 2, k=3, temperature=None).tolist() == [0]


@pytest.mark.parametrize("temperature", [None, 0.1])
def test_ties_go_to_the_lower_class(temperature):
    bank = torch.tensor([[0.6, 0.8], [0.6, -0.8], [0.8, 0.6], [0.8, -0.6]])
    for labels in ([0, 1, 0, 1], [1, 0, 1, 0]):
        assert vote(torch.tensor([[2.0, 0.0]]), bank, torch.tensor(labels), 2, k=4, temperature=temperature).tolist() == [0]


def test_small_temperatures_do_not_overflow(blobs):
    data = blobs(separation=1.0)
    assert knn(data, 0, temperature=1e-4)["accuracy"] == knn(data, 0, k=1)["accuracy"]


def test_chunks_do_not_matter(blobs):
    data = blobs(separation=1.5)
    rows, labels = (torch.from_numpy(part) for part in data.part("train"))
    test = torch.from_numpy(data.part("test")[0])
    whole, pieces = (vote(test, rows, labels, 4, k=9, temperature=0.1, chunk_elements=size) for size in (10**9, 1))
    np.testing.assert_array_equal(whole, pieces)


def test_k_follows_the_size_of_the_bank(blobs):
    assert [neighbours(None, bank) for bank in (7, 4999, 5000)] == [7, 20, 200]
    data = blobs(samples=40)
    assert knn(data, 0, k=100)["k"] == len(data.split.train)


def test_a_row_of_zeros_is_like_any_other(blobs):
    data = blobs()
    data.rows[0] = 0
    split = Split(data.split.train, data.split.validation, torch.arange(10))
    assert 0 <= knn(ProtocolData(data.rows, data.labels, split, 4), 0)["accuracy"] <= 1
