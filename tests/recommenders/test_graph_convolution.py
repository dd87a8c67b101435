from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from anyview.errors import UserError
from anyview_recommenders.graph_convolution import (
    Adjacency,
    convolve,
    drop,
    drop_edges,
    drop_nodes,
    keep_interactions,
    normalised_adjacency,
    propagate,
    random_walk,
)

USERS, ITEMS = 30, 40


pytestmark = pytest.mark.usefixtures("double")


def interactions(density: float = 0.2) -> sparse.csr_array:
    """A random log in which user 3 and item 5 have nothing."""
    dense = np.random.default_rng(0).random((USERS, ITEMS)) < density
    dense[3], dense[:, 5] = False, False
    return sparse.csr_array(dense.astype(np.float32))


def plain(matrix: np.ndarray) -> Tensor:
    """D^-1/2 [[0, R], [Rᵀ, 0]] D^-1/2 entry by entry, a row of zeros where D is 0."""
    whole = np.block([[np.zeros((USERS, USERS)), matrix], [matrix.T, np.zeros((ITEMS, ITEMS))]])
    degrees = whole.sum(1)
    scale = np.array([0.0 if degree == 0 else degree**-0.5 for degree in degrees])
    return torch.from_numpy(scale[:, None] * whole * scale)


def matrix_of(adjacency: Adjacency) -> np.ndarray:
    """(U, I) ones where the graph has an interaction, read from its users' rows."""
    found = np.zeros((USERS, ITEMS))
    users, items = (ends.numpy() for ends in adjacency.ends())
    found[users, items - USERS] = 1.0
    return found


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_is_the_plain_matrix_and_nodes_without_interactions_have_rows_of_zeros() -> None:
    matrix = interactions()
    dense = normalised_adjacency(matrix).matrix.to_dense()
    torch.testing.assert_close(dense, plain(matrix.toarray()))
    assert torch.equal(dense, dense.T)
    assert not dense[3].any()
    assert not dense[USERS + 5].any()


def test_only_where_entries_stand_is_read_in_whatever_order() -> None:
    matrix = interactions()
    shuffled = matrix.copy()
    for row in range(USERS):
        own = slice(matrix.indptr[row], matrix.indptr[row + 1])
        shuffled.indices[own] = matrix.indices[own][::-1]
    shuffled.data *= 7
    torch.testing.assert_close(normalised_adjacency(sparse.csr_matrix(shuffled)).matrix.to_dense(), plain(matrix.toarray()))


def test_ends_are_the_interactions_in_their_order() -> None:
    matrix = interactions()
    users, items = normalised_adjacency(matrix).ends()
    assert np.array_equal(users.numpy(), np.repeat(np.arange(USERS), np.diff(matrix.indptr)))
    assert np.array_equal(items.numpy() - USERS, matrix.indices)


def test_both_entries_of_an_interaction_have_its_number() -> None:
    adjacency = normalised_adjacency(interactions())
    rows = torch.arange(adjacency.nodes).repeat_interleave(adjacency.starts.diff())
    users, items = adjacency.ends()
    size = adjacency.size
    assert torch.equal(adjacency.interactions[:size], torch.arange(size))
    assert torch.equal(rows[size:], items[adjacency.interactions[size:]])
    assert torch.equal(adjacency.columns[size:], users[adjacency.interactions[size:]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_propagation_is_the_dense_product_with_its_gradient(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    matrix = interactions()
    adjacency, dense = normalised_adjacency(matrix), plain(matrix.toarray()).to(dtype)
    rows = torch.randn(USERS + ITEMS, 7, generator=seeded(), requires_grad=True)
    weights = torch.randn(USERS + ITEMS, 7, generator=seeded(1))
    for layers in (1, 3):
        found = convolve(adjacency, rows, layers)
        expected = [torch.linalg.matrix_power(dense, layer) @ rows for layer in range(layers + 1)]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
        ours, theirs = (torch.autograd.grad((weights * sum(layer)).sum(), rows)[0] for layer in (found, expected))
        torch.testing.assert_close(ours, theirs)


def test_gradcheck() -> None:
    adjacency = normalised_adjacency(interactions())
    rows = torch.randn(USERS + ITEMS, 2, generator=seeded(), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: propagate(adjacency, x), rows)


def test_rows_that_are_not_contiguous_and_half_precision() -> None:
    torch.set_default_dtype(torch.float32)
    adjacency = normalised_adjacency(interactions())
    rows = torch.randn(5, USERS + ITEMS, generator=seeded())
    torch.testing.assert_close(propagate(adjacency, rows.T), adjacency.matrix.to_dense() @ rows.T)
    assert propagate(adjacency, rows.T.bfloat16()).dtype == torch.float32


def test_a_graph_without_interactions_says_nothing() -> None:
    adjacency = normalised_adjacency(sparse.csr_array((2, 3), dtype=np.float32))
    assert adjacency.size == 0
    assert not propagate(adjacency, torch.ones(5, 2)).any()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_edges_are_lost_in_both_directions_and_degrees_counted_anew(rate: float) -> None:
    whole = interactions(0.5)
    adjacency = drop_edges(normalised_adjacency(whole), rate, seeded())
    left = matrix_of(adjacency)
    assert not (left * (1 - whole.toarray())).any()
    assert left.sum() / whole.nnz == pytest.approx(1 - rate, abs=0.05)
    torch.testing.assert_close(adjacency.matrix.to_dense(), plain(left))


def test_a_dropped_graph_can_be_dropped_from_again() -> None:
    adjacency = normalised_adjacency(interactions(0.5))
    once = drop_edges(adjacency, 0.3, seeded(0))
    twice = drop_edges(once, 0.3, seeded(1))
    assert not (matrix_of(twice) * (1 - matrix_of(once))).any()
    torch.testing.assert_close(twice.matrix.to_dense(), plain(matrix_of(twice)))


def test_a_dropped_node_loses_all_its_edges_and_the_others_keep_theirs() -> None:
    whole = normalised_adjacency(interactions(0.5))
    adjacency = drop_nodes(whole, 0.4, seeded())
    stays = torch.rand(USERS + ITEMS, generator=seeded()) >= 0.4
    expected = matrix_of(whole) * stays[:USERS, None].numpy() * stays[USERS:].numpy()
    assert 0 < expected.sum() < matrix_of(whole).sum()
    torch.testing.assert_close(adjacency.matrix.to_dense(), plain(expected))


def test_a_random_walk_has_a_graph_of_its_own_in_each_layer() -> None:
    whole = normalised_adjacency(interactions(0.5))
    first, second = random_walk(whole, 0.3, seeded(), layers=2)
    assert not np.array_equal(matrix_of(first), matrix_of(second))
    rows = torch.randn(USERS + ITEMS, 3, generator=seeded())
    found = convolve([first, second], rows, layers=2)
    torch.testing.assert_close(found[2], plain(matrix_of(second)) @ (plain(matrix_of(first)) @ rows))


@pytest.mark.parametrize("kind", ["edge", "node", "walk"])
def test_one_seed_gives_one_graph_and_nothing_is_lost_at_rate_nought(kind: str) -> None:
    whole = normalised_adjacency(interactions(0.5))
    made = [drop(kind, whole, 0.3, seeded(seed), layers=2) for seed in (0, 0, 1)]
    first, same, other = ([graph] if isinstance(graph, Adjacency) else graph for graph in made)
    assert len(first) == (2 if kind == "walk" else 1)
    assert all(torch.equal(a.columns, b.columns) for a, b in zip(first, same, strict=True))
    assert first[0].columns.tolist() != other[0].columns.tolist()
    whole_again = drop(kind, whole, 0.0, seeded(), layers=1)
    for graph in [whole_again] if isinstance(whole_again, Adjacency) else whole_again:
        torch.testing.assert_close(graph.matrix.to_dense(), whole.matrix.to_dense())


def test_keeping_none_leaves_an_empty_graph() -> None:
    whole = normalised_adjacency(interactions())
    empty = keep_interactions(whole, torch.zeros(whole.size, dtype=torch.bool))
    assert empty.size == 0
    assert not empty.matrix.to_dense().any()


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_outside_the_range_are_refused(rate: float) -> None:
    with pytest.raises(UserError, match=r"drop_rate must lie in \[0, 1\)"):
        drop_edges(normalised_adjacency(interactions()), rate, seeded())


def test_parts_move_together() -> None:
    moved = normalised_adjacency(interactions()).to("meta")
    assert {part.device.type for part in (moved.starts, moved.columns, moved.interactions, moved.values)} == {"meta"}
