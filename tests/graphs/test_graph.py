from __future__ import annotations

import torch

from anyview_graphs.graph import Edges, Graph, add_self_loops, drop_edges

from .conftest import random_graph


def assert_consistent(edges: Edges) -> None:
    nodes = torch.arange(edges.num_nodes)
    assert torch.equal(edges.dst, torch.repeat_interleave(nodes, edges.indptr.diff()))
    assert torch.equal(edges.src[edges.order_t], torch.repeat_interleave(nodes, edges.indptr_t.diff()))
    assert torch.equal(edges.dst[edges.order_t], edges.dst_t)


def pairs(edges: Edges) -> set[tuple[int, int]]:
    return set(map(tuple, edges.index.t().tolist()))


def test_both_orders_describe_the_same_edges(graph: Graph) -> None:
    assert_consistent(graph.edges)


def test_doubled_edges_are_kept_once() -> None:
    graph = Graph.from_edges(torch.tensor([[0, 0, 1], [1, 1, 2]]), torch.ones(3, 1), undirected=True)
    assert pairs(graph.edges) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert graph.num_edges == 4


def test_self_loops_are_one_per_node_whatever_was_there() -> None:
    graph = add_self_loops(add_self_loops(Graph.from_edges(torch.tensor([[0, 1], [0, 0]]), torch.ones(3, 1))))
    assert pairs(graph.edges) == {(0, 0), (1, 1), (2, 2), (1, 0)}
    assert int(graph.edges.loops.sum()) == graph.num_nodes


def test_filtering_equals_building_anew() -> None:
    graph = random_graph(30)
    keep = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(1)) < 0.5
    dropped = drop_edges(graph, keep)
    anew = Edges.of(graph.edges.index[:, keep], graph.num_nodes)
    for name in ("indptr", "src", "dst", "indptr_t", "dst_t", "order_t"):
        assert torch.equal(getattr(dropped.edges, name), getattr(anew, name)), name
    assert dropped.x is graph.x


def test_copies_per_head_keep_both_orders(graph: Graph) -> None:
    repeated = graph.edges.repeated(3)
    assert_consistent(repeated)
    assert pairs(repeated) == {(3 * s + h, 3 * d + h) for s, d in pairs(graph.edges) for h in range(3)}
    assert graph.edges.repeated(3) is repeated
    assert graph.edges.repeated(1) is graph.edges


def test_symmetric_weights_are_the_normalised_adjacency(graph: Graph) -> None:
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    adjacency[graph.edges.dst, graph.edges.src] = 1.0
    scale = adjacency.sum(1).rsqrt()
    wanted = scale[:, None] * adjacency * scale
    torch.testing.assert_close(graph.edges.symmetric_weights(), wanted[graph.edges.dst, graph.edges.src])


def test_features_are_stored_sparse_only_when_few_are_there() -> None:
    assert random_graph(density=0.05).x.is_sparse_csr
    assert not random_graph(density=0.5).x.is_sparse_csr


def test_moving_keeps_structure_and_changes_type(graph: Graph) -> None:
    moved = graph.to("cpu", dtype=torch.float32)
    assert moved.x.dtype == torch.float32
    assert torch.equal(moved.edges.src, graph.edges.src)
