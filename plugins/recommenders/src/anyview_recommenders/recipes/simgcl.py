"""SimGCL: a node finds itself again after noise that has nothing to do with the graph.

Yu, Yin, Xia, Chen, Cui, Nguyen. Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation. SIGIR 2022,
arXiv 2112.08679.

Ranking is learned on rows without noise; two passes more, each with noise of its own after every layer, give the batch's users, and its
items, two views that have to find each other among those of the batch. Rows leave the embeddings out: they are the mean of the layers.
"""

from __future__ import annotations

import torch

from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import encode_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.losses import node_contrast
from anyview_recommenders.noise import NoisyGraphConvolution, noisy
from anyview_recommenders.objectives import BPR
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class SimGCL(BPR):
    """BPR without noise, and InfoNCE between two noisy passes, for users and for items.

    dim: width of the encoder's rows. weight, temperature: of InfoNCE. noise: length of what is added to a node after each layer. l2: as in
    BPR.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, weight: float = 0.5, temperature: float = 0.2, noise: float = 0.1, l2: float = 1e-4) -> None:
        super().__init__(dim, l2=l2)
        self.weight, self.temperature, self.noise = weight, temperature, noise

    def forward(self, step: Step) -> Losses:
        terms = super().forward(step)
        first, second = (encode_nodes(step, **noisy(step.draws, self.noise, number)) for number in range(2))
        found = [node_contrast(a.rows, b.rows, self.temperature) for a, b in zip(first, second, strict=True)]
        terms["contrast"] = self.weight * torch.stack(found).sum()
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # InfoNCE's part follows from how many different users and items a batch has


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "weight": 0.05, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "weight": 0.05, "epochs": 200},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "weight": 0.05, "epochs": 100},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "weight": LogUniform(1e-2, 0.5),
    "temperature": LogUniform(0.05, 0.5),
    "noise": LogUniform(0.02, 0.5),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def simgcl(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    weight: float = 0.5,
    temperature: float = 0.2,
    noise: float = 0.1,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """SimGCL: a node finds itself after noise (Yu et al., 2022, arXiv 2112.08679).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        weight: of the contrast
        temperature: what cosines are divided by
        noise: length of what is added to a node after each layer
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = NoisyGraphConvolution(catalogue.train, dim, layers=layers, deviation=deviation)
    objective = SimGCL(dim, weight=weight, temperature=temperature, noise=noise, l2=l2)
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
