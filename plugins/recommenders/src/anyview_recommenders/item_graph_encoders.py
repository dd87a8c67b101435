"""Transformers over sequences whose items are also nodes of graphs.

Ye, Xia, Huang. Graph Masked Autoencoder for Sequential Recommendation. SIGIR 2023, arXiv 2305.04619 (MAERec). Yang, Huang, Xia, Huang, Luo,
Lin. Debiased Contrastive Learning for Sequential Recommendation. WWW 2023, arXiv 2303.11780 (DCRec).
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any

import torch
from scipy import sparse
from torch import Tensor, nn

from anyview.encoders.encoder import Encoding
from anyview.views.view import View
from anyview_recommenders.dropout import seeded
from anyview_recommenders.histories import PAD
from anyview_recommenders.item_graph import ItemGraph
from anyview_recommenders.sequence_encoders import ItemTransformer


@dataclass(slots=True)
class TableEncoding(Encoding):
    """An encoding of sequences that read items from a graph. table: the embeddings, and what each layer makes of them, (I, D) each."""

    table: list[Tensor] | None = None


class GraphItemTransformer(ItemTransformer):
    """The transformer over sequences, whose items are the sum of their embeddings and of the layers of a graph convolution over them.

    matrix: (I, I) SciPy sparse weights of a graph of items. convolutions: L, its layers. All else is as in ItemTransformer; the score of
    an item after a sequence is the product of their rows, the item's from the graph too. A view's data may have "weights" (T,) of the
    graph's entries, in the place of those of the whole graph.

    >>> encoder = GraphItemTransformer(sparse.eye_array(9), dim=4, length=3)
    >>> encoder(View({"sequence": torch.tensor([[0, 2, 5]])})).rows.shape, encoder(View({"items": torch.arange(9)})).rows.shape
    (torch.Size([1, 4]), torch.Size([9, 4]))
    """

    def __init__(self, matrix: sparse.csr_array, dim: int = 64, *, convolutions: int = 2, **options: Any) -> None:
        super().__init__(matrix.shape[0], dim, **options)
        self.convolutions, self.graph = convolutions, ItemGraph(matrix)

    def forward(self, view: View) -> Encoding:
        if "items" in view.data:
            return super().forward(view)
        layers = self.graph.layers(self.table[1:-1], self.convolutions, view.data.get("weights"))
        sequence = self.shown(view)
        found = self.encoding(sequence, self.states(sequence, self.around(pooled(layers))))
        return TableEncoding(found.rows, found.tokens, found.valid, found.coordinates, table=layers)

    def item_rows(self) -> Tensor:
        return pooled(self.graph.layers(self.table[1:-1], self.convolutions))


def pooled(layers: list[Tensor]) -> Tensor:
    """The sum of an item's embedding and layers, (I, D)."""
    return functools.reduce(operator.add, layers)


@dataclass(slots=True)
class FusedEncoding(Encoding):
    """An encoding of sequences whose states were fused with the last items' rows in two graphs.

    sequential: (B, N, D) the states before. adjacent, similar: (I + 2, D), numbered as sequences are.
    """

    sequential: Tensor | None = None
    adjacent: Tensor | None = None
    similar: Tensor | None = None


class Fusion(nn.Module):
    """Rows of several kinds into one: their sum by a softmax of a · (W x) over kinds. dim: D."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.turn, self.ask = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 1, bias=False)

    def forward(self, *kinds: Tensor) -> Tensor:
        """(..., D) of K tensors (..., D)."""
        rows = torch.stack(kinds, -2)
        return (self.ask(self.turn(rows)).softmax(-2) * rows).sum(-2)


class FusedItemTransformer(ItemTransformer):
    """The transformer over sequences, whose states are fused with what the item at each place is in two graphs of items.

    adjacent: (I, I) SciPy sparse weights of a symmetric graph, normalised by both ends. similar: (I, I), normalised by rows.
    convolutions: layers in each; an item's row there is LayerNorm(mean of its embedding and the layers + embedding). Scores are products
    with embeddings. All else is as in ItemTransformer. A view's data may have "rate" and "seed": of the graphs' edges a random share `rate`
    is left out, which follows from the seed.

    >>> graph = sparse.eye_array(9)
    >>> encoder = FusedItemTransformer(graph, graph, dim=4, length=3)
    >>> encoder(View({"sequence": torch.tensor([[0, 2, 5]])})).adjacent.shape
    torch.Size([11, 4])
    """

    def __init__(
        self, adjacent: sparse.csr_array, similar: sparse.csr_array, dim: int = 64, *, convolutions: int = 2, **options: Any
    ) -> None:
        super().__init__(adjacent.shape[0], dim, **options)
        self.convolutions = convolutions
        self.adjacent, self.similar = ItemGraph(adjacent), ItemGraph(similar, both=False)
        self.adjacent_norm, self.similar_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.fuse = Fusion(dim)

    def forward(self, view: View) -> Encoding:
        if "items" in view.data:
            return super().forward(view)
        sequence, generator = self.shown(view), seeded(view, self.table.device)
        weights = [None if generator is None else graph.dropped(view.data["rate"], generator) for graph in (self.adjacent, self.similar)]
        adjacent, similar = self.around(self.adjacent_rows(weights[0])), self.around(self.similar_rows(weights[1]))
        states = self.states(sequence)
        fused = self.fuse(states, adjacent[sequence], similar[sequence]) * (sequence != PAD)[..., None]
        found = self.encoding(sequence, fused)
        whole = (found.rows, found.tokens, found.valid, found.coordinates)
        return FusedEncoding(*whole, sequential=states, adjacent=adjacent, similar=similar)

    def adjacent_rows(self, weights: Tensor | None = None) -> Tensor:
        """(I, D) rows of all items in the graph of what stood next to what; weights: (T,) of its entries in the place of its own."""
        return self._in_graph(self.adjacent, self.adjacent_norm, weights)

    def similar_rows(self, weights: Tensor | None = None) -> Tensor:
        """(I, D) rows of all items in the graph of what the same users have; weights: as in `adjacent_rows`."""
        return self._in_graph(self.similar, self.similar_norm, weights)

    def _in_graph(self, graph: ItemGraph, norm: nn.LayerNorm, weights: Tensor | None) -> Tensor:
        embedding = self.item_rows()
        found: Tensor = norm(pooled(graph.layers(embedding, self.convolutions, weights)) / (self.convolutions + 1) + embedding)
        return found
