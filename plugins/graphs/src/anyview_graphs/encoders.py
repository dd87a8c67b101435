"""Graph encoders: layers of one kind on what a view's nodes show, with the mask token that hidden nodes show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.views.view import View
from anyview_graphs.graph import Graph
from anyview_graphs.layers import Activation, GraphAttentionLayer, GraphConvolutionLayer, GraphIsomorphismLayer, GraphLayer, Norm, Rows
from anyview_graphs.sparse import NodeRows

EncoderKind = Literal["gat", "gcn", "gin"]


class GraphEncoder(Encoder):
    """Graph layers in a row, and the learnable mask token (1, F), zeros at first.

    Reads view.data, a Graph, and view.mask: nodes in `mask.replaced` show the token, all others what the graph's rows say. The
    encoding's rows are the last layer's output, (N, dim); its `layers` are the outputs of all layers.

    >>> encoder = GraphEncoder([GraphAttentionLayer(5, 8, heads=2), GraphAttentionLayer(8, 8, heads=2)])
    >>> encoder.dim, encoder.token.shape
    (8, torch.Size([1, 5]))
    """

    masks = ("token",)

    def __init__(self, layers: Sequence[GraphLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dim = layers[-1].dim
        self.token = nn.Parameter(torch.zeros(1, layers[0].features))

    def forward(self, view: View) -> Encoding:
        graph: Graph = view.data
        tokens = None if view.mask is None else view.mask.replaced.nonzero().flatten()
        rows: Rows = NodeRows(graph.x, graph.rows, tokens, self.token)
        outputs: list[Tensor] = []
        for layer in self.layers:
            outputs.append(layer(rows, graph.edges))
            rows = outputs[-1]
        return Encoding(outputs[-1], layers=outputs)


class GraphAttention(GraphEncoder):
    """Graph attention layers, each of `heads` heads of width hidden / heads, each ending in norm and activation.

    features: F of the graph. hidden: width of every layer's output, dim. layers, heads: how many. input_dropout: on every layer's input.
    attention_dropout: on the attention weights. norm, activation, residual: of every layer.
    """

    def __init__(
        self,
        features: int,
        *,
        hidden: int = 512,
        layers: int = 2,
        heads: int = 4,
        input_dropout: float = 0.2,
        attention_dropout: float = 0.1,
        norm: Norm = "none",
        residual: bool = False,
        activation: Activation = "prelu",
    ) -> None:
        super().__init__(
            [
                GraphAttentionLayer(
                    width,
                    hidden,
                    heads=heads,
                    input_dropout=input_dropout,
                    attention_dropout=attention_dropout,
                    residual=residual,
                    norm=norm,
                    activation=activation,
                )
                for width in _widths(features, hidden, layers)
            ]
        )


class GraphConvolution(GraphEncoder):
    """Graph convolution layers of width hidden, each ending in norm and activation; parameters as in GraphAttention."""

    def __init__(
        self,
        features: int,
        *,
        hidden: int = 512,
        layers: int = 2,
        input_dropout: float = 0.2,
        norm: Norm = "none",
        residual: bool = False,
        activation: Activation = "prelu",
    ) -> None:
        super().__init__(
            [
                GraphConvolutionLayer(width, hidden, input_dropout=input_dropout, residual=residual, norm=norm, activation=activation)
                for width in _widths(features, hidden, layers)
            ]
        )


class GraphIsomorphism(GraphEncoder):
    """Graph isomorphism layers of width hidden; parameters as in GraphAttention. Published for whole graphs, with batch norm."""

    def __init__(
        self,
        features: int,
        *,
        hidden: int = 512,
        layers: int = 2,
        input_dropout: float = 0.2,
        norm: Norm = "batch",
        activation: Activation = "prelu",
    ) -> None:
        super().__init__(
            [
                GraphIsomorphismLayer(width, hidden, input_dropout=input_dropout, norm=norm, activation=activation)
                for width in _widths(features, hidden, layers)
            ]
        )


def make_encoder(
    kind: EncoderKind,
    features: int,
    *,
    hidden: int,
    layers: int,
    heads: int,
    norm: Norm,
    input_dropout: float,
    attention_dropout: float = 0.0,
    residual: bool = False,
    activation: Activation = "prelu",
) -> GraphEncoder:
    """The encoder of this kind; heads and attention_dropout are read by "gat". Raises UserError for a residual around "gin" layers."""
    shared: dict[str, Any] = {"hidden": hidden, "layers": layers, "norm": norm, "input_dropout": input_dropout, "activation": activation}
    if kind == "gat":
        return GraphAttention(features, heads=heads, attention_dropout=attention_dropout, residual=residual, **shared)
    if kind == "gcn":
        return GraphConvolution(features, residual=residual, **shared)
    if residual:
        raise UserError("--residual was asked for, and GIN layers have none; leave it out, or choose --encoder gat or gcn")
    return GraphIsomorphism(features, **shared)


def _widths(features: int, hidden: int, layers: int) -> list[int]:
    """Input width of every layer."""
    if layers < 1 or hidden < 1:
        raise UserError(
            f"a graph encoder needs at least one layer of width 1, and {layers} layers of width {hidden} were asked for; give more"
        )
    return [features] + [hidden] * (layers - 1)
