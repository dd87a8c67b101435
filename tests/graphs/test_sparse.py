from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyview_graphs.graph import Graph
from anyview_graphs.sparse import NodeRows, masked_linear, select_rows, sparse_linear, token_linear, transposed

from .conftest import random_graph
from .plain import assert_same_gradients, input_factors


def test_rows_and_transpose_are_the_dense_ones(graph: Graph) -> None:
    dense, rows = graph.x.to_dense(), torch.tensor([3, 3, 0, 7])
    assert torch.equal(select_rows(graph.x, rows).to_dense(), dense[rows])
    assert torch.equal(transposed(graph.x).to_dense(), dense.t())


def test_sparse_linear_gradient(graph: Graph) -> None:
    weight = torch.randn(graph.num_features, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: sparse_linear(graph.x, w), (weight,))


def test_token_linear_gradients() -> None:
    keep = (torch.rand(4, 6) < 0.7).double()
    token, weight = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((1, 6), (6, 3)))
    assert torch.autograd.gradcheck(lambda t, w: token_linear(t, w, keep, 1.25), (token, weight))


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("density", [0.06, 0.9])
@pytest.mark.parametrize("noisy", [False, True])
def test_masked_linear_is_dropout_of_the_shown_features_times_the_weight(
    rate: float, density: float, noisy: bool, masks: list[Tensor]
) -> None:
    graph = random_graph(density=density)
    tokens = torch.tensor([2, 5, 6, 11])
    rows = torch.arange(graph.num_nodes).index_copy(0, torch.tensor([4, 8]), torch.tensor([5, 1])) if noisy else None
    token = torch.randn(1, graph.num_features, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(graph.num_features, 6, dtype=torch.float64, requires_grad=True)
    nodes = NodeRows(graph.x, rows, tokens, token)
    ours = masked_linear(nodes, weight, rate)
    plain_rows = nodes.dense()
    if rate:
        values, of_tokens = masks
        if not graph.x.is_sparse_csr:
            values = values.flatten()
        plain_rows = plain_rows * (
            input_factors(plain_rows.detach(), tokens, values, of_tokens)
            if graph.x.is_sparse_csr
            else dense_factors(plain_rows.detach(), tokens, values, of_tokens)
        )
    assert_same_gradients(ours, plain_rows @ weight, {"token": token, "weight": weight})


def dense_factors(rows: Tensor, tokens: Tensor, values: Tensor, of_tokens: Tensor) -> Tensor:
    factors = torch.ones_like(rows)
    others = torch.ones(rows.shape[0], dtype=torch.bool).index_fill(0, tokens, False)
    factors[others] = values.view(-1, rows.shape[1])
    factors[tokens] = of_tokens
    return factors


def test_without_tokens_the_features_are_read_as_they_are(graph: Graph) -> None:
    weight = torch.randn(graph.num_features, 4, dtype=torch.float64)
    rows = torch.arange(graph.num_nodes).flip(0)
    torch.testing.assert_close(masked_linear(NodeRows(graph.x), weight, 0.0), graph.x.to_dense() @ weight)
    torch.testing.assert_close(masked_linear(NodeRows(graph.x, rows), weight, 0.0), graph.x.to_dense().flip(0) @ weight)
