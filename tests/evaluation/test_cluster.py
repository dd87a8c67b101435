"""Clustering: identities of its scores, and what k-means finds."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from anyview.evaluation.cluster import agreement, cluster, clusters, matched_accuracy, one_cluster
from anyview.evaluation.protocol_data import ProtocolData


def test_names_of_clusters_do_not_matter():
    random = np.random.default_rng(0)
    labels, found = random.integers(0, 5, 200), random.integers(0, 5, 200)
    assert agreement(labels, random.permutation(5)[found]) == pytest.approx(agreement(labels, found))
    assert agreement(labels, random.permutation(5)[labels]) == pytest.approx({"nmi": 1, "ari": 1, "accuracy": 1})


def test_nmi_is_mutual_information_over_the_mean_entropy():
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 100)
    found = np.where(random.random(100) < 0.6, labels, random.integers(0, 4, 100))
    joint = np.histogram2d(labels, found, bins=(3, 4))[0] / 100
    a, b = joint.sum(1), joint.sum(0)
    present = joint > 0
    information = (joint[present] * np.log(joint[present] / np.outer(a, b)[present])).sum()
    entropies = -(a * np.log(a)).sum() - (b * np.log(b)).sum()
    assert agreement(labels, found)["nmi"] == pytest.approx(2 * information / entropies)


def test_matching_is_the_best_of_all():
    random = np.random.default_rng(2)
    labels, found = random.integers(0, 4, 60), random.integers(0, 4, 60)
    best = max(np.mean(np.array(order)[found] == labels) for order in permutations(range(4)))
    assert matched_accuracy(labels, found) == pytest.approx(best)


def test_finds_clusters_that_are_there_whatever_the_length_of_rows(blobs):
    data = blobs(separation=25.0)
    assert cluster(data, 0) == pytest.approx({"nmi": 1, "ari": 1, "accuracy": 1})
    stretched = ProtocolData(data.rows * np.linspace(0.1, 10, 300, dtype=np.float32)[:, None], data.labels, data.split, 4)
    assert cluster(stretched, 0)["accuracy"] == 1


def test_unlabelled_rows_take_no_part(blobs):
    data = blobs(separation=25.0)
    labels = data.labels.copy()
    labels[:100] = -1
    rows = data.rows.copy()
    rows[:100] = 0
    assert cluster(ProtocolData(rows, labels, data.split, 4), 0)["accuracy"] == 1


def test_labels_are_not_seen_by_the_clusters(blobs):
    data = blobs()
    np.testing.assert_array_equal(clusters(data.rows, 4, 3), clusters(data.rows, 4, 3))


def test_one_cluster_knows_nothing(blobs):
    data = blobs()
    labels = np.where(np.arange(300) < 200, 1, data.labels)
    scores = one_cluster(ProtocolData(data.rows, labels, data.split, 4))
    assert scores == {"nmi": 0.0, "ari": 0.0, "accuracy": np.mean(labels == 1)}
