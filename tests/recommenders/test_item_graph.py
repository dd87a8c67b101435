"""Graphs of items against dense matrices, and what is near what against loops over sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from anyview.testing import check_encoder
from anyview.views.view import View
from anyview_recommenders.histories import Histories
from anyview_recommenders.item_graph import ItemGraph, near_in_sequences, similar_items, with_loops
from anyview_recommenders.item_graph_encoders import GraphItemTransformer
from anyview_recommenders.masked_graph import hide_around

from .test_sequences import DIM, ITEMS, LENGTH, LOG, source


def near(distance: int = 1) -> sparse.csr_array:
    return near_in_sequences(source().training, ITEMS, distance)


def normalised(weights: np.ndarray, *, both: bool) -> Tensor:
    sums = weights.sum(1)
    scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
    return torch.from_numpy(scale[:, None] ** 0.5 * weights * scale**0.5 if both else scale[:, None] * weights)


@pytest.mark.parametrize("distance", [1, 3])
def test_items_are_counted_together_within_a_distance_in_training_alone(distance: int) -> None:
    counts, histories = np.zeros((ITEMS, ITEMS)), source().training
    for user in range(LOG.users):
        own = histories.items[histories.starts[user] : histories.starts[user + 1]].tolist()
        for place, item in enumerate(own):
            for other in own[place + 1 : place + 1 + distance]:
                counts[item, other] += 1
                counts[other, item] += 1
    assert np.array_equal(near(distance).toarray(), counts)


def test_histories_shorter_than_the_distance_have_no_neighbours_beyond_them() -> None:
    histories = Histories(torch.tensor([0, 1, 3]), torch.tensor([2, 0, 1]), torch.zeros(3), 4)
    assert near_in_sequences(histories, 3, 5).toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_similar_items_have_the_largest_cosines() -> None:
    matrix = LOG.matrix().toarray().astype(float)
    lengths = np.sqrt(matrix.sum(0))
    cosines = matrix.T @ matrix / np.outer(lengths, lengths)
    np.fill_diagonal(cosines, 0)
    found = similar_items(LOG.matrix(), 4).toarray()
    assert (np.count_nonzero(found, axis=1) <= 4).all()
    np.testing.assert_allclose(found[found > 0], cosines[found > 0], rtol=1e-5)
    np.testing.assert_allclose(np.sort(found, 1)[:, -4:], np.sort(cosines, 1)[:, -4:], rtol=1e-5)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("both", [True, False])
def test_products_are_those_of_the_normalised_matrix(both: bool) -> None:
    weights = near().toarray()
    weights[4], weights[:, 4] = 0, 0
    graph, rows = ItemGraph(with_loops(sparse.csr_array(weights)), both=both), torch.randn(ITEMS, DIM, requires_grad=True)
    dense = normalised(weights + np.eye(ITEMS), both=both)
    torch.testing.assert_close(graph(rows), dense @ rows, rtol=1e-10, atol=1e-12)
    [first, _second, third] = graph.layers(rows, 2)
    assert first is rows
    torch.testing.assert_close(third, dense @ dense @ rows, rtol=1e-10, atol=1e-12)
    ours, theirs = (torch.autograd.grad(made.square().sum(), rows)[0] for made in (graph.layers(rows, 2)[2], dense @ dense @ rows))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    without = torch.where(graph.loops, 0.0, graph.weights)
    torch.testing.assert_close(graph(rows, without), normalised(weights, both=both) @ rows, rtol=1e-10, atol=1e-12)
    assert not graph(rows, without)[4].any()


@pytest.mark.parametrize("both", [True, False])
def test_edges_are_dropped_both_ways_and_loops_stay(both: bool) -> None:
    graph = ItemGraph(with_loops(near()), both=both)
    kept = graph.dropped(0.4, torch.Generator().manual_seed(0))
    assert torch.equal(kept[graph.loops], graph.weights[graph.loops])
    matrix = graph.pattern.matrix(kept).to_dense()
    assert torch.equal(matrix, matrix.T) == both
    assert float((kept > 0)[~graph.loops].float().mean()) == pytest.approx(0.6, abs=0.1)
    assert torch.equal(graph.dropped(0.0, torch.Generator()), graph.weights)
    assert torch.equal(graph.numbers(graph.pattern.rows, graph.pattern.columns), torch.arange(len(kept)))


def test_paths_go_on_from_a_share_of_what_they_reached() -> None:
    graph = ItemGraph(with_loops(near()))
    ends, seeds = (graph.pattern.rows, graph.pattern.columns), torch.tensor([3, 8])

    def stays(depth: int, share: float = 1.0) -> Tensor:
        return hide_around(ends, ITEMS, seeds, depth, share=share, generator=torch.Generator().manual_seed(0))[0]

    at_seeds = torch.isin(ends[0], seeds) | torch.isin(ends[1], seeds)
    assert torch.equal(stays(1, 0.5), ~at_seeds)
    assert torch.equal(stays(3), hide_around(ends, ITEMS, seeds, 3)[0])
    assert torch.equal(stays(3, 0.0), stays(1))
    assert stays(1).sum() > stays(2, 0.3).sum() > stays(2).sum()


@pytest.mark.usefixtures("double")
def test_items_of_a_transformer_are_the_sum_of_the_graphs_layers() -> None:
    made = GraphItemTransformer(with_loops(near()), DIM, convolutions=2, length=LENGTH, heads=2, drop=0.0).eval()
    dense, embedding = normalised(near().toarray() + np.eye(ITEMS), both=True), made.table[1:-1]
    rows = embedding + dense @ embedding + dense @ dense @ embedding
    torch.testing.assert_close(made.item_rows(), rows, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(made(View({"items": torch.tensor([7, 2])})).rows, rows[[7, 2]], rtol=1e-10, atol=1e-12)
    sequence = torch.tensor([[0, 3, 9, 1]])
    table = torch.cat([made.table[:1], rows, made.table[-1:]])
    torch.testing.assert_close(made(View({"sequence": sequence})).tokens, made.states(sequence, table), rtol=1e-10, atol=1e-12)
    alone = made(View({"sequence": sequence, "weights": torch.where(made.graph.loops, 1.0, 0.0)}))
    torch.testing.assert_close(alone.table[2], embedding)
    assert not torch.allclose(alone.tokens, made(View({"sequence": sequence})).tokens)


def test_the_encoder_keeps_the_contract_and_more_padding_changes_nothing() -> None:
    made = GraphItemTransformer(with_loops(near()), DIM, length=LENGTH, heads=2, drop=0.0)
    check_encoder(made, View({"sequence": torch.randint(1, ITEMS + 1, (5, LENGTH))}))
    short, padded = (torch.tensor([row]) for row in ([3, 1, 7], [0, 0, 3, 1, 7]))
    torch.testing.assert_close(made(View({"sequence": short})).rows, made(View({"sequence": padded})).rows)
