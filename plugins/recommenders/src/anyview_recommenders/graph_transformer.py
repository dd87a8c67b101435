"""Attention along the edges of a graph, behind a graph convolution; and where nodes are, seen from a few of them.

Li, Xia, Ren, Ye, Xu, Huang. Graph Transformer for Recommendation. SIGIR 2023, arXiv 2306.02330. Positions: You, Ying, Leskovec.
Position-aware Graph Neural Networks. ICML 2019, arXiv 1906.04817.

Edges are kept as keys, row · N + column, each in one direction; nothing is made of the size of edges times D.
"""

from __future__ import annotations

import functools
import operator

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.views.view import View
from anyview_recommenders.encoders import SelectedLayers
from anyview_recommenders.graph_attention import GraphAttention
from anyview_recommenders.sparse_product import SparsePattern

BESIDE = 0.1
"""How much attention counts in rows of other graphs, beside their convolution."""


class LoopedGraph(nn.Module):
    """Edges between N nodes, and from each node to itself: where they stand, and D^-1/2 (A + I) D^-1/2 times rows, D the sums of rows.

    keys: (n,) int64 of edges, in any order, repeated or not. It is made on the host and stands where keys are; none of it is saved.

    >>> graph = LoopedGraph(torch.tensor([1, 2]), nodes=2)
    >>> graph.keys.tolist(), graph(torch.tensor([[1.0], [3.0]])).round(decimals=3).tolist()
    ([0, 1, 2, 3], [[2.0], [2.0]])
    """

    entries: Tensor

    def __init__(self, keys: Tensor, nodes: int) -> None:
        super().__init__()
        keys = torch.cat([keys, loops(nodes, keys.device)]).unique()
        rows, columns = keys // nodes, keys % nodes
        degrees = torch.bincount(rows, minlength=nodes)
        parts = (columns.numpy(force=True), np.append(0, degrees.cumsum(0).numpy(force=True)))
        self.pattern = SparsePattern(sparse.csr_array((np.ones(len(keys)), *parts), shape=(nodes, nodes))).to(keys.device)
        scale = degrees.to(torch.get_default_dtype()).rsqrt()
        self.register_buffer("entries", scale[rows] * scale[columns], persistent=False)

    @property
    def keys(self) -> Tensor:
        """(T,) int64 of all edges in ascending order, those to themselves among them."""
        return self.pattern.rows * self.pattern.shape[0] + self.pattern.columns

    def forward(self, rows: Tensor) -> Tensor:
        """The normalised matrix times rows (N, D), with gradient to the rows: (N, D)."""
        product: Tensor = self.pattern(self.entries, rows)
        return product


def loops(nodes: int, device: torch.device) -> Tensor:
    """(N,) the keys of edges from each node to itself."""
    return torch.arange(nodes, device=device) * (nodes + 1)


def interaction_keys(matrix: csr_matrix) -> Tensor:
    """(2E,) the keys of interactions (U, I) between users 0 .. U - 1 and items U .. U + I - 1, in both directions.

    >>> interaction_keys(csr_matrix(np.array([[0.0, 1.0]]))).tolist()
    [2, 6]
    """
    (users, items), nodes = matrix.nonzero(), sum(matrix.shape)
    users, items = users.astype(np.int64), items.astype(np.int64) + matrix.shape[0]
    return torch.from_numpy(np.concatenate([users * nodes + items, items * nodes + users]))


class TransformerConvolution(Encoder):
    """Embeddings of users and items, a convolution without weights, and a layer of attention; rows are the sum of all of it.

    matrix: (U, I) CSR of the training interactions. dim: D. layers: L. heads: of attention. deviation: of the normal distribution that
    embeddings start from.

    It reads views whose data has "nodes", (M,) int64 of users 0 .. U - 1 and items U .. U + I - 1; perhaps "graph" and "decoder", which the
    convolution and attention are taken over in the place of the whole graph. In training `layers` are the embeddings, the L layers and
    attention, (M, D) each.

    >>> encoder = TransformerConvolution(csr_matrix(np.eye(2, 3)), dim=4)
    >>> encoder(View({"nodes": torch.tensor([0, 4])})).rows.shape
    torch.Size([2, 4])
    """

    def __init__(self, matrix: csr_matrix, dim: int = 64, *, layers: int = 2, heads: int = 4, deviation: float = 0.1) -> None:
        super().__init__()
        self.dim, self.depth = dim, layers
        self.users, self.items = matrix.shape
        self.embedding = nn.Parameter(deviation * torch.randn(self.users + self.items, dim))
        self.attend = GraphAttention(dim, heads=heads)
        self.whole = LoopedGraph(interaction_keys(matrix), self.users + self.items)

    def forward(self, view: View) -> Encoding:
        nodes, graph = view.data["nodes"], view.data.get("graph", self.whole)
        layers: list[Tensor] = [self.embedding]
        for _ in range(self.depth):
            layers.append(graph(layers[-1]))
        layers.append(self.attend(view.data.get("decoder", self.whole).pattern, layers[-1]))
        rows = functools.reduce(operator.add, layers).index_select(0, nodes)
        return Encoding(rows, layers=SelectedLayers(layers, nodes) if self.training else None)

    def beside(self, graph: LoopedGraph, layers: list[Tensor]) -> Tensor:
        """Rows (N, D) by another graph: embeddings, a share of attention to them, and its product with each of some layers (N, D)."""
        start = self.embedding + BESIDE * self.attend(graph.pattern, self.embedding)
        return functools.reduce(operator.add, [graph(layer) for layer in layers], start)


def placed(rows: Tensor, anchors: Tensor, close: Tensor) -> Tensor:
    """A node's row and, by how close it is to each of some anchors, theirs: e + the mean over k of a_k e_k.

    rows: (N, D). anchors: (K,) int64 nodes. close: (N, K), as `closeness` gives it. Returns (N, D).

    >>> placed(torch.tensor([[1.0], [8.0]]), torch.tensor([1]), torch.tensor([[0.5], [1.0]])).tolist()
    [[5.0], [16.0]]
    """
    return rows + close @ rows.index_select(0, anchors) / len(anchors)


@torch.no_grad()
def closeness(graph: LoopedGraph, anchors: Tensor) -> Tensor:
    """1 / (1 + steps) from each node along edges to each anchor (K,), 0 where there is no way: (N, K).

    >>> closeness(LoopedGraph(torch.tensor([1, 3]), nodes=3), torch.tensor([1])).tolist()
    [[0.5], [1.0], [0.0]]
    """
    shape = (graph.pattern.shape[0], len(anchors))
    newest = torch.zeros(shape, dtype=graph.entries.dtype, device=anchors.device).scatter_(0, anchors[None], 1.0)
    found, steps = newest.clone(), 0
    while newest.any():
        steps += 1
        newest = ((graph(newest) > 0) & (found == 0)).to(found)
        found += newest / (1 + steps)
    return found
