"""MBGMN: every node makes weights of its own for each behaviour, from what it is and what is around it, and every user for each ranking.

Xia, Xu, Huang, Dai, Bo. Graph Meta Network for Multi-Behavior Recommendation. SIGIR 2021, arXiv 2110.03969.

A network makes of an embedding, a behaviour's embedding and the neighbours a matrix of low rank, which specialises the embedding to the
behaviour, before it is spread over that behaviour's graph. Beside that runs a joint channel over all graphs, whose layers attend from
behaviour to behaviour. By the rows of each behaviour each other one is ranked, with weights that a second network makes of both.

The authors make those weights anew for every pair of a user and an item, for an MLP of [u ⊙ i; u; i]. All items for all users would take a
matrix for every pair, and public code, which trains that, ranks by inner products of rows. Here a reduced form is trained and ranked by:
weights follow from the user's rows alone, and the score is linear in the item: (w ⊙ u + v) · i, with w = 1 and v = 0 at first. Summed over
source behaviours that is an inner product of rows side by side, and ranks in bounded memory. The hinge has its gradient, which public code
takes away, and every user of a pass takes part.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, scaled_dot_product_attention

from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.learning_rates import ParameterGroup
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.schedules import Constant
from anyview.views.view import View
from anyview_recommenders.batch_nodes import parts
from anyview_recommenders.behaviour_views import BehaviourBatch, BehaviourTriples
from anyview_recommenders.beside import behaviours_of
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import SelectedLayers
from anyview_recommenders.losses import squared_length
from anyview_recommenders.objectives import embeddings
from anyview_recommenders.sparse_product import SparseMatrix, degree_normalised
from anyview_recommenders.training import trained

RANK = 4
"""Of the matrices that specialise embeddings."""
USERS = 2**16
"""Whose queries are made at once for rows of all."""


class Specialised(nn.Module):
    """Embeddings beside what a matrix of low rank of their own makes of them: (N, H) to (N, 2H).

    width: H. m = φ(W [e; x; neighbours]), row by row; the matrix is φ(F m)ᵀ, (H, 4), times φ(F' m), (4, H). rows, around: (N, H),
    embeddings and sums over neighbours. behaviour: (H,).

    >>> Specialised(3)(torch.randn(5, 3), torch.randn(5, 3), torch.randn(3)).shape
    torch.Size([5, 6])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.meta, self.down, self.up = nn.Linear(3 * width, width), nn.Linear(width, RANK * width), nn.Linear(width, RANK * width)

    def forward(self, rows: Tensor, around: Tensor, behaviour: Tensor) -> Tensor:
        width = rows.shape[1]
        meta = active(self.meta(torch.cat([behaviour.expand_as(rows), rows, around], 1)))
        down, up = (active(own(meta)).view(-1, RANK, width) for own in (self.down, self.up))
        found = (down * rows[:, None]).sum(2)  # of many small products these sums are the faster form
        return torch.cat([(found[:, :, None] * up).sum(1), rows], 1)


def active(rows: Tensor) -> Tensor:
    """The authors' activation, of the networks that make weights."""
    return leaky_relu(rows, 0.1)


class BehaviourAttention(nn.Module):
    """Two heads of attention from each of K behaviours' rows of a node to all of them, and the rows themselves: (N, K, D) to (N, K, D).

    dim: D, even. Queries and keys are one linear map of the rows, values another, which begins as the identity.

    >>> BehaviourAttention(4)(torch.zeros(5, 3, 4)).shape
    torch.Size([5, 3, 4])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.places, self.values = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.values.weight)

    def forward(self, rows: Tensor) -> Tensor:
        places, values = (own(rows).unflatten(2, (2, -1)).transpose(1, 2) for own in (self.places, self.values))  # (N, 2, K, D / 2)
        return rows + scaled_dot_product_attention(places, places, values).transpose(1, 2).flatten(2)


class MetaGraph(Encoder):
    """An embedding of each user and item, specialised to each of K behaviours and to all, spread over their graphs, and queries of users.

    behaviours: (U, I) CSR of each by name, the target last. width: D of the rows of a behaviour, even; embeddings are half as wide. layers:
    L. deviation: of the normal distribution that embeddings start from. slope: of the convolutions' activations below 0. map_rate: of the
    networks that make weights, times the learning rate of embeddings. dim: K D. Raises UserError for an odd width.

    x_l of a node is φ of its neighbours' normalised sum of x_l-1, plus its x_l-1; a behaviour's row is the mean of x_0 .. x_L, and of the
    joint channel where there is more than one behaviour: there a layer's sums of all behaviours attend to each other, and the mean goes on.

    Views as in LightGraphConvolution. Rows of items are those of all behaviours side by side, of users their queries for the target, over
    K; in training `layers` are the embeddings (M, D / 2), then the rows (M, D) of each behaviour.

    >>> encoder = MetaGraph({"view": csr_matrix(np.ones((2, 3))), "buy": csr_matrix(np.eye(2, 3))}, width=4)
    >>> encoder(View({"nodes": torch.tensor([0, 4, 1])})).rows.shape
    torch.Size([3, 8])
    """

    def __init__(
        self,
        behaviours: Mapping[str, csr_matrix],
        width: int = 64,
        *,
        layers: int = 2,
        deviation: float = 0.1,
        slope: float = 0.5,
        map_rate: float = 1.0,
    ) -> None:
        super().__init__()
        if width % 2:
            raise UserError(f"half of a row is an embedding and half what specialises it, and the width is {width}; make it even")
        matrices = list(behaviours.values())
        self.behaviours, self.depth, self.slope, self.dim = len(matrices), layers, slope, len(matrices) * width
        self.map_rate = map_rate
        self.users, self.items = matrices[0].shape
        self.graphs = nn.ModuleList([SparseMatrix(degree_normalised(own)) for own in matrices])
        channels = len(matrices) + (len(matrices) > 1)
        self.embedding = nn.Parameter(deviation * torch.randn(self.users + self.items, width // 2))
        self.channels = nn.Parameter(deviation * torch.randn(channels, width // 2))
        self.specialised = nn.ModuleList([Specialised(width // 2) for _ in range(channels)])
        self.attention = nn.ModuleList([BehaviourAttention(width) for _ in range(layers if channels > 1 else 0)])
        self.known, self.pair, self.query = nn.Linear(width, width), nn.Linear(3 * width, width), nn.Linear(width, 2 * width)
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)

    def parameter_groups(self) -> list[ParameterGroup]:
        networks = (self.specialised, self.attention, self.known, self.pair, self.query)
        return [ParameterGroup([weight for network in networks for weight in network.parameters()], Constant(self.map_rate))]

    def forward(self, view: View) -> Encoding:
        nodes, each = view.data["nodes"], self.spread()
        users, items = torch.stack(each, 1).split([self.users, self.items])
        queries = [self.queries(some, torch.full((len(some),), self.behaviours - 1, device=nodes.device)) for some in users.split(USERS)]
        rows = torch.cat([*(own / self.behaviours for own in queries), items]).flatten(1).index_select(0, nodes)
        return Encoding(rows, layers=SelectedLayers([self.embedding, *each], nodes) if self.training else None)

    def spread(self) -> list[Tensor]:
        """The rows (N, D) of all nodes in each behaviour."""
        around = [self.sums(graph, self.embedding) for graph in self.graphs]
        start = [own(self.embedding, sums, channel) for own, sums, channel in zip(self.specialised, around, self.channels, strict=False)]
        each = [self._mean_of_layers(graph, rows) for graph, rows in zip(self.graphs, start, strict=True)]
        if self.behaviours == 1:
            return each
        joint = self._joint(self.specialised[-1](self.embedding, torch.stack(around).mean(0), self.channels[-1]))
        return [(own + joint) / 2 for own in each]

    def sums(self, graph: nn.Module, rows: Tensor) -> Tensor:
        """The normalised sums (N, D) of neighbours' rows (N, D) in the graph of a behaviour."""
        users, items = rows.split([self.users, self.items])
        assert isinstance(graph, SparseMatrix)
        return torch.cat([graph(items), graph.back(users)])

    def _mean_of_layers(self, graph: nn.Module, rows: Tensor) -> Tensor:
        total = rows
        for _ in range(self.depth):
            rows = leaky_relu(self.sums(graph, rows), self.slope) + rows
            total = total + rows
        return total / (self.depth + 1)

    def _joint(self, rows: Tensor) -> Tensor:
        total = rows
        for attention in self.attention:
            sums = torch.stack([leaky_relu(self.sums(graph, rows), self.slope) for graph in self.graphs], 1)
            rows = attention(sums).mean(1) + rows
            total = total + rows
        return total / (self.depth + 1)

    def queries(self, users: Tensor, target: Tensor) -> Tensor:
        """What users (P, K, D), rows of each behaviour, look for in items' rows of each to rank a target (P,): (P, K, D).

        z = φ(F u) of each behaviour, m = φ(F' [z_s ⊙ z_t; z_s; z_t]) of source s and target t; w, v = F'' m, and (1 + w) ⊙ u + v.
        """
        known = active(self.known(users))
        of_target = known[torch.arange(len(users), device=users.device), target, None]
        meta = active(self.pair(torch.cat([known * of_target, known, of_target.expand_as(known)], 2)))
        scale, shift = self.query(meta).chunk(2, 2)
        return (1 + scale) * users + shift


class MBGMN(Objective):
    """A hinge for each source and target behaviour: what a user did scores 1 above what they did not; and short embeddings.

    dim: of the encoder's rows, which it does not need. auxiliary: weight of ranking each behaviour beside the target. l2: weight of half
    the squared lengths of the batch's embeddings. The hinge is a mean over sources and users, summed over targets.
    """

    needs = Needs(views=0, roles=("behaviours",))
    tags = ("ranking",)

    def __init__(self, dim: int, *, auxiliary: float = 1.0, l2: float = 1e-4) -> None:
        super().__init__()
        self.auxiliary, self.l2 = auxiliary, l2

    def forward(self, step: Step) -> Losses:
        shown, encoder = BehaviourBatch.of(step), step.encoder
        assert isinstance(encoder, MetaGraph)
        at, target = shown.there.nonzero(as_tuple=True)
        nodes = torch.cat([shown.users[at], shown.positives[at, target], shown.negatives[at, target]])
        of_triples = parts(step.encode(View({"nodes": nodes})), [len(at)] * 3)
        users, positives, negatives = (torch.stack([*(own.layers or [])[1:]], 1) for own in of_triples)
        margins = (encoder.queries(users, target) * (positives - negatives)).sum(2)
        weights = shown.shares(self.auxiliary)[target]
        terms = Losses(hinge=((1 - margins).clamp(min=0).mean(1) * weights).sum())
        if self.l2:
            terms["l2"] = self.l2 * squared_length(*(embeddings(own) for own in of_triples))
        return terms


PRESETS: Presets = {
    "generated-behaviours": {"lr": 3e-3, "l2": 1e-3, "layers": 4, "map_rate": 0.1, "epochs": 60, "look_every": 2},
    "retail_rocket": {
        "lr": 5e-3,
        "l2": 1e-3,
        "layers": 4,
        "deviation": 1e-2,
        "map_rate": 0.1,
        "auxiliary": 0.1,
        "epochs": 60,
        "look_every": 2,
    },
    "grid": {"data": "generated-behaviours", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-1),
    "layers": Integers(1, 4),
    "deviation": LogUniform(1e-3, 1e-1),
    "map_rate": LogUniform(1e-2, 1.0),
    "auxiliary": LogUniform(1e-2, 1.0),
}


@recipe(presets=PRESETS, views=BehaviourTriples, ranges=RANGES)
def mbgmn(
    data: str = "retail_rocket",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    deviation: float = 0.1,
    slope: float = 0.5,
    map_rate: float = 1.0,
    auxiliary: float = 1.0,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """MBGMN: weights that each node makes for each behaviour, and each user for each ranking (Xia et al., 2021, arXiv 2110.03969).

    Args:
        data: a data set's name, or a file or folder of interactions with behaviours
        reading: how they are read, filtered and split; see the options of open_interactions, of which target is the last behaviour
        dim: width of the rows of each behaviour, twice that of embeddings
        layers: graph convolutions of each behaviour, and of all together
        deviation: of the normal distribution that embeddings start from
        slope: of the convolutions' activations below 0
        map_rate: learning rate of the networks that make weights, as a share of lr
        auxiliary: weight of ranking each behaviour beside the target
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the target's training interactions, at most
        batch_size: interactions of the target per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"target": "last", **(reading or {})})
    behaviours = behaviours_of(source)
    network = MetaGraph(behaviours, dim, layers=layers, deviation=deviation, slope=slope, map_rate=map_rate)
    tasks = [Task(BehaviourTriples(behaviours), MBGMN(network.dim, auxiliary=auxiliary, l2=l2))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
