"""Walks along metapaths: who can be met, how often, and nobody oneself."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, csr_matrix

from anyview_recommenders.metapaths import walked, with_oneself

from .plain import ITEMS, small_log

LOG = small_log()
KINDS = csr_matrix(np.eye(3)[np.arange(ITEMS) % 3])


def met(path: list[csr_matrix]) -> np.ndarray:
    """Whom a path leads to, by products."""
    ways = path[0].toarray()
    for matrix in path[1:]:
        ways = ways @ matrix.toarray()
    np.fill_diagonal(ways, 0)
    return ways > 0


def test_many_walks_meet_whom_the_products_of_matrices_lead_to() -> None:
    for path in ([LOG, LOG.T.tocsr()], [LOG, KINDS, KINDS.T.tocsr(), LOG.T.tocsr()], [KINDS, KINDS.T.tocsr()]):
        assert np.array_equal(walked(path, 2000, np.random.default_rng(0)).toarray() > 0, met(path))


def test_few_walks_meet_some_of_them_both_ways_and_no_more_than_there_are_walks() -> None:
    path = [LOG, LOG.T.tocsr()]
    found = walked(path, 2, np.random.default_rng(0)).toarray()
    assert np.array_equal(found, found.T)
    assert not found.diagonal().any()
    assert (found <= met(path)).all()
    assert found.sum() <= 2 * 2 * len(found)
    assert 0 < found.sum() < met(path).sum()
    assert not found[3].any()  # a user without items meets nobody


def test_walks_follow_pairs_with_many_ways_between_them_most() -> None:
    often = csr_array(np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]))
    counts = sum(walked([often, often.T.tocsr()], 1, np.random.default_rng(seed)).toarray()[0] for seed in range(300))
    assert counts[1] > counts[2] > 0


def test_one_of_each_node_is_added_and_everything_is_one() -> None:
    assert with_oneself(csr_array(np.array([[3.0, 0.0], [2.0, 0.0]]))).toarray().tolist() == [[1, 0], [1, 1]]
