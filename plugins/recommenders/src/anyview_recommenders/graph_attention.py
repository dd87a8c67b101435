"""Attention between nodes that a pattern pairs, and a light graph convolution whose last layer is one.

Xia, Huang, Huang, Lin, Yu, Kao. Automated Self-Supervised Learning for Recommendation. WWW 2023, arXiv 2303.07797.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution, Pool, SelectedLayers
from anyview_recommenders.graph_convolution import convolve
from anyview_recommenders.masked_graph import both_ways
from anyview_recommenders.sparse_product import SparsePattern

BOUND = 10.0
"""What products of queries and keys are clamped to, as the authors do."""


class GraphAttention(nn.Module):
    """Each node gathers values of the nodes that it is paired with, by a softmax of products of queries and keys, head by head.

    dim: D. heads: H, each of width D / H; what they gather stands side by side. Raises UserError where H does not divide D.

    >>> attention = GraphAttention(4, heads=2)
    >>> attention(both_ways(3, torch.tensor([0]), torch.tensor([2])), torch.ones(3, 4)).shape
    torch.Size([3, 4])
    """

    def __init__(self, dim: int, *, heads: int = 4) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise UserError(f"rows of width {dim} cannot be shared by {heads} heads; choose a number that divides the width")
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        for part in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(part.weight)

    def forward(self, pairs: SparsePattern, rows: Tensor) -> Tensor:
        """What each node gathers, (N, D), from rows (N, D) of the nodes that it is paired with by a pattern (N, N)."""
        found = [pairs(shares, own) for shares, own in zip(self.weights(pairs, rows), self._by_head(self.value(rows)), strict=True)]
        return torch.cat(found, 1)

    def weights(self, pairs: SparsePattern, rows: Tensor) -> list[Tensor]:
        """Of each head what a pair counts for the node that gathers, (T,); they sum to 1 for each node."""
        heads = zip(self._by_head(self.query(rows)), self._by_head(self.key(rows)), strict=True)
        return [pairs.softmax(pairs.products(query, key).clamp(-BOUND, BOUND)) for query, key in heads]

    def _by_head(self, rows: Tensor) -> tuple[Tensor, ...]:
        """H tensors (N, D / H)."""
        return rows.unflatten(1, (self.heads, -1)).transpose(0, 1).contiguous().unbind()


class AttentiveGraphConvolution(LightGraphConvolution):
    """A light graph convolution, and behind it a layer of attention that decodes what a masked graph does not show.

    heads: of the attention. Rows pool the embeddings and all L + 1 layers, and so do `layers` in training; all else as in
    LightGraphConvolution. A view's data may have, beside "adjacency", "pairs", a pattern (N, N) of the nodes that attend to each other;
    without it these are users and their items, and each node itself.

    >>> encoder = AttentiveGraphConvolution(csr_matrix(np.eye(2, 3)), dim=4, layers=2)
    >>> found = encoder(View({"nodes": torch.tensor([0, 4])}))
    >>> found.rows.shape, len(found.layers)
    (torch.Size([2, 4]), 4)
    """

    def __init__(self, matrix: csr_matrix, dim: int = 64, *, layers: int = 2, heads: int = 4, pool: Pool = "sum", **options: Any) -> None:
        super().__init__(matrix, dim, layers=layers, pool=pool, **options)
        self.attend = GraphAttention(dim, heads=heads)
        self.pairs = both_ways(self.users + self.items, *self.adjacency.ends())

    def forward(self, view: View) -> Encoding:
        nodes = view.data["nodes"]
        layers = convolve(view.data.get("adjacency", self.adjacency), self.embedding, self.depth)
        layers.append(self.attend(view.data.get("pairs", self.pairs), layers[-1]))
        seen = SelectedLayers(layers, nodes) if self.training else None
        return Encoding(self.pooled(layers).index_select(0, nodes), layers=seen)
