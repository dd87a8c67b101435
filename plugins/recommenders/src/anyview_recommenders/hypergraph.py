"""Hyperedges that are learned: each node belongs to all of them, as much as its embedding says, and gathers through them from all others.

Xia, Huang, Xu, Zhao, Yin, Huang. Hypergraph Contrastive Collaborative Filtering. SIGIR 2022, arXiv 2204.12200.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.views.view import View
from anyview_recommenders.dropout import message_dropout, seeded
from anyview_recommenders.encoders import LightGraphConvolution, SelectedLayers
from anyview_recommenders.graph_convolution import check_rate, edge_dropout, propagate

START = 0.01
"""How long what nodes gather through hyperedges is at first, over what they started from."""


class Hyperedges(nn.Module):
    """K hyperedges over the N nodes of one kind: H = c E W says how much each belongs to them, from embeddings E (N, D).

    count: K. slope: of the LeakyReLU φ. deviation: of the embeddings at the start, from which c follows: H Hᵀ E is then about a hundredth
    as long as E, however many nodes and hyperedges there are. It is nearly a node's own embedding at first, and as long as E it would
    drown what neighbours say. Raises UserError for a count below 1.

    >>> hyperedges = Hyperedges(nodes=5, dim=4, count=3)
    >>> hyperedges.spread(hyperedges.membership(torch.ones(5, 4)), torch.ones(5, 2)).shape
    torch.Size([5, 2])
    """

    def __init__(self, nodes: int, dim: int, count: int = 128, *, slope: float = 0.5, deviation: float = 0.1) -> None:
        super().__init__()
        if count < 1:
            raise UserError(f"nodes gather through 1 hyperedge or more, and {count} were asked for; try 128")
        spread = (2 / (dim + count)) ** 0.5
        self.slope, self.scale = slope, START**0.5 / (deviation * spread * (nodes * count) ** 0.5)
        self.weight = nn.Parameter(spread * torch.randn(dim, count))

    def membership(self, embeddings: Tensor) -> Tensor:
        """H, (N, K), of embeddings (N, D)."""
        return self.scale * embeddings @ self.weight

    def spread(self, membership: Tensor, rows: Tensor) -> Tensor:
        """φ(H φ(Hᵀ rows)): what nodes gather from rows (N, D) through hyperedges that they belong to by H (N, K), (N, D)."""
        return leaky_relu(membership @ leaky_relu(membership.T @ rows, self.slope), self.slope)


class HypergraphConvolution(LightGraphConvolution):
    """A light graph convolution in whose layers users also gather from all users, and items from all items, through hyperedges.

    hyperedges: K of users, and of items. slope: of their LeakyReLU. dropout: the share of the interactions, and of memberships, that a
    layer leaves out for a view with a seed; what stays counts more, so that sums are the same on average. All else as in
    LightGraphConvolution.

    Rows pool the embeddings and each layer's sum of what is gathered near and far. In training `layers` are the embeddings, then of each
    layer what nodes gathered along interactions and what they gathered through hyperedges, 1 + 2L tensors (M, D). A view's data may have
    "seed", an integer that dropout follows from, and no graph of its own.

    >>> encoder = HypergraphConvolution(csr_matrix(np.eye(2, 3)), dim=4, layers=2, hyperedges=3)
    >>> found = encoder(View({"nodes": torch.tensor([0, 4])}))
    >>> found.rows.shape, len(found.layers)
    (torch.Size([2, 4]), 5)
    """

    def __init__(
        self,
        matrix: csr_matrix,
        dim: int = 64,
        *,
        layers: int = 2,
        hyperedges: int = 128,
        slope: float = 0.5,
        dropout: float = 0.5,
        deviation: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(matrix, dim, layers=layers, deviation=deviation, **options)
        self.dropout = check_rate("dropout", dropout)
        of_each = (Hyperedges(nodes, dim, hyperedges, slope=slope, deviation=deviation) for nodes in matrix.shape)
        self.of_users, self.of_items = of_each

    def forward(self, view: View) -> Encoding:
        nodes, generator = view.data["nodes"], seeded(view, self.embedding.device)
        membership = [part.membership(rows) for part, rows in zip(self._hyperedges, self.sides(self.embedding), strict=True)]
        outputs: list[Tensor] = [self.embedding]
        gathered = list(outputs)
        for _ in range(self.depth):
            near, far = self.near(outputs[-1], generator), self.far(membership, outputs[-1], generator)
            outputs.append(near + far)
            gathered += [near, far]
        seen = SelectedLayers(gathered, nodes) if self.training else None
        return Encoding(self.pooled(outputs).index_select(0, nodes), layers=seen)

    def near(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """What nodes gather from rows (N, D) along interactions, without some of them where there is a generator: (N, D)."""
        graph = self.adjacency if generator is None else edge_dropout(self.adjacency, self.dropout, generator)
        return propagate(graph, rows)

    def far(self, membership: list[Tensor], rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """What nodes gather from rows (N, D) through hyperedges that users (U, K) and items (I, K) belong to: (N, D)."""
        found = []
        for part, own, side in zip(self._hyperedges, membership, self.sides(rows), strict=True):
            found.append(part.spread(message_dropout(own, self.dropout, generator), side))
        return torch.cat(found)

    @property
    def _hyperedges(self) -> tuple[Hyperedges, Hyperedges]:
        return self.of_users, self.of_items
