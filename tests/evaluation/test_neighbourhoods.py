"""Neighbours without labels: loops written out, ties, chunks, hubs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import skew
from sklearn.neighbors import NearestNeighbors

from anyview.errors import UserError
from anyview.evaluation.neighbourhoods import hubness, nearest, nearest_distances, neighbourhood_agreement, self_retrieval
from tests.evaluation.plain import normal


@pytest.fixture(params=[2**23, 1])
def chunk(request, monkeypatch):
    monkeypatch.setattr("anyview.evaluation.neighbourhoods.CHUNK", request.param)


def unit(rows: torch.Tensor) -> np.ndarray:
    z = rows.numpy()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_self_retrieval_counts_partners_that_are_nearest(chunk):
    first = normal(40, 6)
    second = first + 0.8 * normal(40, 6, seed=1)
    cosine = unit(first) @ unit(second).T
    expected = np.mean([cosine[row].argmax() == row for row in range(40)])
    assert 0.2 < expected < 1
    assert self_retrieval(first, second) == pytest.approx(expected)


def test_self_retrieval_of_collapsed_rows_is_chance(chunk):
    assert self_retrieval(torch.ones(50, 4), torch.ones(50, 4)) == pytest.approx(1 / 50)
    pairs = torch.eye(5, dtype=torch.float64).repeat(2, 1)
    assert self_retrieval(pairs, pairs) == pytest.approx(0.5)


def test_neighbours_are_scikit_learns(chunk):
    rows = normal(60, 5)
    expected = NearestNeighbors(n_neighbors=8).fit(unit(rows)).kneighbors(return_distance=False)
    np.testing.assert_array_equal(nearest(rows, 8).numpy(), expected)


def test_distances_are_exact_where_rows_nearly_coincide(chunk):
    rows = normal(30, 4) + 1e3
    rows[1] = rows[0] + 1e-9
    found = nearest_distances(rows, 2)
    assert float(found[0, 0]) == pytest.approx(float((rows[1] - rows[0]).norm()), rel=1e-6)
    expected = NearestNeighbors(n_neighbors=2, algorithm="kd_tree").fit(rows.numpy()).kneighbors()[0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_hubness_is_the_skewness_of_how_often_rows_are_neighbours(chunk):
    rows = normal(80, 10) + 0.5
    counts = np.bincount(NearestNeighbors(n_neighbors=10).fit(unit(rows)).kneighbors(return_distance=False).ravel(), minlength=80)
    assert hubness(rows, k=10) == pytest.approx(skew(counts), rel=1e-9)


def test_a_hub_is_seen_and_a_ring_has_none():
    hub = torch.cat([torch.eye(50, dtype=torch.float64), torch.ones(1, 50, dtype=torch.float64)])
    assert hubness(hub, k=1) > 5
    angles = torch.arange(40, dtype=torch.float64) * (2 * torch.pi / 40)
    assert hubness(torch.stack([angles.cos(), angles.sin()], 1), k=2) == 0


def test_agreement_is_one_with_itself_and_chance_with_noise():
    rows = normal(300, 16)
    assert neighbourhood_agreement(rows, 5 * rows) == 1
    assert neighbourhood_agreement(rows, normal(300, 16, seed=1)) == pytest.approx(10 / 299, abs=0.02)
    first, second = nearest(rows, 3), nearest(rows[:, :12], 3)
    shared = [len(set(a.tolist()) & set(b.tolist())) / 3 for a, b in zip(first, second, strict=True)]
    assert neighbourhood_agreement(rows, rows[:, :12], k=3) == pytest.approx(np.mean(shared))


def test_more_neighbours_than_others_are_refused():
    with pytest.raises(UserError, match="10 neighbours were asked for, and each of 10 rows has 9 others"):
        nearest(normal(10, 2), 10)
    with pytest.raises(UserError, match="there are 10 and 9 rows"):
        neighbourhood_agreement(normal(10, 2), normal(9, 2))
