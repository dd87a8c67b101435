"""Convolution by what users and items are after: intents that they share, and interactions weighed by how alike their ends are.

Ren, Xia, Zhao, Yin, Huang. Disentangled Contrastive Collaborative Filtering. SIGIR 2023, arXiv 2305.02759.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution, SelectedLayers
from anyview_recommenders.graph_convolution import propagate
from anyview_recommenders.sparse_product import SparsePattern

GUARD = 1e-12


class Intents(nn.Module):
    """K intents that nodes of one kind share: a row becomes their mixture by a softmax of its products with them.

    dim: D. count: K. Raises UserError for a count below 1.

    >>> Intents(4, count=3)(torch.ones(5, 4)).shape
    torch.Size([5, 4])
    """

    def __init__(self, dim: int, count: int = 128) -> None:
        super().__init__()
        if count < 1:
            raise UserError(f"rows are mixtures of 1 intent or more, and {count} were asked for; try 128")
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, dim)))

    def forward(self, rows: Tensor) -> Tensor:
        """The mixtures (M, D) of rows (M, D)."""
        return (rows @ self.weight.T).softmax(1) @ self.weight


class DisentangledConvolution(LightGraphConvolution):
    """A light graph convolution in whose layers nodes also take up intents, and gather by how alike ends of interactions are.

    intents: K of users, and of items. From rows X a layer makes A X, the mixtures of intents of X, and what nodes gather of X along
    interactions by the likeness of their ends in the first, and in the second; the next layer reads the sum of these four and X. Rows pool
    all that layers read and the last of them made. All else as in LightGraphConvolution.

    In training `layers` are the embeddings, then of each layer the four, 1 + 4L tensors (M, D).

    >>> encoder = DisentangledConvolution(csr_matrix(np.eye(2, 3)), dim=4, layers=2, intents=3)
    >>> found = encoder(View({"nodes": torch.tensor([0, 4])}))
    >>> found.rows.shape, len(found.layers)
    (torch.Size([2, 4]), 9)
    """

    def __init__(self, matrix: csr_matrix, dim: int = 64, *, layers: int = 2, intents: int = 128, **options: Any) -> None:
        super().__init__(matrix, dim, layers=layers, **options)
        self.of_users, self.of_items = (Intents(dim, intents) for _ in range(2))
        self.pattern = SparsePattern(matrix)

    def forward(self, view: View) -> Encoding:
        nodes = view.data["nodes"]
        outputs: list[Tensor] = [self.embedding]
        gathered = list(outputs)
        for _ in range(self.depth):
            made = self.layer(outputs[-1])
            gathered += made
            outputs.append(torch.stack([outputs[-1], *made]).sum(0))
        seen = SelectedLayers(gathered, nodes) if self.training else None
        return Encoding(self.pooled(outputs).index_select(0, nodes), layers=seen)

    def layer(self, rows: Tensor) -> list[Tensor]:
        """What a layer makes of rows (N, D): along interactions, of intents, and along interactions as each of these says, (N, D)."""
        users, items = self.sides(rows)
        near, meant = propagate(self.adjacency, rows), torch.cat([self.of_users(users), self.of_items(items)])
        return [near, meant, *(self.alike(found, rows) for found in (near, meant))]

    def alike(self, found: Tensor, rows: Tensor) -> Tensor:
        """What nodes gather of rows (N, D) along interactions, in shares by (cosine + 1) / 2 of their ends in `found` (N, D)."""
        pattern = self.pattern
        users, items = self.sides(normalize(found))
        weights = (pattern.products(users, items) + 1) / 2
        of_users = pattern.sums(weights).clamp(min=GUARD)
        of_items = weights.new_zeros(self.items).index_add(0, pattern.columns, weights).clamp(min=GUARD)
        from_users, from_items = self.sides(rows)
        to_users = pattern(weights / of_users.index_select(0, pattern.rows), from_items)
        return torch.cat([to_users, pattern.back(weights / of_items.index_select(0, pattern.columns), from_users)])
