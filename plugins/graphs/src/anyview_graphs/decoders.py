"""Decoders that rebuild node features: a graph layer, or none, then one linear map that is only taken where it is read.

The map from D to F is the most expensive part of a masked graph autoencoder. Every decoder here is split before it: `codes` gives what the
map reads, at the hidden nodes alone, and `weight` (F, D) and `bias` (F,) are the map. For attention with one head this is exact, because
sum_j alpha_ij (W z_j) = W (sum_j alpha_ij z_j), and a . (W z_j) = z_j . (W' a) gives the scores.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from anyview_graphs import dropout
from anyview_graphs.attention import aggregate, attend
from anyview_graphs.dropout import check_rate
from anyview_graphs.graph import Edges
from anyview_graphs.layers import Norm, PReLU, attention_keep, make_activation, make_norm

DecoderKind = Literal["gat", "gcn", "gin", "mlp", "linear"]


class Decoder(nn.Module):
    """From rows of width `dim` at the nodes a decoder may see to rows at the nodes that are to be rebuilt.

    remask: whether hidden nodes' rows are zero to it (graph decoders), or the only ones that it reads (mlp, linear).
    """

    remask = True

    def __init__(self, dim: int, features: int, *, input_dropout: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(features, dim)), nn.Parameter(torch.zeros(features))
        self.input_dropout = check_rate("input_dropout", input_dropout)

    @property
    def rate(self) -> float:
        """The input dropout that applies now."""
        return self.input_dropout if self.training else 0.0

    def codes(self, seen: Tensor, visible: Tensor, hidden: Tensor, edges: Edges) -> Tensor:
        """(M, D) what the map reads at the hidden nodes.

        visible: (V,), hidden: (M,) node numbers. seen: (V, D) rows of the visible nodes with `remask` (all others are zero), else (M, D)
        rows of the hidden ones. edges: the full graph's.
        """
        raise NotImplementedError(f"{type(self).__name__} must define codes")

    def forward(self, seen: Tensor, visible: Tensor, hidden: Tensor, edges: Edges) -> Tensor:
        """(M, F) the rebuilt features of the hidden nodes."""
        return nn.functional.linear(self.codes(seen, visible, hidden, edges), self.weight, self.bias)


class AttentionDecoder(Decoder):
    """Graph attention with one head of width F, bias, no norm, no activation; starts as the encoder's layers do."""

    def __init__(self, dim: int, features: int, *, input_dropout: float = 0.0, attention_dropout: float = 0.0) -> None:
        super().__init__(dim, features, input_dropout=input_dropout)
        self.source, self.target = nn.Parameter(torch.empty(1, 1, features)), nn.Parameter(torch.empty(1, 1, features))
        self.attention_dropout = check_rate("attention_dropout", attention_dropout)
        for parameter in (self.weight, self.source, self.target):
            nn.init.xavier_normal_(parameter, gain=sqrt(2))

    def codes(self, seen: Tensor, visible: Tensor, hidden: Tensor, edges: Edges) -> Tensor:
        seen = dropout.dropped(seen, self.rate)
        vectors = torch.cat((self.source, self.target)).flatten(1) @ self.weight  # (2, D)
        left, right = _placed(seen @ vectors.t(), visible, edges.num_nodes).unbind(1)
        into_hidden = edges.filtered(_marks(hidden, edges.num_nodes)[edges.dst])
        keep = attention_keep(into_hidden, self.attention_dropout if self.training else 0.0, seen)
        rows = attend(_placed(seen, visible, edges.num_nodes), left, right, into_hidden, keep=keep)
        return rows.index_select(0, hidden)


class ConvolutionDecoder(Decoder):
    """One graph convolution A^ z W + b, no norm, no activation."""

    def __init__(self, dim: int, features: int, *, input_dropout: float = 0.0) -> None:
        super().__init__(dim, features, input_dropout=input_dropout)
        nn.init.xavier_uniform_(self.weight)

    def codes(self, seen: Tensor, visible: Tensor, hidden: Tensor, edges: Edges) -> Tensor:
        rows = _placed(dropout.dropped(seen, self.rate), visible, edges.num_nodes)
        return aggregate(rows, edges, edges.symmetric_weights()).index_select(0, hidden)


class IsomorphismDecoder(Decoder):
    """One graph isomorphism layer: Linear, norm, activation, Linear on z_i + sum of z_j; norm and activation inside only."""

    def __init__(self, dim: int, features: int, *, input_dropout: float = 0.0, norm: Norm = "none") -> None:
        super().__init__(dim, features, input_dropout=input_dropout)
        self.first = nn.Linear(dim, dim)
        self.inner = nn.Sequential(make_norm(norm, dim), make_activation("prelu"))
        _start_as_linear(self)

    def codes(self, seen: Tensor, visible: Tensor, hidden: Tensor, edges: Edges) -> Tensor:
        rows = _placed(dropout.dropped(seen, self.rate), visible, edges.num_nodes)
        mixed = rows + aggregate(rows, edges)
        if isinstance(self.inner[0], nn.BatchNorm1d):  # its moments are taken over all nodes
            return self.inner(self.first(mixed)).index_select(0, hidden)
        inner: Tensor = self.inner(self.first(mixed.index_select(0, hidden)))
        return inner


class LinearDecoder(Decoder):
    """One linear map of the hidden nodes' own rows; nothing is masked again."""

    remask = False

    def __init__(self, dim: int, features: int, *, input_dropout: float = 0.0) -> None:
        super().__init__(dim, features, input_dropout=input_dropout)
        _start_as_linear(self)

    def codes(self, seen: Tensor, visible: Tensor, hidden: Tensor, edges: Edges) -> Tensor:
        return seen


class PerceptronDecoder(LinearDecoder):
    """Linear, PReLU, dropout, linear map of the hidden nodes' own rows; nothing is masked again."""

    def __init__(self, dim: int, features: int, *, input_dropout: float = 0.0) -> None:
        super().__init__(dim, features, input_dropout=input_dropout)
        self.first, self.activation = nn.Linear(dim, dim), PReLU()

    def codes(self, seen: Tensor, visible: Tensor, hidden: Tensor, edges: Edges) -> Tensor:
        return dropout.dropped(self.activation(self.first(seen)), self.rate)


def make_decoder(
    kind: DecoderKind, dim: int, features: int, *, input_dropout: float = 0.0, attention_dropout: float = 0.0, norm: Norm = "none"
) -> Decoder:
    """The decoder of this kind; attention_dropout is read by "gat", norm by "gin"."""
    if kind == "gat":
        return AttentionDecoder(dim, features, input_dropout=input_dropout, attention_dropout=attention_dropout)
    if kind == "gin":
        return IsomorphismDecoder(dim, features, input_dropout=input_dropout, norm=norm)
    plain = {"gcn": ConvolutionDecoder, "mlp": PerceptronDecoder, "linear": LinearDecoder}[kind]
    return plain(dim, features, input_dropout=input_dropout)


def _start_as_linear(decoder: Decoder) -> None:
    """PyTorch's start for a linear layer."""
    bound = decoder.weight.shape[1] ** -0.5
    nn.init.uniform_(decoder.weight, -bound, bound)
    nn.init.uniform_(decoder.bias, -bound, bound)


def _placed(rows: Tensor, at: Tensor, num_nodes: int) -> Tensor:
    """(N, D) with the rows at their nodes and zeros elsewhere."""
    return rows.new_zeros(num_nodes, rows.shape[1]).index_copy_(0, at, rows)


def _marks(chosen: Tensor, num_nodes: int) -> Tensor:
    return torch.zeros(num_nodes, dtype=torch.bool, device=chosen.device).index_fill_(0, chosen, True)
