"""CLID: both parts written out, known dimensions, twins, and z-scores over runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anyview.evaluation.clid import clid, cluster_learnability, dimension_of, intrinsic_dimension, prequential_accuracy, pseudo_labels
from tests.evaluation.plain import normal


def test_prequential_accuracy_predicts_each_row_from_those_before_it(monkeypatch):
    rows = torch.nn.functional.normalize(normal(60, 4), dim=1)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, 60))
    hits = []
    for position in range(1, 60):
        similarity = [float(rows[position] @ rows[before]) for before in range(position)]
        hits.append(int(labels[int(np.argmax(similarity))] == labels[position]))
    expected = sum(hits) / 59
    assert prequential_accuracy(rows, labels) == pytest.approx(expected)
    monkeypatch.setattr("anyview.evaluation.clid.CHUNK", 1)
    assert prequential_accuracy(rows, labels) == pytest.approx(expected)


def test_there_are_as_many_clusters_as_the_root_of_the_rows():
    assert len(pseudo_labels(normal(130, 8)).unique()) == 11
    assert len(pseudo_labels(normal(130, 8), count=3).unique()) == 3


def test_tight_clusters_are_learnt_and_evenly_spread_rows_are_not():
    tight = 20 * torch.eye(10, dtype=torch.float64).repeat(10, 1) + 0.01 * normal(100, 10)
    assert cluster_learnability(tight) > 0.85
    assert cluster_learnability(normal(100, 64)) < 0.5


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_dimension_of_a_cube_in_a_larger_space(dimension):
    cube = torch.rand(2000, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = cube @ normal(dimension, 20)
    assert intrinsic_dimension(rows).dimension == pytest.approx(dimension, rel=0.08)


def test_dimension_is_the_formula():
    rows = normal(40, 5).numpy()
    logs = []
    for position, row in enumerate(rows):
        first, second = sorted(np.linalg.norm(row - other) for place, other in enumerate(rows) if place != position)[:2]
        logs.append(math.log(second / first))
    assert intrinsic_dimension(rows, dropped=0.0).dimension == pytest.approx(39 / sum(logs), rel=1e-9)
    kept = sorted(logs)[:36]
    assert intrinsic_dimension(rows).dimension == pytest.approx(35 / (sum(kept) + 4 * kept[-1]), rel=1e-9)


def test_dropping_leaves_the_estimate_where_it_was():
    """log mu is exponential with rate d; the mean of the kept tenths alone would say 1.34 d."""
    random = np.random.default_rng(0)
    estimates = []
    for _ in range(200):
        mu = torch.from_numpy(np.exp(random.exponential(1 / 6.0, 400)))
        estimates.append(dimension_of(torch.stack([torch.ones_like(mu), mu], 1), 0.1))
    assert np.mean(estimates) == pytest.approx(6.0, rel=0.01)


def test_twins_are_left_out_and_counted():
    rows = normal(100, 3)
    doubled = torch.cat([rows, rows[:30], rows[:5]])
    alone, found = intrinsic_dimension(rows), intrinsic_dimension(doubled)
    assert (alone.duplicates, alone.samples) == (0, 100)
    assert (found.duplicates, found.samples) == (35, 100)
    assert found.dimension == pytest.approx(alone.dimension, rel=1e-12)


def test_rows_that_are_all_equal_have_no_dimension():
    assert math.isnan(intrinsic_dimension(torch.ones(20, 4)).dimension)
    assert cluster_learnability(torch.ones(20, 4), count=1) == 1.0


def test_clid_is_the_sum_of_z_scores_over_the_runs():
    learnability, dimension = [0.2, 0.5, 0.9], [10.0, 30.0, 20.0]
    expected = [
        (a - np.mean(learnability)) / np.std(learnability) + (b - np.mean(dimension)) / np.std(dimension)
        for a, b in zip(learnability, dimension, strict=True)
    ]
    np.testing.assert_allclose(clid(learnability, dimension), expected, rtol=1e-12)
    np.testing.assert_allclose(clid([0.5, 0.5], [1.0, 3.0]), [-1, 1])
