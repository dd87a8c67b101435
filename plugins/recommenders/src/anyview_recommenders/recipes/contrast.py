"""Ranking, and any objective of two views between two views of the batch's users and of its items.

With `core/simclr` and corruption "noise" it is near SimGCL, with "edge" near SGL, whose graphs last an epoch; with `core/barlow_twins`
nothing is contrasted at all. Users and items have heads of their own, and what is kept are the rows before them.
"""

from __future__ import annotations

import functools

from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.node_views import BothSides, Corruption, NodePair
from anyview_recommenders.noise import NoisyGraphConvolution
from anyview_recommenders.objectives import BPR
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "epochs": 200},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
SMALL_BARLOW_TWINS = functools.partial(BarlowTwins, width=256, redundancy=1 / 256)
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "weight": LogUniform(1e-3, 0.3),
    "amount": LogUniform(0.02, 0.5),
    "objective.redundancy": LogUniform(1e-4, 5e-2),
}


@recipe(presets=PRESETS, views=NodePair, ranges=RANGES)
def contrast(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    corruption: Corruption = "noise",
    amount: float = 0.1,
    objective: ObjectiveSlot = SMALL_BARLOW_TWINS,
    weight: float = 0.01,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """Ranking, and any objective between two views of the users and of the items.

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        corruption: noise after every layer, or what each view's graph loses: edges, nodes, or as a random walk other edges in every layer
        amount: length of the noise, or share that is lost
        objective: any objective over two views
        weight: of that objective, against ranking
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    kind = NoisyGraphConvolution if corruption == "noise" else LightGraphConvolution
    network = kind(catalogue.train, dim, layers=layers, deviation=deviation)
    views = NodePair(catalogue.train, corruption, amount, layers=layers)
    both = BothSides(functools.partial(objective, dim))
    tasks = [Task(Triples(catalogue.train), BPR(dim, l2=l2)), Task(views, both, weight)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
