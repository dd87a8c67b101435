"""Encoders of users and items: embeddings of their own, and graph convolutions over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, overload

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.views.view import View
from anyview_recommenders.graph_convolution import Adjacency, convolve, normalised_adjacency

PARTS = ("starts", "columns", "interactions", "values")

Pool = Literal["mean", "sum"]


class SelectedLayers(Sequence[Tensor]):
    """The rows (M, D) that some nodes have in layers (N, D), each layer's taken when it is asked for: a loss reads one or two of them.

    layers: L + 1 tensors (N, D). nodes: (M,) int64.

    >>> selected = SelectedLayers([torch.zeros(3, 1), torch.tensor([[5.0], [6.0], [7.0]])], torch.tensor([2, 0]))
    >>> len(selected), selected[1].tolist(), selected.select(torch.tensor([1]))[-1].tolist()
    (2, [[7.0], [5.0]], [[5.0]])
    """

    def __init__(self, layers: Sequence[Tensor], nodes: Tensor) -> None:
        self.layers, self.nodes = layers, nodes

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, place: int) -> Tensor: ...
    @overload
    def __getitem__(self, place: slice) -> SelectedLayers: ...
    def __getitem__(self, place: int | slice) -> Tensor | SelectedLayers:
        if isinstance(place, slice):
            return SelectedLayers(self.layers[place], self.nodes)
        return self.layers[place].index_select(0, self.nodes)

    def select(self, places: Tensor) -> SelectedLayers:
        """Those of some of the nodes, (K,) places among them."""
        return SelectedLayers(self.layers, self.nodes.index_select(0, places))

    def split(self, lengths: Sequence[int]) -> list[SelectedLayers]:
        """Those of consecutive parts of the nodes, of these lengths."""
        return [SelectedLayers(self.layers, own) for own in self.nodes.split(list(lengths))]


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
        return Encoding(self.pooled(layers).index_select(0, nodes), layers=SelectedLayers(layers, nodes) if self.training else None)

    def sides(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows of users (U, D) and of items (I, D), of those of all nodes (N, D)."""
        return rows.split([self.users, self.items])

    def after_layer(self, view: View) -> Callable[[Tensor], Tensor] | None:
        """What is done to the rows (N, D) of each layer before the next reads them; nothing here."""
        return None

    def pooled(self, layers: list[Tensor]) -> Tensor:
        """The rows (N, D) of all nodes, from L + 1 layers (N, D)."""
        if len(layers) == 1:
            return layers[0]
        total = layers[0] + layers[1]
        for layer in layers[2:]:
            total += layer
        return total.div_(len(layers)) if self.pool == "mean" else total


class ParallelConvolutions(Encoder):
    """A LightGraphConvolution for each of K graphs of the same users and items, with embeddings of its own; rows are the mean over graphs.

    matrices: (U, I) CSR of each. dim: D. layers, deviation: of each convolution. Views as in LightGraphConvolution; in training `layers`
    are the embeddings (M, K D), then the rows (M, D) of each graph.

    >>> encoder = ParallelConvolutions([csr_matrix(np.ones((2, 3))), csr_matrix(np.eye(2, 3))], dim=4)
    >>> encoder(View({"nodes": torch.tensor([0, 4, 1])})).rows.shape
    torch.Size([3, 4])
    """

    def __init__(self, matrices: Sequence[csr_matrix], dim: int = 64, *, layers: int = 2, deviation: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.users, self.items = matrices[0].shape
        self.convolutions = nn.ModuleList([LightGraphConvolution(own, dim, layers=layers, deviation=deviation) for own in matrices])

    def forward(self, view: View) -> Encoding:
        seen = [convolution(view) for convolution in self.convolutions]
        rows = torch.stack([encoding.rows for encoding in seen], 1)
        fused = self.fused(view.data["nodes"], rows)
        if not self.training:
            return Encoding(fused)
        embeddings = torch.cat([(encoding.layers or [])[0] for encoding in seen], 1)
        return Encoding(fused, layers=[embeddings, *rows.unbind(1)])

    def fused(self, nodes: Tensor, rows: Tensor) -> Tensor:
        """The rows (M, D) of nodes (M,) from those (M, K, D) of each graph."""
        return rows.mean(1)
