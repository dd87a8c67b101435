"""HMG-CR: a graph of what users only bought, of what they viewed and bought, and so on, each contrasted with the one before it.

Yang, Chen, Li, Yu, Xu. Hyper Meta-Path Contrastive Learning for Multi-Behavior Recommendation. ICDM 2021, arXiv 2109.02859.

A hyper-meta-path is a set of behaviours that hold for a user and an item together. The first is the target alone, each further one has one
more of the other behaviours, in the log's order, so their graphs lie within each other. Each has embeddings and a convolution of its own,
rows are the mean. Nodes have to be found by one path's rows in those of the path before it, among both paths' rows (GRACE), among the users
and items of the batch, where the authors take all.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from scipy.sparse import csr_matrix

from anyview.errors import UserError
from anyview.objectives.contrast import unit
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import encode_batch
from anyview_recommenders.beside import behaviours_of
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import ParallelConvolutions
from anyview_recommenders.losses import view_contrast
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


def hyper_meta_paths(behaviours: Mapping[str, csr_matrix]) -> list[csr_matrix]:
    """The pairs that have the target, those that have it and the first behaviour, then also the second, ...: K (U, I) CSR of ones.

    behaviours: K (U, I) CSR of ones by name, the target last.

    >>> shop = {"view": csr_matrix(np.array([[1.0, 1.0, 0.0]])), "buy": csr_matrix(np.array([[0.0, 1.0, 1.0]]))}
    >>> [path.toarray().tolist() for path in hyper_meta_paths(shop)]
    [[[0.0, 1.0, 1.0]], [[0.0, 1.0, 0.0]]]
    """
    *others, target = behaviours.values()
    found = [target]
    for other in others:
        found.append(csr_matrix(found[-1].multiply(other)))
        found[-1].sort_indices()
    return found


class HMGCR(BPR):
    """BPR of mean rows, and contrast of the rows that a node has by each path with those by the path before it.

    weight: share of the contrast in the sum of both, a mean over pairs of paths of users' and items' losses together; BPR has the rest, and
    with one path all. temperature: what cosines are divided by. l2: as in BPR. Raises UserError for a weight outside [0, 1).
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, weight: float = 0.1, temperature: float = 0.5, l2: float = 1e-4) -> None:
        super().__init__(dim, l2=l2)
        if not 0 <= weight < 1:
            raise UserError(f"the contrast's share of the loss lies in [0, 1), and {weight:g} was given; try 0.1")
        self.weight, self.temperature = weight, temperature

    def forward(self, step: Step) -> Losses:
        of_triples, *sides = encode_batch(step)
        terms = ranked(of_triples, self.l2)
        found = []
        for side in sides:
            _, *paths = side.layers or []
            rows = [unit(path) for path in paths]
            found += [view_contrast(longer, shorter, self.temperature) for shorter, longer in pairwise(rows)]
        if found:
            terms["bpr"] = (1 - self.weight) * terms["bpr"]
            terms["contrast"] = self.weight * torch.stack(found).mean() * len(sides)
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # the contrast's part follows from how many users and items a batch has


PRESETS: Presets = {
    "generated-behaviours": {"lr": 1e-2, "l2": 1e-3, "epochs": 100},
    "retail_rocket": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "grid": {"data": "generated-behaviours", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "layers": Integers(1, 3),
    "weight": Uniform(0.0, 0.5),
    "temperature": LogUniform(0.1, 1.0),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def hmgcr(
    data: str = "retail_rocket",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    weight: float = 0.1,
    temperature: float = 0.5,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """HMG-CR: graphs of pairs with more and more behaviours, each contrasted with the one before (Yang et al., 2021, arXiv 2109.02859).

    Args:
        data: a data set's name, or a file or folder of interactions with behaviours
        reading: how they are read, filtered and split; see the options of open_interactions, of which target is the last behaviour
        dim: width of the rows
        layers: graph convolutions of each path
        deviation: of the normal distribution that embeddings start from
        weight: share of the contrast in the sum of it and ranking
        temperature: what cosines are divided by
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the target's training interactions, at most
        batch_size: interactions of the target per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"target": "last", **(reading or {})})
    paths = hyper_meta_paths(behaviours_of(source))
    network = ParallelConvolutions(paths, dim, layers=layers, deviation=deviation)
    tasks = [Task(Triples(paths[0]), HMGCR(dim, weight=weight, temperature=temperature, l2=l2))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
