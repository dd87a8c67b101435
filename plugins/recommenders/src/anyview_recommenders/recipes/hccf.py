"""HCCF: what a node gathers through hyperedges that all nodes share has to be told by what it gathers from its neighbours.

Xia, Huang, Xu, Zhao, Yin, Huang. Hypergraph Contrastive Collaborative Filtering. SIGIR 2022, arXiv 2204.12200.

In each layer nodes gather along interactions, and through a few learned hyperedges from all nodes of their kind. Layer by layer a node's
rows of the first sort, from which no gradient comes, have to find its rows of the second among those of all users, or of all items. The
authors let hyperedges talk to each other in a further network, which public code leaves out, and so does this.
"""

from __future__ import annotations

from typing import Any

import torch

from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Choices, Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import all_nodes, select, unique_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.dropout import dropping
from anyview_recommenders.hypergraph import HypergraphConvolution
from anyview_recommenders.losses import contrast_among
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class HCCF(BPR):
    """BPR, and in each layer InfoNCE of what nodes gather nearby with what they gather through hyperedges.

    dim: width of the encoder's rows. weight, temperature: of InfoNCE, of the batch's users among all users and of its items among all
    items; a sum over layers. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, weight: float = 0.1, temperature: float = 0.1, l2: float = 1e-4) -> None:
        super().__init__(dim, l2=l2)
        self.weight, self.temperature = weight, temperature

    def forward(self, step: Step) -> Losses:
        encoder, nodes = step.encoder, step.set.role("triples")[0].data["nodes"]
        assert isinstance(encoder, HypergraphConvolution)
        whole = all_nodes(step, **dropping(step.draws))
        terms = ranked(select(whole, nodes), self.l2)
        users, items = unique_nodes(nodes)
        layers, found = whole.layers or [], []
        for near, far in zip(layers[1::2], layers[2::2], strict=True):
            sides = zip(encoder.sides(near.detach()), encoder.sides(far), (users, items - encoder.users), strict=True)
            found += [contrast_among(a.index_select(0, own), b, own, self.temperature) for a, b, own in sides]
        terms["contrast"] = self.weight * torch.stack(found).sum()
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # InfoNCE's part follows from how many users and items there are


PRESETS: Presets = {
    "generated": {"layers": 3, "dropout": 0.2, "weight": 0.01, "lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "lastfm": {"layers": 3, "dropout": 0.2, "weight": 0.01, "lr": 5e-3, "l2": 1e-3, "epochs": 200},
    "ml-latest-small": {"layers": 3, "dropout": 0.2, "weight": 0.01, "lr": 5e-3, "l2": 1e-3, "epochs": 60},
    "grid": {"data": "generated", "dim": 16, "hyperedges": 8, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(5e-4, 1e-2),
    "l2": LogUniform(1e-4, 3e-2),
    "layers": Integers(1, 3),
    "slope": Choices(0.5, 1.0),
    "hyperedges": Integers(16, 256, log=True),
    "dropout": Uniform(0.1, 0.6),
    "weight": LogUniform(1e-3, 0.5),
    "temperature": LogUniform(0.05, 0.5),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def hccf(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    deviation: float = 0.1,
    hyperedges: int = 128,
    slope: float = 0.5,
    dropout: float = 0.5,
    weight: float = 0.1,
    temperature: float = 0.1,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """HCCF: neighbours against hyperedges that all nodes share (Xia et al., 2022, arXiv 2204.12200).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: convolutions
        deviation: of the normal distribution that embeddings start from
        hyperedges: how many users share, and items
        slope: of the LeakyReLU between nodes and hyperedges; 1 leaves it out
        dropout: share of the interactions, and of memberships in hyperedges, that a layer leaves out of a step
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
    sizes: dict[str, Any] = {"layers": layers, "hyperedges": hyperedges, "slope": slope, "dropout": dropout, "deviation": deviation}
    network = HypergraphConvolution(catalogue.train, dim, **sizes)
    objective = HCCF(dim, weight=weight, temperature=temperature, l2=l2)
    return trained(source, network, [Task(Triples(catalogue.train), objective)], epochs, batch_size, lr, look_every, patience)
