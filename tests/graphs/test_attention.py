from __future__ import annotations

import torch

from anyview_graphs.attention import aggregate, attend, edge_softmax
from anyview_graphs.graph import Edges, Graph

from .plain import adjacency, assert_same_gradients, attention, edge_factors


def test_gradients_of_attend(graph: Graph) -> None:
    edges = graph.edges.filtered(torch.arange(graph.num_edges) % 3 > 0)
    z = torch.randn(graph.num_nodes, 3, dtype=torch.float64, requires_grad=True)
    left, right = (torch.randn(graph.num_nodes, dtype=torch.float64, requires_grad=True) for _ in range(2))
    keep = 1.5 * (torch.rand(len(edges)) < 0.7).double()
    assert torch.autograd.gradcheck(lambda *inputs: attend(*inputs, edges, keep=keep), (z, left, right))
    assert torch.autograd.gradcheck(lambda *inputs: attend(*inputs, edges), (z, left, right))


def test_all_heads_in_one_product_are_the_dense_form(graph: Graph) -> None:
    heads, width, nodes = 3, 4, graph.num_nodes
    z = torch.randn(nodes, heads, width, dtype=torch.float64, requires_grad=True)
    source, target = (torch.randn(heads, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    repeated = graph.edges.repeated(heads)
    keep = 1.25 * (torch.rand(len(repeated)) < 0.8).double()
    left, right = (z * source).sum(-1).flatten(), (z * target).sum(-1).flatten()
    ours = attend(z.reshape(-1, width), left, right, repeated, keep=keep).view(nodes, -1)
    plain = attention(z, source, target, graph.edges, edge_factors(graph.edges, heads, keep))
    assert_same_gradients(ours, plain, {"z": z, "source": source, "target": target})


def test_softmax_sums_to_one_and_stands_large_scores(graph: Graph) -> None:
    scores = 1e4 * torch.randn(graph.num_edges)
    alpha = edge_softmax(scores, graph.edges)
    total = torch.zeros(graph.num_nodes).index_add(0, graph.edges.dst, alpha)
    torch.testing.assert_close(total, torch.ones(graph.num_nodes))


def test_nodes_without_incoming_edges_get_zero() -> None:
    edges = Edges.of(torch.tensor([[0], [1]]), 3)
    out = attend(torch.ones(3, 2), torch.zeros(3), torch.zeros(3), edges)
    assert out.tolist() == [[0, 0], [1, 1], [0, 0]]


def test_aggregate_is_the_adjacency_product(graph: Graph) -> None:
    z = torch.randn(graph.num_nodes, 4, dtype=torch.float64, requires_grad=True)
    matrix = adjacency(graph.edges).double()
    assert_same_gradients(aggregate(z, graph.edges), matrix @ z, {"z": z})
    weights = torch.rand(graph.num_edges, dtype=torch.float64)
    matrix[graph.edges.dst, graph.edges.src] = weights
    assert_same_gradients(aggregate(z, graph.edges, weights), matrix @ z, {"z": z})
