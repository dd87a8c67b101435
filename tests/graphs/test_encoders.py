from __future__ import annotations

import pytest
import torch

from anyview.views.view import Mask, View
from anyview_graphs.encoders import GraphAttention, GraphConvolution, GraphEncoder, GraphIsomorphism
from anyview_graphs.graph import Graph

from .conftest import random_graph

KINDS = [GraphAttention, GraphConvolution, GraphIsomorphism]


def masked(graph: Graph, *nodes: int) -> View:
    return View(graph, mask=Mask(torch.zeros(graph.num_nodes, dtype=torch.bool).index_fill(0, torch.tensor(nodes), True)))


def small(kind: type[GraphEncoder], graph: Graph, **options: object) -> GraphEncoder:
    torch.manual_seed(0)
    return kind(graph.num_features, hidden=8, **options).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_rows_and_layers(kind: type[GraphEncoder], norm: str, graph: Graph) -> None:
    encoder = small(kind, graph, layers=3, norm=norm)
    encoding = encoder(View(graph))
    assert encoder.dim == 8
    assert encoding.rows.shape == (graph.num_nodes, 8)
    assert [tuple(layer.shape) for layer in encoding.layers] == 3 * [(graph.num_nodes, 8)]
    assert encoding.rows is encoding.layers[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", [0.06, 0.9])
def test_hidden_features_do_not_matter(kind: type[GraphEncoder], density: float) -> None:
    graph, other = random_graph(density=density), random_graph(density=density)
    values = other.x.values() if other.x.is_sparse_csr else other.x
    if other.x.is_sparse_csr:
        start, end = other.x.crow_indices()[[3, 5]].tolist()
        values[start:end] = torch.nan
    else:
        values[3:5] = torch.nan
    encoder = small(kind, graph).eval()
    torch.testing.assert_close(encoder(masked(other, 3, 4)).rows, encoder(masked(graph, 3, 4)).rows)
    assert not torch.allclose(encoder(View(graph)).rows, encoder(masked(graph, 3, 4)).rows)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_nodes_show_the_token(kind: type[GraphEncoder], graph: Graph) -> None:
    encoder = small(kind, graph).eval()
    with torch.no_grad():
        encoder.token.normal_()
    x = graph.x.to_dense().index_copy(0, torch.tensor([3, 4]), encoder.token.detach().expand(2, -1))
    torch.testing.assert_close(encoder(masked(graph, 3, 4)).rows, encoder(View(Graph(x, graph.edges))).rows)


def test_without_dropout_training_equals_evaluation(graph: Graph) -> None:
    encoder = small(GraphAttention, graph, input_dropout=0.0, attention_dropout=0.0)
    torch.testing.assert_close(encoder(View(graph)).rows, encoder.eval()(View(graph)).rows)


def test_one_layer_still_ends_in_an_activation(graph: Graph) -> None:
    encoder = small(GraphAttention, graph, layers=1, activation="relu").eval()
    assert encoder(View(graph)).rows.min() == 0.0


def test_coras_encoder_has_the_published_number_of_parameters() -> None:
    first, second = GraphAttention(1433).layers
    counts = [sum(parameter.numel() for parameter in layer.parameters()) for layer in (first, second)]
    assert counts == [735_232 + 1, 263_680 + 1]
    assert GraphAttention(1433).token.numel() == 1433
    assert not GraphAttention(1433).token.any()
