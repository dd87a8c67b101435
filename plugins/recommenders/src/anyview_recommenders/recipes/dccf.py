"""DCCF: what a node gathers has to be told by the intents that it takes up, and by interactions weighed by how alike their ends are.

Ren, Xia, Zhao, Yin, Huang. Disentangled Contrastive Collaborative Filtering. SIGIR 2023, arXiv 2305.02759.

In each layer nodes gather along interactions, take up a mixture of intents that all users, or all items, share, and gather twice more along
interactions whose weights say how alike their two ends are, in what was gathered and in the intents. The first has to find each of the
other three among the nodes of the batch.
"""

from __future__ import annotations

import torch

from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import all_nodes, gathered_nodes, select
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.disentangled_convolution import DisentangledConvolution
from anyview_recommenders.losses import node_contrast
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class DCCF(BPR):
    """BPR, and in each layer InfoNCE of what nodes gather with their intents and with what they gather from those alike.

    dim: width of the encoder's rows. weight, temperature: of InfoNCE, between the batch's users and between its items, the negatives among
    them; a sum over layers and over the three. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, weight: float = 0.01, temperature: float = 0.2, l2: float = 1e-4) -> None:
        super().__init__(dim, l2=l2)
        self.weight, self.temperature = weight, temperature

    def forward(self, step: Step) -> Losses:
        assert isinstance(step.encoder, DisentangledConvolution)
        whole, nodes = all_nodes(step), step.set.role("triples")[0].data["nodes"]
        terms = ranked(select(whole, nodes), self.l2)
        users, *items = gathered_nodes(nodes)
        found = []
        for own in (users.unique(), torch.cat(items).unique()):
            layers = select(whole, own).layers or []
            for near, *others in zip(*(layers[first::4] for first in range(1, 5)), strict=True):
                found += [node_contrast(near, other, self.temperature) for other in others]
        terms["contrast"] = self.weight * torch.stack(found).sum()
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # InfoNCE's part follows from how many different users and items a batch has


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 5e-2, "weight": 1e-3, "epochs": 40},
    "lastfm": {"lr": 1e-3, "l2": 5e-2, "weight": 1e-3, "deviation": 0.03, "epochs": 60},
    "ml-latest-small": {"lr": 1e-3, "l2": 5e-2, "weight": 1e-3, "deviation": 0.03, "epochs": 30},
    "grid": {"data": "generated", "dim": 16, "intents": 8, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(2e-4, 5e-3),
    "l2": LogUniform(1e-3, 1.0),
    "layers": Integers(1, 3),
    "intents": Integers(16, 256, log=True),
    "weight": LogUniform(1e-4, 0.1),
    "temperature": LogUniform(0.05, 0.5),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def dccf(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    deviation: float = 0.1,
    intents: int = 128,
    weight: float = 0.01,
    temperature: float = 0.2,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """DCCF: neighbours against intents and against neighbours that are alike (Ren et al., 2023, arXiv 2305.02759).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: convolutions
        deviation: of the normal distribution that embeddings start from
        intents: how many users share, and items
        weight: of the contrast
        temperature: what cosines are divided by
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = DisentangledConvolution(catalogue.train, dim, layers=layers, intents=intents, deviation=deviation)
    objective = DCCF(dim, weight=weight, temperature=temperature, l2=l2)
    return trained(source, network, [Task(Triples(catalogue.train), objective)], epochs, batch_size, lr, look_every, patience)
