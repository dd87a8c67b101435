from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv

from anyview.errors import UserError
from anyview_graphs.graph import Edges, Graph
from anyview_graphs.layers import GraphAttentionLayer, GraphConvolutionLayer, GraphIsomorphismLayer, GraphLayer, PReLU
from anyview_graphs.sparse import NodeRows

from .plain import assert_same_gradients

KINDS = {"gat": GraphAttentionLayer, "gcn": GraphConvolutionLayer, "gin": GraphIsomorphismLayer}


def layer_of(kind: str, features: int, dim: int, **options: object) -> GraphLayer:
    torch.manual_seed(0)
    layer = KINDS[kind](features, dim, **options).double()
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    return layer


def rows_of(graph: Graph, width: int = 6) -> Tensor:
    return torch.randn(graph.num_nodes, width, dtype=torch.float64, requires_grad=True)


def test_attention_is_torch_geometrics(graph: Graph) -> None:
    layer, x = layer_of("gat", 6, 8, heads=4, activation="none"), rows_of(graph)
    theirs = GATConv(6, 2, heads=4, add_self_loops=False).double()
    theirs.lin.weight, theirs.bias = nn.Parameter(layer.weight.detach().t()), nn.Parameter(layer.bias.detach())
    theirs.att_src, theirs.att_dst = layer.source, layer.target
    own = {"x": x, "source": layer.source, "target": layer.target}
    assert_same_gradients(layer(x, graph.edges), theirs(x, graph.edges.index), own)


def test_convolution_is_torch_geometrics(graph: Graph) -> None:
    layer, x = layer_of("gcn", 6, 8, activation="none"), rows_of(graph)
    theirs = GCNConv(6, 8, add_self_loops=False).double()
    theirs.lin.weight, theirs.bias = nn.Parameter(layer.weight.detach().t()), layer.bias
    ours = layer(x, graph.edges)
    plain = theirs(x, graph.edges.index, torch.ones(graph.num_edges, dtype=torch.float64))
    assert_same_gradients(ours, plain, {"x": x, "bias": layer.bias})


def test_isomorphism_is_torch_geometrics(graph: Graph) -> None:
    layer, x = layer_of("gin", 6, 8, norm="layer"), rows_of(graph)
    theirs = GINConv(nn.Sequential(layer.first, layer.inner, layer.second), eps=0.0)
    parameters = {"x": x, **dict(layer.first.named_parameters()), "second": layer.second.weight}
    assert_same_gradients(layer(x, graph.edges), layer.activation(layer.norm(theirs(x, graph.edges.index))), parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_permuted_nodes_give_permuted_rows(kind: str, graph: Graph) -> None:
    layer, x, order = layer_of(kind, 6, 8).float(), rows_of(graph).float(), torch.randperm(graph.num_nodes)
    moved = Edges.of(order.argsort()[graph.edges.index], graph.num_nodes)
    torch.testing.assert_close(layer(x[order], moved), layer(x, graph.edges)[order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gat", "gcn"])
@pytest.mark.parametrize("width", [6, 8])
def test_residual_adds_the_dropped_input(kind: str, width: int, graph: Graph, masks: list[Tensor]) -> None:
    layer, x = layer_of(kind, width, 8, residual=True, input_dropout=0.5, activation="none"), rows_of(graph, width)
    out = layer(x, graph.edges)
    shown = x * masks[0]
    layer.eval().residual = False
    added = shown if layer.shortcut is None else shown @ layer.shortcut
    assert (layer.shortcut is None) == (width == 8)
    torch.testing.assert_close(out, layer(shown, graph.edges) + added)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_features_give_what_dense_ones_give(kind: str, graph: Graph) -> None:
    layer = layer_of(kind, graph.num_features, 8)
    sparse, dense = NodeRows(graph.x), graph.x.to_dense()
    assert_same_gradients(layer(sparse, graph.edges), layer(dense, graph.edges), dict(layer.named_parameters()))


def test_residual_over_sparse_features_of_the_layers_own_width(graph: Graph) -> None:
    layer = layer_of("gat", graph.num_features, graph.num_features, residual=True, heads=2)
    torch.testing.assert_close(layer(NodeRows(graph.x), graph.edges), layer(graph.x.to_dense(), graph.edges))


def test_every_layer_ends_in_norm_and_activation(graph: Graph) -> None:
    layer, x = layer_of("gat", 6, 8, norm="layer", activation="relu"), rows_of(graph)
    normed = nn.functional.layer_norm(layer.messages(x, graph.edges), (8,), layer.norm.weight, layer.norm.bias)
    torch.testing.assert_close(layer(x, graph.edges), normed.relu())
    assert layer_of("gat", 6, 8).activation.weight.tolist() == [0.25]


def test_the_shared_slopes_gradient_is_torchs() -> None:
    ours, plain, x = PReLU().double(), nn.PReLU().double(), torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    plain.weight = ours.weight
    assert_same_gradients(ours(x), plain(x), {"x": x, "slope": ours.weight})


def test_start_has_the_published_spread() -> None:
    torch.manual_seed(0)
    layer = GraphAttentionLayer(300, 400, heads=4)
    assert abs(float(layer.weight.std()) / (2 * 2 / 700) ** 0.5 - 1) < 0.02
    vectors = torch.cat([GraphAttentionLayer(1, 400, heads=4).source.flatten() for _ in range(20)])
    assert abs(float(vectors.std()) / (2 * 2 / (5 * 100)) ** 0.5 - 1) < 0.05
    assert not layer.bias.any()


def test_a_node_without_incoming_edge_is_reported() -> None:
    with pytest.raises(UserError, match="1 of 2 nodes have no incoming edge"):
        GraphAttentionLayer(3, 4)(torch.ones(2, 3), Edges.of(torch.tensor([[0], [1]]), 2))


def test_heads_divide_the_width() -> None:
    with pytest.raises(UserError, match="5 heads were asked for at width 8"):
        GraphAttentionLayer(3, 8, heads=5)
