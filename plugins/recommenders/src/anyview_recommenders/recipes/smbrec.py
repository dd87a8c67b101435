"""S-MBRec: a graph for each behaviour, fused into one ranking, and what users buy told by what they view: a star around the target.

Gu, Wang, Shi, Xiao. Self-supervised Graph Neural Networks for Multi-behavior Recommendation. IJCAI 2022.

Each behaviour has embeddings and a convolution of its own. By its row of the target a user has to be found in every other behaviour, among
the users of the batch; users whose target items are most alike count as found too, and all others are negatives. Public code takes pairs of
a user with themselves as negatives, which drives users away from themselves; here they are positives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from anyview.errors import UserError
from anyview.learning_rates import ParameterGroup
from anyview.objectives.contrast import in_blocks, part, products, unit
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.schedules import Constant
from anyview.views.view import View
from anyview_recommenders.batch_nodes import parts, unique_nodes
from anyview_recommenders.beside import behaviours_of
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import ParallelConvolutions
from anyview_recommenders.objectives import ranked
from anyview_recommenders.owned import Owned
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class BehaviourConvolutions(ParallelConvolutions):
    """A LightGraphConvolution for each of K behaviours, fused: users by attention to what they do much of, items by a linear map.

    behaviours: (U, I) CSR of each by name, the target last. map_rate: of the maps and w, times the learning rate of embeddings; else as in
    ParallelConvolutions.

    User u weighs behaviour k by the softmax over behaviours of w_k times how often u did it; counts are over their mean, which w takes up.
    Linear maps begin as the identity and the mean, and w at 0: rows are at first a mean over behaviours, with one those of the convolution.
    >>> encoder = BehaviourConvolutions({"view": csr_matrix(np.ones((2, 3))), "buy": csr_matrix(np.eye(2, 3))}, dim=4)
    >>> encoder(View({"nodes": torch.tensor([0, 4, 1])})).rows.shape
    torch.Size([3, 4])
    """

    counts: Tensor

    def __init__(
        self, behaviours: Mapping[str, csr_matrix], dim: int = 64, *, layers: int = 2, deviation: float = 0.1, map_rate: float = 0.01
    ) -> None:
        matrices = list(behaviours.values())
        super().__init__(matrices, dim, layers=layers, deviation=deviation)
        counts = np.stack([np.diff(own.indptr) for own in matrices], 1).astype(np.float64)
        relative = torch.from_numpy(counts / np.maximum(counts.mean(0), 1e-12)).to(torch.get_default_dtype())
        self.register_buffer("counts", relative, persistent=False)
        self.map_rate = map_rate
        self.attention = nn.Parameter(torch.zeros(len(matrices)))
        self.of_users, self.of_items = nn.Linear(dim, dim), nn.Linear(len(matrices) * dim, dim)
        with torch.no_grad():
            self.of_users.weight.copy_(torch.eye(dim))
            self.of_items.weight.copy_(torch.eye(dim).repeat(1, len(matrices)) / len(matrices))
            for linear in (self.of_users, self.of_items):
                linear.bias.zero_()

    def parameter_groups(self) -> list[ParameterGroup]:
        maps = [self.attention, *self.of_users.parameters(), *self.of_items.parameters()]
        return [ParameterGroup(maps, Constant(self.map_rate))]

    def fused(self, nodes: Tensor, rows: Tensor) -> Tensor:
        shares = (self.attention * self.counts[nodes.clamp(max=self.users - 1)]).softmax(1)
        as_users = self.of_users((shares[..., None] * rows).sum(1))
        return torch.where((nodes < self.users)[:, None], as_users, self.of_items(rows.flatten(1)))


def similar_users(matrix: csr_matrix, share: float) -> csr_matrix:
    """(U, U) CSR of ones, symmetric, of the pairs of users whose items are most alike; nobody is paired with themselves.

    matrix: (U, I) CSR of ones. share: of the pairs with an item in common, those with most pointwise mutual information, which orders pairs
    as |A and B| / (|A| |B|) does; of equal ones those with more in common. Memory grows with the pairs that have an item in common. Raises
    UserError unless 0 <= share <= 1.

    >>> similar_users(csr_matrix(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])), 0.4).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if not 0 <= share <= 1:
        raise UserError(f"the share of pairs of users that are alike lies between 0 and 1, and {share:g} was given; try 0.1")
    common = sparse.triu(matrix @ matrix.T, 1).tocoo()
    sizes = np.diff(matrix.indptr)
    likeness = common.data / (sizes[common.row] * sizes[common.col])
    best = np.lexsort((common.col, common.row, -common.data, -likeness))[: round(share * len(likeness))]
    ends = np.stack([common.row[best], common.col[best]])
    row, column = np.concatenate([ends, ends[::-1]], 1)
    return csr_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape=common.shape)


def star_contrast(target: Tensor, other: Tensor, alike: Tensor, temperature: float = 0.5) -> Tensor:
    """-log of the share that a user and those alike have of exp(cosine / temperature) over all users of a batch; a mean over users.

    target, other: (M, D) rows of the same users in two behaviours. alike: (M, M) bool. The M x M matrix is made in blocks if it is large.

    >>> rows, nobody = torch.ones(8, 4), torch.zeros(8, 8, dtype=torch.bool)
    >>> round(float(star_contrast(rows, rows, nobody).exp()), 3), float(star_contrast(rows, rows, ~nobody))
    (8.0, 0.0)
    """
    queries, keys = unit(target, 1 / temperature), unit(other)
    places = torch.arange(len(keys), device=keys.device)

    def losses(own: slice) -> Tensor:
        logits = products(part(queries, own), keys)
        found = alike[own] | (places[own, None] == places)
        return logits.logsumexp(1) - logits.masked_fill(~found, -torch.inf).logsumexp(1)

    return in_blocks(losses, len(queries), len(keys)).mean()


class SMBRec(Objective):
    """BPR of the fused rows, and the star: contrast of the target's users with those of each other behaviour.

    matrix: (U, I) CSR of the target's training interactions. share: of the pairs of users that are alike; see `similar_users`. weight: of
    the contrast, a sum over behaviours of means over users. temperature: what cosines are divided by. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self, dim: int, matrix: csr_matrix, *, share: float = 0.1, weight: float = 0.1, temperature: float = 0.5, l2: float = 1e-4
    ) -> None:
        super().__init__()
        self.alike = Owned(similar_users(matrix, share))
        self.weight, self.temperature, self.l2 = weight, temperature, l2

    def forward(self, step: Step) -> Losses:
        nodes = step.set.role("triples")[0].data["nodes"]
        users, _ = unique_nodes(nodes)
        of_triples, of_users = parts(step.encode(View({"nodes": torch.cat([nodes, users])})), [len(nodes), len(users)])
        terms = ranked(of_triples, self.l2)
        _, *others, target = of_users.layers or []
        if others:
            alike = self.alike(users, users)
            found = [star_contrast(target, other, alike, self.temperature) for other in others]
            terms["star"] = self.weight * torch.stack(found).sum()
        return terms


PRESETS: Presets = {
    "generated-behaviours": {"lr": 5e-3, "l2": 1e-3, "weight": 1e-2, "epochs": 100},
    "retail_rocket": {"lr": 5e-3, "l2": 1e-3, "map_rate": 3e-3, "weight": 1e-2, "epochs": 100},
    "grid": {"data": "generated-behaviours", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "layers": Integers(1, 3),
    "map_rate": LogUniform(1e-3, 1e-1),
    "weight": LogUniform(1e-3, 0.5),
    "temperature": LogUniform(0.1, 1.0),
    "share": Uniform(0.0, 0.3),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def smbrec(
    data: str = "retail_rocket",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    deviation: float = 0.1,
    map_rate: float = 0.01,
    weight: float = 0.1,
    temperature: float = 0.5,
    share: float = 0.1,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """S-MBRec: a graph for each behaviour, and the target's users found in every other (Gu et al., 2022, IJCAI).

    Args:
        data: a data set's name, or a file or folder of interactions with behaviours
        reading: how they are read, filtered and split; see the options of open_interactions, of which target is the last behaviour
        dim: width of the rows
        layers: graph convolutions of each behaviour
        deviation: of the normal distribution that embeddings start from
        map_rate: learning rate of the maps that fuse behaviours, as a share of lr
        weight: of the contrast
        temperature: what cosines are divided by
        share: of the pairs of users with an item in common, the most alike, which are positives
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the target's training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"target": "last", **(reading or {})})
    behaviours = behaviours_of(source)
    target = list(behaviours.values())[-1]
    network = BehaviourConvolutions(behaviours, dim, layers=layers, deviation=deviation, map_rate=map_rate)
    tasks = [Task(Triples(target), SMBRec(dim, target, share=share, weight=weight, temperature=temperature, l2=l2))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
