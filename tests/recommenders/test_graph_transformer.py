"""Graphs with loops, attention along edges, positions, and the encoder of them, against dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyview.testing import check_encoder
from anyview.views.view import View
from anyview_recommenders.graph_attention import GraphAttention
from anyview_recommenders.graph_transformer import LoopedGraph, TransformerConvolution, closeness, interaction_keys, placed

from .plain import DIM, ITEMS, USERS, small_log

NODES = USERS + ITEMS


pytestmark = pytest.mark.usefixtures("double")


def edges(seed: int = 0, count: int = 60) -> Tensor:
    """Random keys, some of them twice and not both ways."""
    return torch.randint(NODES**2, (count,), generator=torch.Generator().manual_seed(seed))


def dense(keys: Tensor) -> Tensor:
    """The matrix of ones at keys and on the diagonal."""
    matrix = torch.eye(NODES)
    for key in keys.tolist():
        matrix[key // NODES, key % NODES] = 1
    return matrix


def normalised(keys: Tensor) -> Tensor:
    matrix = dense(keys)
    scale = matrix.sum(1) ** -0.5
    return scale[:, None] * matrix * scale[None, :]


def attended(made: GraphAttention, keys: Tensor, rows: Tensor) -> Tensor:
    """Attention of each head over the matrix of edges, written with all pairs."""
    found = []
    for part in torch.arange(DIM).chunk(made.heads):
        query, key, value = (rows @ side.weight[part].T for side in (made.query, made.key, made.value))
        powers = torch.exp((query @ key.T).clamp(-10, 10)) * dense(keys)
        found.append(powers / powers.sum(1, keepdim=True) @ value)
    return torch.cat(found, 1)


def test_a_graph_has_its_edges_once_and_every_node_to_itself() -> None:
    graph, rows = LoopedGraph(edges(), NODES), torch.randn(NODES, DIM)
    torch.testing.assert_close(graph(rows), normalised(edges()) @ rows)
    assert graph.keys.tolist() == sorted({*edges().tolist(), *(node * NODES + node for node in range(NODES))})


def test_interactions_stand_both_ways() -> None:
    matrix = torch.zeros(NODES, NODES)
    matrix[:USERS, USERS:] = torch.from_numpy(small_log().toarray()).double()
    torch.testing.assert_close(dense(interaction_keys(small_log())), matrix + matrix.T + torch.eye(NODES))


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_attention_is_the_softmax_of_clamped_products_along_edges(scale: float) -> None:
    made, rows = GraphAttention(DIM, heads=2), scale * torch.randn(NODES, DIM)
    rows.requires_grad_()
    graph = LoopedGraph(edges(), NODES)
    found, expected = made(graph.pattern, rows), attended(made, edges(), rows)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn(NODES, DIM)
    inputs = [rows, *made.parameters()]
    for ours, theirs in zip(*(torch.autograd.grad((one * weight).sum(), inputs) for one in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_closeness_falls_with_the_steps_of_the_shortest_way() -> None:
    graph, anchors = LoopedGraph(interaction_keys(small_log()), NODES), torch.tensor([3, 0, USERS])  # user 3 has nothing
    reached, expected = torch.eye(NODES), torch.zeros(NODES, NODES)
    for steps in range(NODES):
        expected = torch.where((expected == 0) & (reached > 0), 1 / (1 + steps), expected)
        reached = (dense(interaction_keys(small_log())) @ reached > 0).double()
    found = closeness(graph, anchors)
    torch.testing.assert_close(found, expected[:, anchors])
    assert found[:, 0].nonzero().flatten().tolist() == [3]


def test_a_position_is_the_mean_over_anchors() -> None:
    rows, anchors, close = torch.randn(NODES, DIM), torch.tensor([4, 1, 9]), torch.rand(NODES, 3)
    expected = torch.stack([rows[v] + torch.stack([close[v, k] * rows[a] for k, a in enumerate(anchors)]).mean(0) for v in range(NODES)])
    torch.testing.assert_close(placed(rows, anchors, close), expected)


def encoder() -> TransformerConvolution:
    return TransformerConvolution(small_log(), DIM, layers=2, heads=2, deviation=1.0)


def test_rows_are_the_sum_of_embeddings_layers_and_attention_over_the_whole_graph() -> None:
    made = encoder()
    matrix, nodes = normalised(interaction_keys(small_log())), torch.tensor([3, USERS, 0])
    layers = [made.embedding, matrix @ made.embedding, matrix @ matrix @ made.embedding]
    layers.append(attended(made.attend, interaction_keys(small_log()), layers[-1]))
    found = made(View({"nodes": nodes}))
    torch.testing.assert_close(found.rows, sum(layers)[nodes])
    for ours, theirs in zip(found.layers, layers, strict=True):
        torch.testing.assert_close(ours, theirs[nodes])


def test_a_view_may_bring_graphs() -> None:
    made = encoder()
    shown = {"graph": LoopedGraph(edges(1), NODES), "decoder": LoopedGraph(edges(2), NODES)}
    layers = [made.embedding, normalised(edges(1)) @ made.embedding]
    layers.append(normalised(edges(1)) @ layers[-1])
    layers.append(attended(made.attend, edges(2), layers[-1]))
    torch.testing.assert_close(made(View({"nodes": torch.arange(NODES), **shown})).rows, sum(layers))


def test_other_graphs_give_rows_beside_the_layers() -> None:
    made, layers = encoder(), [torch.randn(NODES, DIM) for _ in range(2)]
    attention = attended(made.attend, edges(1), made.embedding)
    expected = made.embedding + 0.1 * attention + normalised(edges(1)) @ layers[0] + normalised(edges(1)) @ layers[1]
    torch.testing.assert_close(made.beside(LoopedGraph(edges(1), NODES), layers), expected)


def test_the_encoder_keeps_its_contract() -> None:
    torch.set_default_dtype(torch.float32)
    check_encoder(encoder(), View({"nodes": torch.arange(NODES)}))
