"""MHCN: users are seen through three channels of what connects them, friendships, friendships over an item, and items alone.

Yu, Yin, Li, Wang, Hung, Zhang. Self-Supervised Multi-Channel Hypergraph Convolutional Network for Social Recommendation. WWW 2021,
arXiv 2101.06448.

A channel's matrix counts triangles of users and items (`motifs`), and its rows sum to 1. Self-supervision keeps in each channel what mixing
them would lose: a user belongs to its neighbourhood more than to a shuffled one, and a neighbourhood to the whole. The authors sum losses
over the batch and over all users; here both are means, with a weight to match.
"""

from __future__ import annotations

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from anyview.encoders.encoder import Encoder, Encoding
from anyview.learning_rates import ParameterGroup
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.schedules import Constant
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.beside import trust_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.motifs import channels
from anyview_recommenders.objectives import BPR
from anyview_recommenders.sparse_product import SparseMatrix, degree_normalised, row_normalised
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

CHANNELS = 3


class Gate(nn.Module):
    """A row times the sigmoid of a linear function of it: (M, D) to (M, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, rows: Tensor) -> Tensor:
        """The gated rows."""
        return rows * torch.sigmoid(self.linear(rows))


class MultiChannelConvolution(Encoder):
    """Embeddings of users spread over three channels of motifs, and of users and items over their interactions.

    trust: (U, U) CSR of ones, row u has whom user u trusts. matrix: (U, I) CSR of the training interactions. dim: D. layers: L. deviation:
    of the normal distribution that embeddings start from. map_rate: of gates and attention, times the learning rate of embeddings.

    In each layer a channel's users gather by its motifs, items gather users as attention mixes the channels, and users beside the channels
    gather items; rows are sums over layers of what was gathered, each of length 1, and of the start. Views and encoding as in
    LightGraphConvolution; `layers` are the embeddings alone.
    """

    def __init__(
        self, trust: csr_matrix, matrix: csr_matrix, dim: int = 64, *, layers: int = 2, deviation: float = 0.1, map_rate: float = 0.01
    ) -> None:
        super().__init__()
        self.dim, self.depth, self.map_rate = dim, layers, map_rate
        self.users, self.items = matrix.shape
        self.embedding = nn.Parameter(deviation * torch.randn(self.users + self.items, dim))
        self.gates = nn.ModuleList([Gate(dim) for _ in range(CHANNELS + 1)])
        self.attend = nn.Linear(dim, dim, bias=False)
        self.attention = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.motifs = nn.ModuleList([SparseMatrix(row_normalised(counts)) for counts in channels(trust, matrix).all])
        self.interactions = SparseMatrix(degree_normalised(matrix))

    def parameter_groups(self) -> list[ParameterGroup]:
        maps = [*self.gates.parameters(), *self.attend.parameters(), self.attention]
        return [ParameterGroup(maps, Constant(self.map_rate))]

    def forward(self, view: View) -> Encoding:
        nodes = view.data["nodes"]
        seen = [self.embedding.index_select(0, nodes)] if self.training else None
        return Encoding(self.whole().index_select(0, nodes), layers=seen)

    def whole(self) -> Tensor:
        """The rows (U + I, D) of all nodes."""
        users, items = self.embedding.split([self.users, self.items])
        *parted, simple = (gate(users) for gate in self.gates)
        sums, simple_sum, items_sum = parted, simple, items
        for _ in range(self.depth):
            mixed = self.mixed(parted) + simple / 2
            parted = [motif(rows) for motif, rows in zip(self.motifs, parted, strict=True)]
            simple, items = self.interactions(items), self.interactions.back(mixed)
            sums = [total + normalize(rows) for total, rows in zip(sums, parted, strict=True)]
            simple_sum, items_sum = simple_sum + normalize(simple), items_sum + normalize(items)
        return torch.cat([self.mixed(sums) + simple_sum / 2, items_sum])

    def mixed(self, parted: list[Tensor]) -> Tensor:
        """The channels' rows (U, D), each weighted for each user by attention: (U, D)."""
        stacked = torch.stack(parted)
        shares = (self.attend(stacked) @ self.attention).softmax(0)
        return (shares[..., None] * stacked).sum(0)


def hierarchical_loss(rows: Tensor, near: Tensor, order: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """How far users are from standing out, against the shuffled, in their neighbourhoods and these in the whole: two means over users.

    rows: (U, D) of users. near: (U, D) of their neighbourhoods, e = H z in the paper. order: permutations of users (U,), and of users (U,)
    and columns (D,) with which rows alone, and rows and columns, are shuffled.

    >>> order = torch.arange(4), torch.arange(4), torch.arange(2)
    >>> [round(float(loss), 3) for loss in hierarchical_loss(torch.zeros(4, 2), torch.ones(4, 2), order)]
    [1.386, 0.693]
    """
    shuffled, corrupted = rows[order[0]], near[order[1]][:, order[2]]
    whole = near.mean(0)
    own, other, far = ((a * b).sum(1) for a, b in ((rows, near), (shuffled, near), (corrupted, rows)))
    local = softplus(other - own) + softplus(far - other)
    return local.mean(), softplus(corrupted @ whole - near @ whole).mean()


class MHCN(BPR):
    """BPR, and in each channel a user's mutual information with the neighbourhood, and the neighbourhood's with the whole network.

    dim: width of the encoder's rows. weight: of the self-supervision, a sum over channels of means over users. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",))
    tags = ("contrastive",)

    def __init__(self, dim: int, *, weight: float = 0.01, l2: float = 1e-4) -> None:
        super().__init__(dim, l2=l2)
        self.weight = weight
        self.gates = nn.ModuleList([Gate(dim) for _ in range(CHANNELS)])

    def forward(self, step: Step) -> Losses:
        encoder = step.encoder
        assert isinstance(encoder, MultiChannelConvolution)
        terms, users = super().forward(step), encoder.embedding[: encoder.users]
        found = []
        for gate, motif in zip(self.gates, encoder.motifs, strict=True):
            rows = gate(users)
            found.append(hierarchical_loss(rows, motif(rows), _shuffles(step.draws, *rows.shape)))
        terms["local"], terms["global"] = (self.weight * torch.stack(part).sum() for part in zip(*found, strict=True))
        return terms


def _shuffles(draws: Draws, users: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return draws.permutation(users), draws.permutation(users), draws.permutation(width)


PRESETS: Presets = {
    "generated-social": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-2, "epochs": 200},
    "grid": {"data": "generated-social", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-1),
    "layers": Integers(1, 3),
    "map_rate": LogUniform(1e-3, 1e-1),
    "weight": LogUniform(1e-3, 0.5),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def mhcn(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    deviation: float = 0.1,
    map_rate: float = 0.01,
    weight: float = 0.01,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """MHCN: users through channels of friendships, of items, and of both (Yu et al., 2021, arXiv 2101.06448).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions, of which trust is that of the data
        dim: width of the rows
        layers: convolutions
        deviation: of the normal distribution that embeddings start from
        map_rate: learning rate of gates and attention, as a share of lr
        weight: of the self-supervision in the channels
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"trust": "own", **(reading or {})})
    catalogue = Catalogue.of(source)
    network = MultiChannelConvolution(trust_of(source), catalogue.train, dim, layers=layers, deviation=deviation, map_rate=map_rate)
    tasks = [Task(Triples(catalogue.train), MHCN(dim, weight=weight, l2=l2))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
