"""Transformers over sequences whose items are also nodes of graphs.

Ye, Xia, Huang. Graph Masked Autoencoder for Sequential Recommendation. SIGIR 2023, arXiv 2305.04619 (MAERec).
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any

from scipy import sparse
from torch import Tensor

from anyview.encoders.encoder import Encoding
from anyview.views.view import View
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
