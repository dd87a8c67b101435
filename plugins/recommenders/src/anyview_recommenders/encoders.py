"""Encoders of users and items: a table of embeddings, and what a graph convolution without weights makes of it.

He et al. LightGCN. SIGIR 2020, arXiv 2002.02126. Noise: Yu, Yin, Xia, Chen, Cui, Nguyen. Are Graph Augmentations Necessary? Simple Graph
Contrastive Learning for Recommendation. SIGIR 2022, arXiv 2112.08679.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.views.view import View
from anyview_recommenders.graph_convolution import Adjacency, propagate

Pool = Literal["mean", "sum"]


@dataclass(slots=True)
class Nodes:
    """What a view shows of the users and items: which graph lies between them, and how far they are pushed off their places.

    graphs: one for all layers, or one for each; None is the encoder's own. noise: length of what is added to a node after each layer.
    seed: of the noise.
    """

    graphs: Adjacency | Sequence[Adjacency] | None = None
    noise: float = 0.0
    seed: int = 0


class LightGraphConvolution(Encoder):
    """Embeddings of U users and I items, and of each the mean of what L layers of graph convolution make of it.

    adjacency: the graph of the interactions; it moves with the encoder and is not saved with it. dim: D. layers: L; 0 is matrix
    factorisation. pool: "mean" over the layers, or their "sum". ego: whether the embeddings themselves count among the layers.
    deviation: of the normal numbers that embeddings start from.

    Reads view.data where it is `Nodes`; other data means the encoder's graph and no noise. The encoding's rows are (U + I, D), users first;
    its `layers` are the L + 1 outputs, the embeddings first. Raises UserError for fewer than 0 layers, and for none without the embeddings.

    >>> from scipy import sparse
    >>> from anyview_recommenders.graph_convolution import normalised_adjacency
    >>> encoder = LightGraphConvolution(normalised_adjacency(sparse.csr_array(np.ones((3, 4)))), dim=8, layers=2)
    >>> encoding = encoder(View(Nodes()))
    >>> encoding.rows.shape, len(encoding.layers)
    (torch.Size([7, 8]), 3)
    """

    starts: Tensor
    columns: Tensor
    interactions: Tensor
    values: Tensor

    def __init__(
        self,
        adjacency: Adjacency,
        dim: int = 64,
        *,
        layers: int = 3,
        pool: Pool = "mean",
        ego: bool = True,
        deviation: float = 0.1,
    ) -> None:
        super().__init__()
        if layers < 0 or (layers == 0 and not ego):
            raise UserError(f"{layers} layers {'with' if ego else 'without'} the embeddings themselves leave nothing; give at least one")
        self.dim, self.layers, self.pool, self.ego = dim, layers, pool, ego
        self.users, self.items = adjacency.users, adjacency.nodes - adjacency.users
        for part in ("starts", "columns", "interactions", "values"):
            self.register_buffer(part, getattr(adjacency, part), persistent=False)
        self.embedding = nn.Parameter(deviation * torch.randn(adjacency.nodes, dim))

    @property
    def adjacency(self) -> Adjacency:
        """The graph of the interactions, where the encoder is."""
        return Adjacency(self.users, self.starts, self.columns, self.interactions, self.values)

    def forward(self, view: View) -> Encoding:
        shown = view.data if isinstance(view.data, Nodes) else Nodes()
        layers = self._layers(shown)
        counted = layers if self.ego else layers[1:]
        total = sum(counted[1:], start=counted[0])
        return Encoding(total / len(counted) if self.pool == "mean" else total, layers=layers)

    def _layers(self, shown: Nodes) -> list[Tensor]:
        found = [self.embedding]
        generator = torch.Generator(self.embedding.device).manual_seed(shown.seed) if shown.noise else None
        graphs = self.adjacency if shown.graphs is None else shown.graphs
        for graph in [graphs] * self.layers if isinstance(graphs, Adjacency) else graphs:
            rows = propagate(graph, found[-1])
            found.append(rows if generator is None else add_noise(rows, shown.noise, generator))
        return found


def add_noise(rows: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Rows (N, D), each moved by `length` in a random direction of the orthant that it lies in; a row of zeros stays.

    The direction is n / |n| with n uniform in [0, 1)^D and the signs of the row. The gradient passes as if nothing had been added.

    >>> moved = add_noise(torch.tensor([[3.0, -4.0], [0.0, 0.0]]), 0.1, torch.Generator().manual_seed(0))
    >>> bool(moved[0, 0] > 3), bool(moved[0, 1] < -4), moved[1].tolist()
    (True, True, [0.0, 0.0])
    """
    with torch.no_grad():
        noise = torch.rand(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
        noise.mul_(length / noise.norm(dim=1, keepdim=True).clamp_min(1e-12)).mul_(rows.sign())
    return rows + noise
