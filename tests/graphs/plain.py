"""The formulas of the papers, written with dense matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, normalize

from anyview_graphs.graph import Edges, Graph


def shown(graph: Graph) -> Tensor:
    """(N, F) what every node shows, dense."""
    x = graph.x.to_dense()
    return x if graph.rows is None else x[graph.rows]


def adjacency(edges: Edges) -> Tensor:
    """(N, N) bool, [i, j] = there is an edge j -> i."""
    matrix = torch.zeros(edges.num_nodes, edges.num_nodes, dtype=torch.bool)
    matrix[edges.dst, edges.src] = True
    return matrix


def edge_factors(edges: Edges, heads: int, values: Tensor) -> Tensor:
    """(H, N, N) factors of attention dropout, from their values in the order of `edges.repeated(heads)`."""
    repeated = edges.repeated(heads)
    factors = torch.ones(heads, edges.num_nodes, edges.num_nodes, dtype=values.dtype)
    factors[repeated.dst % heads, repeated.dst // heads, repeated.src // heads] = values
    return factors


def attention(z: Tensor, source: Tensor, target: Tensor, edges: Edges, factors: Tensor | float = 1.0) -> Tensor:
    """(N, H d) messages of graph attention. z: (N, H, d). source, target: (H, d). factors: (H, N, N)."""
    scores = leaky_relu((z * target).sum(-1).t().unsqueeze(2) + (z * source).sum(-1).t().unsqueeze(1), 0.2)
    alpha = scores.masked_fill(~adjacency(edges), -torch.inf).softmax(-1) * factors
    return torch.einsum("hij,jhd->ihd", alpha, z).flatten(1)


def scaled_cosine_error(predicted: Tensor, target: Tensor, alpha: float) -> Tensor:
    """The paper's loss."""
    cosine = (normalize(predicted, dim=1, eps=1e-12) * normalize(target, dim=1, eps=1e-12)).sum(1)
    return ((1 - cosine) ** alpha).mean()


def input_factors(rows: Tensor, tokens: Tensor, values: Tensor, of_tokens: Tensor) -> Tensor:
    """(N, F) factors of input dropout, from those of the non-zeros outside the token rows and those of the token rows."""
    factors = torch.ones_like(rows)
    outside = rows.clone()
    outside[tokens] = 0.0
    factors[outside != 0] = values
    factors[tokens] = of_tokens
    return factors


def assert_same_gradients(ours: Tensor, plain: Tensor, parameters: dict[str, Tensor]) -> None:
    """Value and every gradient agree to float64's accuracy."""
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-11)
    weights = torch.randn_like(ours)
    wanted = torch.autograd.grad((plain * weights).sum(), list(parameters.values()), allow_unused=True)
    found = torch.autograd.grad((ours * weights).sum(), list(parameters.values()), allow_unused=True)
    for name, a, b in zip(parameters, found, wanted, strict=True):
        assert a is not None, name
        torch.testing.assert_close(
            a, torch.zeros_like(a) if b is None else b, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )
