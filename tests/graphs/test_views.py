from __future__ import annotations

import pytest
import torch

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_graphs.graph import Graph
from anyview_graphs.views import MaskNodes

from .conftest import random_graph


def view_of(graph: Graph, maker: MaskNodes, seed: int = 0) -> View:
    return maker(Batch(graph, rows=graph.num_nodes), Draws.seeded(seed, total=graph.num_nodes)).views[0]


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("replace_rate", [0.0, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("nodes", [5, 47, 200])
def test_counts_follow_the_two_floors(rate: float, replace_rate: float, nodes: int) -> None:
    graph = random_graph(nodes, density=0.9)
    view = view_of(graph, MaskNodes(rate, replace_rate=replace_rate))
    hidden, tokens = view.mask.hidden, view.mask.replaced
    noise = 0 if view.data.rows is None else int((view.data.rows != torch.arange(nodes)).sum())
    count = int(rate * nodes)
    assert int(hidden.sum()) == count
    assert int(tokens.sum()) == int((1 - replace_rate) * count)
    assert noise <= int(replace_rate * count)  # a node may draw itself
    assert count - 1 <= int(tokens.sum()) + int(replace_rate * count) <= count
    assert not (tokens & ~hidden).any()


def test_noise_rows_are_other_nodes_original_rows_and_never_tokens() -> None:
    graph = random_graph(200, density=0.9)
    view = view_of(graph, MaskNodes(0.5, replace_rate=0.4))
    changed = view.data.rows != torch.arange(200)
    assert 35 <= int(changed.sum()) <= 40
    assert bool((view.mask.hidden & ~view.mask.replaced)[changed].all())
    assert view.data.rows[changed].unique().numel() == int(changed.sum())  # without replacement
    assert view.data.x is graph.x


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_the_target_is_what_stood_there_dense_and_left_out_on_request(density: float) -> None:
    graph = random_graph(40, 60, density=density)
    assert graph.x.is_sparse_csr == (density < 0.1)
    view = view_of(graph, MaskNodes(0.5, replace_rate=0.2))
    assert torch.equal(view.target, graph.x.to_dense() if density < 0.1 else graph.x)
    assert view_of(graph, MaskNodes(0.5, target=False)).target is None
    assert (MaskNodes().gives.targets, MaskNodes(target=False).gives.targets) == (True, False)
    shown = Graph(graph.x, graph.edges, rows=torch.arange(40).flip(0))
    assert torch.equal(shown.features(), view.target.flip(0))


def test_a_share_that_floors_to_no_noise_replaces_nothing() -> None:
    view = view_of(random_graph(8, density=0.9), MaskNodes(0.5, replace_rate=0.1))
    assert torch.equal(view.data.rows, torch.arange(8))
    assert int(view.mask.replaced.sum()) == 3
    assert int(view.mask.hidden.sum()) == 4


def test_dropped_edges_leave_one_loop_per_node_and_the_target_whole() -> None:
    graph = random_graph(60, density=0.9)
    view = view_of(graph, MaskNodes(0.5, drop_edge=0.5))
    between, kept = (int((~edges.loops).sum()) for edges in (graph.edges, view.data.edges))
    assert int(view.data.edges.loops.sum()) == 60
    assert abs(kept - between / 2) < 4 * (between / 4) ** 0.5
    assert torch.equal(view.target, graph.x)


def test_one_seed_gives_one_view_and_another_seed_another(graph: Graph) -> None:
    maker = MaskNodes(0.5, replace_rate=0.2, drop_edge=0.3)
    first, same, other = (view_of(graph, maker, seed) for seed in (0, 0, 1))
    assert torch.equal(first.mask.hidden, same.mask.hidden)
    assert torch.equal(first.data.edges.index, same.data.edges.index)
    assert not torch.equal(first.mask.hidden, other.mask.hidden)


@pytest.mark.parametrize("rate", [0.0, 1.0, 1.5, -0.1])
def test_rates_outside_the_range_are_refused(rate: float) -> None:
    with pytest.raises(UserError, match="mask_rate must lie between 0 and 1"):
        MaskNodes(rate)


def test_a_rate_that_hides_nothing_is_refused(graph: Graph) -> None:
    with pytest.raises(UserError, match=r"mask_rate 0.01 hides none of 14 nodes"):
        view_of(graph, MaskNodes(0.01))
