from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import sparse

from anyview.errors import UserError
from anyview_recommenders.baselines import als as als_module
from anyview_recommenders.baselines import ease as ease_module
from anyview_recommenders.baselines import item_knn as item_knn_module
from anyview_recommenders.baselines.als import als, solve
from anyview_recommenders.baselines.ease import ease
from anyview_recommenders.baselines.item_knn import item_knn
from anyview_recommenders.baselines.markov import markov
from anyview_recommenders.baselines.popularity import popularity

USERS, ITEMS = 40, 25
EVERYBODY = torch.arange(USERS)


@pytest.fixture
def dense() -> np.ndarray:
    """A log in which user 3 and item 5 have nothing."""
    made = (np.random.default_rng(0).random((USERS, ITEMS)) < 0.25).astype(np.float32)
    made[3], made[:, 5] = 0, 0
    return made


def test_popularity_counts(dense: np.ndarray) -> None:
    scores = popularity(sparse.csr_array(dense)).score(torch.tensor([3, 3, 7]))
    assert np.array_equal(scores.numpy(), np.tile(dense.sum(0), (3, 1)))


def plain_item_knn(dense: np.ndarray, neighbours: int, shrinkage: float) -> np.ndarray:
    """Weights item by item, each target with its most similar, of equals the first."""
    counts = dense.astype(np.float64).T @ dense
    weights = np.zeros((ITEMS, ITEMS))
    for j in range(ITEMS):
        similar = [counts[i, j] / (np.sqrt(counts[i, i] * counts[j, j]) + shrinkage + 1e-6) if i != j else 0.0 for i in range(ITEMS)]
        for i in sorted(range(ITEMS), key=lambda i: (-similar[i], i))[:neighbours]:
            weights[i, j] = similar[i]
    return weights


@pytest.mark.parametrize("block", [2**26, 8 * ITEMS * 4])
@pytest.mark.parametrize(("neighbours", "shrinkage"), [(3, 0.0), (3, 10.0), (100, 10.0)])
def test_item_knn_is_the_plain_one(
    dense: np.ndarray, neighbours: int, shrinkage: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_knn_module, "BLOCK_BYTES", block)
    scorer = item_knn(sparse.csr_array(dense), neighbours, shrinkage)
    weights = plain_item_knn(dense, neighbours, shrinkage)
    np.testing.assert_allclose(scorer.weights.toarray(), weights, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(scorer.score(EVERYBODY), dense @ weights, rtol=1e-6)


def test_of_equally_near_items_the_first_are_kept() -> None:
    """Every pair of four items that all users have is alike."""
    weights = item_knn(sparse.csr_array(np.ones((3, 4))), neighbours=2).weights.toarray()
    assert [np.flatnonzero(column).tolist() for column in weights.T] == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_ease_solves_ridge_regression_of_each_item_on_the_others(dense: np.ndarray) -> None:
    scorer = ease(sparse.csr_matrix(dense), regularisation=7.0)
    wide = dense.astype(np.float64)
    for j in range(ITEMS):
        others = np.delete(wide, j, axis=1)
        solution = np.linalg.solve(others.T @ others + 7.0 * np.eye(ITEMS - 1), others.T @ wide[:, j])
        np.testing.assert_allclose(scorer.weights[:, j], np.insert(solution, j, 0.0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scorer.score(torch.tensor([5, 0])), wide[[5, 0]] @ scorer.weights, rtol=1e-6, atol=1e-7)


def test_ease_says_how_much_memory_a_large_catalogue_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"40,000 items take 12 GiB and twice that to make it; choose item_knn or als"):
        ease(sparse.csr_array((3, 40_000)))
    monkeypatch.setattr(ease_module, "MOST_ITEMS", 2)
    with pytest.raises(UserError, match="at most 2 items"):
        ease(sparse.csr_array(np.ones((3, 3))))


def als_loss(dense: np.ndarray, users: np.ndarray, items: np.ndarray, regularisation: float, confidence: float) -> float:
    total = regularisation * ((users**2).sum() + (items**2).sum())
    for u in range(len(users)):
        for i in range(len(items)):
            total += (1 + confidence * dense[u, i]) * (dense[u, i] - users[u] @ items[i]) ** 2
    return float(total)


@pytest.mark.parametrize("block", [2**22, 100])
def test_each_half_step_of_als_is_weighted_ridge_regression(dense: np.ndarray, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(als_module, "BLOCK", block)
    items = torch.randn(ITEMS, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = solve(sparse.csr_array(dense), items, regularisation=0.7, confidence=5.0)
    wide = items.numpy()
    for u, row in enumerate(dense):
        weights = np.diag(1 + 5.0 * row)
        expected = np.linalg.solve(wide.T @ weights @ wide + 0.7 * np.eye(4), wide.T @ weights @ row)
        np.testing.assert_allclose(found[u], expected, rtol=1e-9, atol=1e-12)


def test_als_never_goes_up_and_one_seed_gives_one_model(dense: np.ndarray) -> None:
    matrix = sparse.csr_array(dense)
    losses = []
    for iterations in range(1, 6):
        scorer = als(matrix, 4, regularisation=0.5, confidence=3.0, iterations=iterations)
        losses.append(als_loss(dense, scorer.user_rows.numpy(), scorer.item_rows.numpy(), 0.5, 3.0))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.1
    again, other = (als(matrix, 4, regularisation=0.5, confidence=3.0, iterations=5, seed=seed) for seed in (0, 1))
    assert torch.equal(again.score(EVERYBODY), scorer.score(EVERYBODY))
    assert not torch.equal(other.score(EVERYBODY), scorer.score(EVERYBODY))


def test_als_gives_who_has_nothing_a_row_of_zeros(dense: np.ndarray) -> None:
    scorer = als(sparse.csr_array(dense), 4)
    assert not scorer.user_rows[3].any()
    assert not scorer.item_rows[5].any()
    assert bool(scorer.score(EVERYBODY).isfinite().all())


def test_markov_counts_what_came_next_and_orders_the_rest_by_frequency() -> None:
    sequences = [[0, 1, 2], [0, 1], [3, 0], [], [2, 2, 0, 2]]
    scores = markov(sequences, items=5).score(torch.tensor([2, 3, 4, 0]))
    frequency = 1e-6 * np.array([4, 2, 4, 1, 0])
    after = {0: [0, 2, 1, 0, 0], 2: [1, 0, 1, 0, 0]}
    expected = np.array([after[0], [0] * 5, after[2], after[2]]) + frequency
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-12)


def test_markov_does_not_step_from_one_user_to_the_next() -> None:
    assert markov([[0], [1], np.array([0])], items=2).counts.nnz == 0
    assert markov([], items=3).score(torch.tensor([], dtype=torch.long)).shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda matrix: item_knn(matrix, neighbours=0), "item_knn needs a neighbour"),
        (lambda matrix: item_knn(matrix, shrinkage=-1.0), "item_knn needs a neighbour"),
        (lambda matrix: ease(matrix, regularisation=0.0), "regularisation above 0, 0.0 was given"),
        (lambda matrix: als(matrix, 0), "als needs a factor"),
        (lambda matrix: als(matrix, regularisation=0.0), "regularisation 0.0"),
    ],
)
def test_settings_that_make_no_model_are_refused(dense: np.ndarray, make: Callable[[sparse.csr_array], object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make(sparse.csr_array(dense))
