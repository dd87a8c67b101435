from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from anyview_recommenders.sampling import Unseen, sample_negatives


def log(users: int = 50, items: int = 20, density: float = 0.6) -> np.ndarray:
    return (np.random.default_rng(0).random((users, items)) < density).astype(np.float32)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_place_is_an_unseen_item_in_order() -> None:
    dense = log()
    unseen = Unseen.of(sparse.csr_array(dense))
    for user, row in enumerate(dense):
        expected = np.flatnonzero(row == 0)
        shares = (torch.arange(len(expected)) + 0.5) / len(expected)
        assert unseen.pick(torch.full((len(expected),), user), shares).tolist() == expected.tolist()
    assert unseen.counts(torch.arange(len(dense))).tolist() == (dense == 0).sum(1).tolist()


def test_draws_are_never_seen_and_uniform_over_what_is_not() -> None:
    dense = log(users=3, items=10)
    unseen = Unseen.of(sparse.csr_matrix(dense))
    users = torch.arange(3).repeat(30_000)
    drawn = sample_negatives(users, unseen, seeded())
    assert not dense[users, drawn].any()
    for user, row in enumerate(dense):
        shares = np.bincount(drawn[users == user], minlength=10) / 30_000
        np.testing.assert_allclose(shares, (row == 0) / (row == 0).sum(), atol=0.01)


def test_a_share_that_rounds_up_to_one_still_picks_the_last() -> None:
    unseen = Unseen.of(sparse.csr_array(np.array([[1, 0, 0, 1]])))
    assert unseen.pick(torch.tensor([0, 0]), torch.tensor([1.0, 1 - 2**-53], dtype=torch.float64)).tolist() == [2, 2]


def test_users_without_interactions_and_with_all_but_one() -> None:
    dense = np.ones((3, 1000))
    dense[0], dense[2, 417] = 0, 0
    unseen = Unseen.of(sparse.csr_array(dense))
    assert sample_negatives(torch.tensor([2] * 5), unseen, seeded()).tolist() == [417] * 5
    drawn = sample_negatives(torch.zeros(20_000, dtype=torch.long), unseen, seeded())
    assert len(drawn.unique()) == 1000


def test_who_has_everything_is_left_out_with_a_warning() -> None:
    unseen = Unseen.of(sparse.csr_array(np.array([[1, 1], [0, 1], [1, 1]])))
    with pytest.warns(UserWarning, match="2 users have every item and no negative"):
        drawn = sample_negatives(torch.tensor([0, 1, 2, 0]), unseen, seeded())
    assert drawn.tolist() == [-1, 0, -1, -1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sample_negatives(torch.tensor([1]), unseen, seeded()).tolist() == [0]


def test_one_seed_gives_one_batch_whatever_the_order_of_the_log() -> None:
    dense = log()
    matrix = sparse.csr_array(dense)
    shuffled = matrix.copy()
    for row in range(len(dense)):
        own = slice(matrix.indptr[row], matrix.indptr[row + 1])
        shuffled.indices[own] = matrix.indices[own][::-1]
    shuffled.has_sorted_indices = False
    users = torch.randint(50, (200,), generator=seeded())

    def drawn(log: sparse.csr_array, seed: int) -> Tensor:
        return sample_negatives(users, Unseen.of(log), seeded(seed))

    assert torch.equal(drawn(matrix, 0), drawn(shuffled, 0))
    assert not torch.equal(drawn(matrix, 0), drawn(matrix, 1))


def test_a_large_catalogue_does_not_overflow() -> None:
    """Keys of users times items are beyond 32 bits."""
    users, items = 100_000, 200_000
    matrix = sparse.csr_array((np.ones(1), (np.array([users - 1]), np.array([7]))), shape=(users, items))
    unseen = Unseen.of(matrix)
    drawn = unseen.pick(torch.tensor([users - 1] * 3), torch.tensor([0.0, 7 / (items - 1) + 1e-9, 1.0], dtype=torch.float64))
    assert drawn.tolist() == [0, 8, items - 1]
