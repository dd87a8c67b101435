"""LightGCL: what the graph says of a node is told apart by what the graph's few largest singular vectors say.

Cai, Huang, Xia, Ren. LightGCL: Simple Yet Effective Graph Contrastive Learning for Recommendation. ICLR 2023, arXiv 2302.08191.

The normalised interactions are U S Vᵀ, cut off after a few singular values; a layer through them gathers from everybody at once. Rows of
both kinds are sums over the layers and the embeddings. Contrast is taken by products as they are, against all users or all items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import all_nodes, select, unique_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.graph_convolution import Adjacency
from anyview_recommenders.losses import product_contrast
from anyview_recommenders.objectives import ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

BOUND = 5.0
"""What products with the own row are clamped to, after the temperature; the authors' code has it, and the paper does not."""


@dataclass(slots=True)
class LowRank:
    """The largest q singular values of the normalised interactions: users (U, q), values (q,), items (I, q)."""

    users: Tensor
    values: Tensor
    items: Tensor

    @classmethod
    def of(cls, adjacency: Adjacency, rank: int) -> LowRank:
        """Those of a graph, by a randomised method with a fixed seed."""
        starts, columns, values = (part.numpy(force=True) for part in (adjacency.starts, adjacency.columns, adjacency.values))
        users, size, items = adjacency.users, adjacency.size, adjacency.nodes - adjacency.users
        matrix = sparse.csr_array((values[:size], columns[:size] - users, starts[: users + 1]), shape=(users, items))
        if not 1 <= rank <= min(matrix.shape):
            raise UserError(f"a rank of {rank} was asked for, and {users:,} users with {items:,} items have 1 to {min(matrix.shape):,}")
        left, middle, right = randomized_svd(matrix, n_components=rank, random_state=0)
        return cls(*(torch.from_numpy(part.copy()).to(adjacency.values) for part in (left, middle, right.T)))

    def spread(self, rows: Tensor) -> Tensor:
        """What each node gathers through the singular vectors, from rows (U + I, D), (U + I, D)."""
        users, items = rows.split([len(self.users), len(self.items)])
        to_users = self.users @ (self.values[:, None] * (self.items.T @ items))
        return torch.cat([to_users, self.items @ (self.values[:, None] * (self.users.T @ users))])


class LightGCL(Objective):
    """BPR on the graph's rows, and contrast of the batch's users and items by the singular vectors with the graph's rows of all.

    dim: width of the encoder's rows, which are sums over its layers. rank: how many singular values. weight, temperature: of the contrast.
    l2: as in BPR. Raises UserError for a rank that the matrix does not have.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, rank: int = 5, weight: float = 0.2, temperature: float = 0.2, l2: float = 1e-4) -> None:
        super().__init__()
        self.rank, self.weight, self.temperature, self.l2 = rank, weight, temperature, l2
        self.low_rank: LowRank | None = None  # follows from the graph alone, so it is not saved

    def forward(self, step: Step) -> Losses:
        encoder = step.encoder
        assert isinstance(encoder, LightGraphConvolution)
        self.low_rank = self.low_rank or LowRank.of(encoder.adjacency, self.rank)
        whole, nodes = all_nodes(step), step.set.role("triples")[0].data["nodes"]
        terms = ranked(select(whole, nodes), self.l2)
        shown, seen = encoder.sides(self.spread(whole)), encoder.sides(whole.rows)
        users, items = unique_nodes(nodes)
        found = []
        for view, graph, own in zip(shown, seen, (users, items - encoder.users), strict=True):
            found.append(product_contrast(view[own] / self.temperature, graph, own, BOUND))
        terms["contrast"] = self.weight * torch.stack(found).sum()
        return terms

    def spread(self, encoding: Encoding) -> Tensor:
        """The rows (U + I, D) by singular vectors: the embeddings, and a product of each of the graph's layers but the last."""
        assert self.low_rank is not None
        embeddings, *others = encoding.layers or [encoding.rows]
        below = torch.stack([embeddings, *others[:-1]]).sum(0)
        return embeddings + self.low_rank.spread(below) if others else embeddings


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "epochs": 200},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "weight": LogUniform(1e-2, 0.5),
    "temperature": LogUniform(0.1, 1.0),
    "rank": Integers(3, 30, log=True),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def lightgcl(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    rank: int = 5,
    weight: float = 0.2,
    temperature: float = 0.2,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """LightGCL: the graph's rows against those of its few largest singular vectors (Cai et al., 2023, arXiv 2302.08191).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        rank: singular values
        weight: of the contrast
        temperature: what products are divided by
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = LightGraphConvolution(catalogue.train, dim, layers=layers, deviation=deviation, pool="sum")
    objective = LightGCL(dim, rank=rank, weight=weight, temperature=temperature, l2=l2)
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
