"""Encoders of users and items: embeddings of their own, and graph convolutions over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.views.view import View
from anyview_recommenders.graph_convolution import Adjacency, convolve, normalised_adjacency

PARTS = ("starts", "columns", "interactions", "values")

Pool = Literal["mean", "sum"]


class LightGraphConvolution(Encoder):
    """An embedding of each user and each item, spread over the graph of training interactions by a convolution without weights.

    He, Deng, Wang, Li, Zhang, Wang. LightGCN. SIGIR 2020, arXiv 2002.02126. Without layers it is matrix factorisation.

    matrix: (U, I) CSR of the training interactions. dim: D. layers: L. deviation: of the normal distribution that embeddings start from.
    pool: rows are the mean of the embeddings and of what the L layers make of them, or their sum.

    It reads views whose data has "nodes", (M,) int64 of users 0 .. U - 1 and items U .. U + I - 1, and returns their rows (M, D); in
    training `layers` are their embeddings and what each layer makes of them, L + 1 tensors (M, D). A view's data may have an "adjacency"
    of its own, or a list of them, one a layer, in the place of the whole graph.

    >>> encoder = LightGraphConvolution(csr_matrix(np.eye(2, 3)), dim=4, layers=2)
    >>> encoder(View({"nodes": torch.tensor([0, 4])})).rows.shape
    torch.Size([2, 4])
    """

    def __init__(self, matrix: csr_matrix, dim: int = 64, *, layers: int = 3, deviation: float = 0.1, pool: Pool = "mean") -> None:
        super().__init__()
        self.dim, self.depth, self.pool = dim, layers, pool
        self.users, self.items = matrix.shape
        self.embedding = nn.Parameter(deviation * torch.randn(self.users + self.items, dim))
        whole = normalised_adjacency(matrix)
        for part in PARTS:  # a run keeps the interactions themselves, so they are no weights
            self.register_buffer(part, getattr(whole, part), persistent=False)

    @property
    def adjacency(self) -> Adjacency:
        """The graph of all training interactions, normalised, where the encoder is."""
        return Adjacency(self.users, *(self.get_buffer(part) for part in PARTS))

    def forward(self, view: View) -> Encoding:
        nodes, move = view.data["nodes"], self.after_layer(view)
        layers = convolve(view.data.get("adjacency", self.adjacency), self.embedding, self.depth, move)
        seen = [layer.index_select(0, nodes) for layer in layers] if self.training else None
        return Encoding(self.pooled(layers).index_select(0, nodes), layers=seen)

    def after_layer(self, view: View) -> Callable[[Tensor], Tensor] | None:
        """What is done to the rows (N, D) of each layer before the next reads them; nothing here."""
        return None

    def pooled(self, layers: list[Tensor]) -> Tensor:
        """The rows (N, D) of all nodes, from L + 1 layers (N, D)."""
        if len(layers) == 1:
            return layers[0]
        total = layers[0]
        for layer in layers[1:]:
            total = total + layer
        return total / len(layers) if self.pool == "mean" else total
