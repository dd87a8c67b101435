"""KCGN: a convolution over who rated what and when, whose rows tell the part of a social network, and of related items, that they are in.

Huang, Xu, Xu, Dai, Xia, Lu, Bo, Xing, Lai, Ye. Knowledge-aware Coupled Graph Neural Network for Social Recommendation. AAAI 2021.

Each item is as many nodes as there are levels of ratings, and messages between users and items say when it was. Users are related by trust,
taken both ways, and items by categories that they share. In each of the two graphs a node's neighbourhood has to be told from that of a
shuffled graph by the mean of all that is connected with it, as in Deep Graph Infomax.

Of pairs of items with a category the authors keep a random share, 10 % to 0.1 % by the size of the category; here as many random walks as
`neighbours` start at each item, so that no matrix of all pairs is made. Where the log has no ratings all items are of one level, without
times messages tell none, and without categories trust alone relates; a warning says so. Losses are means: ranking over the batch, the
others over those of its users and of its items whose part is large enough.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.view import View
from anyview_recommenders.batch_nodes import gathered_nodes, select
from anyview_recommenders.beside import ratings_and_times, trust_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.features import categories_of
from anyview_recommenders.losses import told_apart
from anyview_recommenders.metapaths import Matrix, walked, with_oneself
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.rated_convolution import RatedConvolution, levels_of, moments_of
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.sparse_product import SparseMatrix, degree_normalised, row_normalised
from anyview_recommenders.training import trained
from anyview_recommenders.trust import both_ways
from anyview_recommenders.views import Triples

LEAST = 10
"""Parts of a graph with no more nodes have no summary that could tell them from others."""


class ConnectedParts(nn.Module):
    """Neighbourhoods in a graph, told from those of a shuffled one by the mean of the connected part of the graph that they are in.

    links: (N, N), symmetric. A neighbourhood is PReLU of one normalised sum over neighbours and the node itself.

    >>> parts = ConnectedParts(csr_matrix(np.ones((11, 11))))
    >>> parts(torch.zeros(11, 4), torch.arange(3), torch.arange(11)).exp().round(decimals=3).item()
    4.0
    """

    part: Tensor
    large: Tensor

    def __init__(self, links: Matrix) -> None:
        super().__init__()
        own = with_oneself(links)
        self.spread = SparseMatrix(degree_normalised(own))
        count, part = connected_components(own, directed=False)
        members = csr_matrix((np.ones(len(part)), (part, np.arange(len(part)))), shape=(count, len(part)))
        self.means = SparseMatrix(row_normalised(members))
        self.activation = nn.PReLU()
        self.register_buffer("part", torch.from_numpy(part.astype(np.int64)), persistent=False)
        self.register_buffer("large", torch.from_numpy(np.bincount(part)[part] > LEAST), persistent=False)

    def forward(self, rows: Tensor, nodes: Tensor, order: Tensor) -> Tensor:
        """Binary cross-entropy of true and shuffled neighbourhoods, a mean over those of nodes (M,) that are in a part of more than 10.

        rows: (N, D). order: (N,) of the shuffled graph. Where no node is in such a part it is 0.
        """
        true, false = (self.activation(self.spread(seen)) for seen in (rows, rows.index_select(0, order)))
        nodes = nodes[self.large[nodes]]
        summary = torch.sigmoid(self.means(true)).index_select(0, self.part[nodes])
        return told_apart(true.index_select(0, nodes), false.index_select(0, nodes), summary).sum() / max(1, len(nodes))


class KCGN(BPR):
    """BPR, and users who tell the part of the social network that they are in, items that of related items.

    dim: width of the encoder's rows. trust: (U, U) CSR of ones, symmetric. related: (I, I), symmetric, or None. weight: of telling users'
    parts. item_weight: of items'. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self, dim: int, trust: Matrix, related: Matrix | None, *, weight: float = 0.1, item_weight: float = 0.01, l2: float = 1e-4
    ) -> None:
        super().__init__(dim, l2=l2)
        self.users, self.weight, self.item_weight = trust.shape[0], weight, item_weight
        self.of_users = ConnectedParts(trust)
        self.of_items = None if related is None else ConnectedParts(related)

    def forward(self, step: Step) -> Losses:
        nodes, draws = step.set.role("triples")[0].data["nodes"], step.draws
        assert isinstance(step.encoder, RatedConvolution)
        whole = step.encode(View({"nodes": torch.arange(self.users + step.encoder.items, device=nodes.device)}))
        terms = ranked(select(whole, nodes), self.l2)
        users, items = whole.rows[: self.users], whole.rows[self.users :]
        batch = torch.cat(gathered_nodes(nodes)).unique()
        of_users, of_items = batch[batch < self.users], batch[batch >= self.users] - self.users
        terms["trust"] = self.weight * self.of_users(users, of_users, draws.permutation(len(users)))
        if self.of_items is not None:
            terms["categories"] = self.item_weight * self.of_items(items, of_items, draws.permutation(len(items)))
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # how far shuffled rows are told apart follows from their length too


PRESETS: Presets = {
    "generated-social": {"lr": 5e-3, "hours": 0.01, "epochs": 100},
    "lastfm": {"lr": 5e-3, "epochs": 200},
    "grid": {"data": "generated-social", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-1),
    "layers": Integers(1, 3),
    "neighbours": Integers(5, 50),
    "weight": LogUniform(1e-3, 0.5),
    "item_weight": LogUniform(1e-4, 0.1),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def kcgn(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    categories: str = "",
    neighbours: int = 20,
    levels: int = 5,
    hours: float = 360.0,
    dim: int = 64,
    layers: int = 2,
    deviation: float = 0.1,
    weight: float = 0.1,
    item_weight: float = 0.01,
    l2: float = 0.1,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """KCGN: who rated what and when, and rows that tell the part of a network that they are in (Huang et al., 2021).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions; trust, features and details are the data's
        categories: features of items that relate them, such as genres,maker; by default all that are categories or lists
        neighbours: random walks from each item through its categories
        levels: of ratings, at most; more distinct ones are put into so many equal steps
        hours: length of the spans that times are told apart by
        dim: width of the embeddings; rows are wider by that of each layer
        layers: convolutions
        deviation: of the normal distribution that embeddings start from
        weight: of users who tell their part of the social network
        item_weight: of items that tell their part of the graph of categories
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"trust": "own", "features": True, "details": True, **(reading or {})})
    train, trust, kinds = Catalogue.of(source).train, both_ways(trust_of(source)), categories_of(source, categories)
    ratings, times = ratings_and_times(source)
    absent = [name for name, there in (("ratings", ratings), ("times", times), ("categories of items", kinds)) if there is None]
    if absent and isinstance(source, InteractionSource):
        warnings.warn(f"{source.name!r} has no {', no '.join(absent)}, and KCGN learns without", stacklevel=2)
    network = RatedConvolution(
        train,
        dim,
        levels=None if ratings is None else levels_of(ratings, levels),
        moments=None if times is None else moments_of(times, hours),
        layers=layers,
        deviation=deviation,
    )
    related = None if kinds is None else walked([kinds, csr_matrix(kinds.T)], neighbours, np.random.default_rng(0))
    objective = KCGN(network.dim, trust, related, weight=weight, item_weight=item_weight, l2=l2)
    return trained(source, network, [Task(Triples(train), objective)], epochs, batch_size, lr, look_every, patience)
