"""Graph layers: attention (GAT), convolution (GCN) and isomorphism (GIN), each with norm and activation, as GraphMAE uses them.

Velickovic et al., Graph Attention Networks, 2018, arXiv 1710.10903. Kipf, Welling, Semi-Supervised Classification with Graph
Convolutional Networks, 2017, arXiv 1609.02907. Xu et al., How Powerful are Graph Neural Networks?, 2019, arXiv 1810.00826.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from anyview.encoders.norm import BatchNorm
from anyview.errors import UserError
from anyview_graphs import dropout
from anyview_graphs.attention import aggregate, attend
from anyview_graphs.dropout import check_rate
from anyview_graphs.graph import Edges
from anyview_graphs.sparse import NodeRows, full_precision, masked_linear

Norm = Literal["none", "layer", "batch"]
Activation = Literal["prelu", "relu", "none"]
Rows = Tensor | NodeRows
"""What a layer reads: (N, in) rows with gradient, or what a graph's nodes show."""


class PReLU(nn.PReLU):
    """nn.PReLU with one parameter; on a CPU its gradient takes two passes instead of a reduction over a tensor of partial gradients."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if input.is_cuda else full_precision(_PReLU, input, self.weight)


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return nn.functional.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        d_slope = torch.dot(gradient.flatten(), x.clamp(max=0.0).flatten()).view(1)
        return torch.ops.aten.leaky_relu_backward(gradient, x, slope.item(), False), d_slope


def make_norm(norm: Norm, width: int) -> nn.Module:
    """A fresh norm over rows of this width."""
    if norm == "none":
        return nn.Identity()
    return nn.LayerNorm(width) if norm == "layer" else BatchNorm(width)


def make_activation(activation: Activation) -> nn.Module:
    """A fresh activation; PReLU has one parameter, 0.25 at first."""
    return {"prelu": PReLU, "relu": nn.ReLU, "none": nn.Identity}[activation]()


def linear(rows: Rows, weight: Tensor, rate: float) -> Tensor:
    """dropout(rows) times weight (in, out), by the cheapest exact form for what the rows are."""
    return masked_linear(rows, weight, rate) if isinstance(rows, NodeRows) else dropout.dropped(rows, rate) @ weight


def linear_and_residual(
    rows: Rows, weight: Tensor, rate: float, *, residual: bool, shortcut: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """dropout(rows) W and what a residual adds: dropout(rows), mapped by `shortcut` (in, out) where there is one; one draw for both."""
    if not residual:
        return linear(rows, weight, rate), None
    if shortcut is not None:
        z, added = linear(rows, torch.cat((weight, shortcut), dim=1), rate).split(weight.shape[1], dim=1)
        return z.contiguous(), added
    shown = dropout.dropped(rows.dense() if isinstance(rows, NodeRows) else rows, rate)
    return shown @ weight, shown


class GraphLayer(nn.Module):
    """Maps (N, in) rows and N nodes' edges to (N, out) rows; `features` and `dim` are in and out.

    input_dropout acts on the rows before the map, in training only.
    """

    def __init__(self, features: int, dim: int, *, input_dropout: float, norm: Norm, activation: Activation) -> None:
        super().__init__()
        self.features, self.dim = features, dim
        self.input_dropout = check_rate("input_dropout", input_dropout)
        self.norm, self.activation = make_norm(norm, dim), make_activation(activation)

    @property
    def rate(self) -> float:
        """The input dropout that applies now."""
        return self.input_dropout if self.training else 0.0

    def forward(self, rows: Rows, edges: Edges) -> Tensor:
        """(N, dim): messages, norm, activation."""
        normed: Tensor = self.activation(self.norm(self.messages(rows, edges)))
        return normed

    def messages(self, rows: Rows, edges: Edges) -> Tensor:
        """(N, dim) before norm and activation."""
        raise NotImplementedError(f"{type(self).__name__} must define messages")


class GraphAttentionLayer(GraphLayer):
    """One layer of graph attention: H heads of width dim / H side by side.

    z = dropout(x) W; e_ij = LeakyReLU_0.2(a_l . z_j + a_r . z_i); softmax over the edges into i; attention dropout; sum; + b; residual.
    residual: adds the dropped input, through a bias-free map where the widths differ. W, the residual's map, a_l and a_r start Xavier
    normal with gain sqrt(2), b at 0. Raises UserError when a node has no incoming edge (it has no attention distribution) and when heads
    do not divide dim.
    """

    def __init__(
        self,
        features: int,
        dim: int,
        *,
        heads: int = 4,
        input_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        residual: bool = False,
        norm: Norm = "none",
        activation: Activation = "prelu",
    ) -> None:
        super().__init__(features, dim, input_dropout=input_dropout, norm=norm, activation=activation)
        if heads < 1 or dim % heads:
            raise UserError(f"{heads} heads were asked for at width {dim}; choose a number of heads that divides the width")
        self.heads, self.attention_dropout, self.residual = heads, check_rate("attention_dropout", attention_dropout), residual
        self.weight = nn.Parameter(torch.empty(features, dim))
        self.source = nn.Parameter(torch.empty(1, heads, dim // heads))
        self.target = nn.Parameter(torch.empty(1, heads, dim // heads))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.shortcut = nn.Parameter(torch.empty(features, dim)) if residual and features != dim else None
        for parameter in (self.weight, self.source, self.target, self.shortcut):
            if parameter is not None:
                nn.init.xavier_normal_(parameter, gain=sqrt(2))

    def messages(self, rows: Rows, edges: Edges) -> Tensor:
        if edges.lonely:
            raise UserError(
                f"{edges.lonely} of {edges.num_nodes} nodes have no incoming edge, and attention needs one; "
                "add self-loops (anyview_graphs.graph.add_self_loops)"
            )
        z, added = linear_and_residual(rows, self.weight, self.rate, residual=self.residual, shortcut=self.shortcut)
        heads = z.reshape(-1, self.heads, self.dim // self.heads)
        repeated = edges.repeated(self.heads)
        left, right = ((heads * vector).sum(-1).flatten() for vector in (self.source, self.target))
        keep = attention_keep(repeated, self.attention_dropout if self.training else 0.0, z)
        out = attend(heads.reshape(-1, heads.shape[-1]), left, right, repeated, keep=keep).view_as(z) + self.bias
        return out if added is None else out + added


class GraphConvolutionLayer(GraphLayer):
    """One layer of graph convolution: A^ dropout(x) W + b, with A^ = D^-1/2 A D^-1/2 of the edges given, self-loops included.

    W starts Xavier uniform, b at 0. Degrees count incoming edges. residual: as in GraphAttentionLayer.
    """

    def __init__(
        self,
        features: int,
        dim: int,
        *,
        input_dropout: float = 0.0,
        residual: bool = False,
        norm: Norm = "none",
        activation: Activation = "prelu",
    ) -> None:
        super().__init__(features, dim, input_dropout=input_dropout, norm=norm, activation=activation)
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(features, dim)))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.residual = residual
        self.shortcut = nn.Parameter(nn.init.xavier_uniform_(torch.empty(features, dim))) if residual and features != dim else None

    def messages(self, rows: Rows, edges: Edges) -> Tensor:
        z, added = linear_and_residual(rows, self.weight, self.rate, residual=self.residual, shortcut=self.shortcut)
        out = aggregate(z, edges, edges.symmetric_weights()) + self.bias
        return out if added is None else out + added


class GraphIsomorphismLayer(GraphLayer):
    """One layer of a graph isomorphism network: MLP(x' + sum over j -> i of x'_j) of x' = dropout(x).

    The MLP is Linear, norm, activation, Linear of one width; norm and activation follow outside it when a norm is set. With self-loops in
    the graph a node counts twice, as published (eps = 0, not learnable).
    """

    def __init__(
        self, features: int, dim: int, *, input_dropout: float = 0.0, norm: Norm = "none", activation: Activation = "prelu"
    ) -> None:
        super().__init__(features, dim, input_dropout=input_dropout, norm=norm, activation=activation if norm != "none" else "none")
        self.first, self.second = nn.Linear(features, dim), nn.Linear(dim, dim)
        self.inner = nn.Sequential(make_norm(norm, dim), make_activation(activation))

    def messages(self, rows: Rows, edges: Edges) -> Tensor:
        z = linear(rows, self.first.weight.t(), self.rate)  # the sum commutes with the map, and sparse rows want the map first
        out: Tensor = self.second(self.inner(z + aggregate(z, edges) + self.first.bias))
        return out


def attention_keep(edges: Edges, rate: float, like: Tensor) -> Tensor | None:
    """(E,) factors of attention dropout: 0, or 1 / (1 - rate); None when nothing is dropped."""
    if rate == 0.0:
        return None
    keep, scale = dropout.keep_mask((len(edges),), rate, like)
    return keep.mul_(scale)
