"""SMIN: users and items along metapaths through trust, interactions and categories, and nodes told from others by what surrounds them.

Long, Huang, Xu, Xu, Dai, Xia, Bo. Social Recommendation with Self-Supervised Metagraph Informax Network. CIKM 2021, arXiv 2110.03958.

Users are related by trust (UU), by items (UIU) and by categories of items (UITIU), items by users (IUI) and by categories (ITI). Where
items have no categories the paths through them are left out, and a warning says so. Of each path but trust the authors keep a random share,
30 %, 0.03 %, 25 % and 0.2 %, that fits the size of their data; here as many random walks as `neighbours` start at each node, so that no
matrix of all pairs is made. What lies within two hops of a node is a mean of means, for the same reason. In a graph of interactions, trust
and ITI a node's neighbourhood has to tell its own surroundings, and its own row, from those that a shuffled graph would have, and to find
its neighbours. Losses are means: ranking over the batch, the others over its nodes and over links.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csr_array, csr_matrix
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.learning_rates import ParameterGroup
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.schedules import Constant
from anyview.views.view import View
from anyview_recommenders.batch_nodes import gathered_nodes, select
from anyview_recommenders.beside import trust_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.features import categories_of
from anyview_recommenders.losses import told_apart
from anyview_recommenders.metapaths import Matrix, walked, with_oneself
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.sparse_product import SparseMatrix, SparsePattern, degree_normalised, row_normalised
from anyview_recommenders.training import trained
from anyview_recommenders.trust import both_ways
from anyview_recommenders.views import Triples


class Metapaths(NamedTuple):
    """Links of each metapath by name, CSR of ones: of users (U, U) and of items (I, I)."""

    of_users: Mapping[str, Matrix]
    of_items: Mapping[str, Matrix]


def metapaths(trust: csr_matrix, matrix: csr_matrix, categories: csr_matrix | None, neighbours: int) -> Metapaths:
    """The five metapaths, or the three that there are without categories; the same for the same data.

    trust: (U, U), taken both ways. matrix: (U, I) of the training interactions. categories: (I, C). neighbours: walks from each node.
    Raises UserError for fewer than one.
    """
    if neighbours < 1:
        raise UserError(f"a metapath relates a node to at least 1 neighbour, and neighbours is {neighbours}; try 20")
    random, back = np.random.default_rng(0), csr_matrix(matrix.T)
    users: dict[str, Matrix] = {"UU": both_ways(trust), "UIU": walked([matrix, back], neighbours, random)}
    items: dict[str, Matrix] = {"IUI": walked([back, matrix], neighbours, random)}
    if categories is not None:
        alike = [categories, csr_matrix(categories.T)]
        users["UITIU"] = walked([matrix, *alike, back], neighbours, random)
        items["ITI"] = walked(alike, neighbours, random)
    return Metapaths(users, items)


class MetapathMixture(nn.Module):
    """Rows of one kind of nodes, convolved along each metapath and mixed by attention to paths, which all nodes share.

    links: (N, N) of each path. dim: D. layers: L. hidden: width of the attention.
    """

    def __init__(self, links: Sequence[Matrix], dim: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.graphs = nn.ModuleList([SparseMatrix(degree_normalised(with_oneself(own))) for own in links])
        self.maps = nn.ModuleList([nn.ModuleList([nn.Linear(dim, dim, bias=False) for _ in range(layers)]) for _ in links])
        self.activation = nn.PReLU()
        self.attend = nn.Linear((1 + layers) * dim, hidden)
        self.query = nn.Parameter(torch.randn(hidden) / hidden**0.5)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, (1 + L) D) of rows (N, D): the rows, and what each layer makes of them, of length 1."""
        seen = torch.stack([self.along(graph, maps, rows) for graph, maps in zip(self.graphs, self.maps, strict=True)])
        shares = (torch.tanh(self.attend(seen)) @ self.query).mean(1).softmax(0)
        return (shares[:, None, None] * seen).sum(0)

    def along(self, graph: nn.Module, maps: nn.Module, rows: Tensor) -> Tensor:
        """The rows and their layers along one metapath, (N, (1 + L) D)."""
        assert isinstance(maps, nn.ModuleList)
        layers = [rows]
        for linear in maps:
            rows = self.activation(graph(linear(rows)))
            layers.append(normalize(rows))
        return torch.cat(layers, 1)


class MetapathConvolution(Encoder):
    """Embeddings of users and of items, each convolved along their own metapaths.

    paths: of both. dim: D; rows have (1 + L) D. layers: L. hidden: width of the attention to paths. deviation: of the normal distribution
    that embeddings start from. map_rate: of all that mixes and maps them, times the learning rate of embeddings. Views and encoding as in
    LightGraphConvolution; `layers` are the embeddings alone.

    >>> paths = Metapaths({"UU": csr_matrix(np.eye(2))}, {"IUI": csr_matrix(np.eye(3))})
    >>> MetapathConvolution(paths, dim=4)(View({"nodes": torch.tensor([0, 4, 1])})).rows.shape
    torch.Size([3, 12])
    """

    def __init__(
        self, paths: Metapaths, dim: int = 64, *, layers: int = 2, hidden: int = 128, deviation: float = 0.1, map_rate: float = 0.01
    ) -> None:
        super().__init__()
        self.dim, self.map_rate = (1 + layers) * dim, map_rate
        self.users, self.items = (next(iter(side.values())).shape[0] for side in paths)
        self.embedding = nn.Parameter(deviation * torch.randn(self.users + self.items, dim))
        self.of_users, self.of_items = (MetapathMixture(list(side.values()), dim, layers, hidden) for side in paths)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup([*self.of_users.parameters(), *self.of_items.parameters()], Constant(self.map_rate))]

    def forward(self, view: View) -> Encoding:
        nodes = view.data["nodes"]
        users, items = self.embedding.split([self.users, self.items])
        whole = torch.cat([self.of_users(users), self.of_items(items)])
        return Encoding(whole.index_select(0, nodes), layers=[self.embedding.index_select(0, nodes)] if self.training else None)


class SMIN(BPR):
    """BPR, and a node's neighbourhood that tells what surrounds it, and its own row, from those of a shuffled graph.

    dim: width of the encoder's rows. graph: (U + I, U + I) CSR of links among all nodes, symmetric. weight: of what surrounds a node.
    own_weight: of its own row, and of finding its neighbours. Both are means over the nodes of the batch of triples. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, graph: Matrix, *, weight: float = 0.06, own_weight: float = 0.002, l2: float = 1e-4) -> None:
        super().__init__(dim, l2=l2)
        self.weight, self.own_weight = weight, own_weight
        linked = with_oneself(graph)
        self.spread, self.near = SparseMatrix(degree_normalised(linked)), SparseMatrix(row_normalised(linked))
        self.links = SparsePattern(sparse.triu(graph, 1, format="csr"))
        self.activation = nn.PReLU()

    def forward(self, step: Step) -> Losses:
        nodes = step.set.role("triples")[0].data["nodes"]
        whole = step.encode(View({"nodes": torch.arange(self.near.shape[0], device=nodes.device)}))
        terms, rows = ranked(select(whole, nodes), self.l2), whole.rows
        shuffled = rows.index_select(0, step.draws.permutation(len(rows)))
        true, false = (self.activation(self.spread(seen)) for seen in (rows, shuffled))
        batch = torch.cat(gathered_nodes(nodes)).unique()
        right, wrong, own = (part.index_select(0, batch) for part in (true, false, rows))
        around = torch.sigmoid(self.near(self.near(rows))).index_select(0, batch)
        found = torch.sigmoid(self.links.products(true, true))
        terms["around"] = self.weight * told_apart(right, wrong, around).mean()
        terms["own"] = self.own_weight * (told_apart(right, wrong, own).mean() + (1 - found).square().mean())
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # how far shuffled rows are told apart follows from their length too


PRESETS: Presets = {
    "generated-social": {"lr": 5e-3, "epochs": 100},
    "lastfm": {"lr": 5e-3, "epochs": 200},
    "grid": {"data": "generated-social", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-1),
    "layers": Integers(1, 3),
    "map_rate": LogUniform(1e-3, 1e-1),
    "neighbours": Integers(5, 50),
    "weight": LogUniform(1e-3, 0.5),
    "own_weight": LogUniform(1e-4, 0.05),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def smin(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    categories: str = "",
    neighbours: int = 20,
    dim: int = 64,
    layers: int = 2,
    hidden: int = 128,
    deviation: float = 0.1,
    map_rate: float = 0.01,
    weight: float = 0.06,
    own_weight: float = 0.002,
    l2: float = 0.1,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """SMIN: users and items along metapaths through trust, interactions and categories (Long et al., 2021, arXiv 2110.03958).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions, of which trust and features are the data's
        categories: features of items that relate them, such as genres,maker; by default all that are categories or lists
        neighbours: random walks from each node along each metapath but trust
        dim: width of the embeddings; rows are wider by that of each layer
        layers: convolutions along each metapath
        hidden: width of the attention to metapaths
        deviation: of the normal distribution that embeddings start from
        map_rate: learning rate of the maps along metapaths and of the attention to them, as a share of lr
        weight: of telling what surrounds a node
        own_weight: of telling a node's own row, and of finding its neighbours
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"trust": "own", "features": True, **(reading or {})})
    train, trust, kinds = Catalogue.of(source).train, trust_of(source), categories_of(source, categories)
    if kinds is None and isinstance(source, InteractionSource):
        told = f"the items of {source.name!r} have no categories, and SMIN goes along trust and interactions alone (UU, UIU, IUI)"
        warnings.warn(f"{told}; give it a table with --reading.item_features", stacklevel=2)
    paths = metapaths(trust, train, kinds, neighbours)
    network = MetapathConvolution(paths, dim, layers=layers, hidden=hidden, deviation=deviation, map_rate=map_rate)
    objective = SMIN(network.dim, joined(paths, train), weight=weight, own_weight=own_weight, l2=l2)
    return trained(source, network, [Task(Triples(train), objective)], epochs, batch_size, lr, look_every, patience)


def joined(paths: Metapaths, matrix: csr_matrix) -> csr_array:
    """(U + I, U + I) CSR of ones: interactions, trust, and items of one category where there are categories."""
    return csr_array(sparse.block_array([[paths.of_users["UU"], matrix], [matrix.T, paths.of_items.get("ITI")]], format="csr"))
