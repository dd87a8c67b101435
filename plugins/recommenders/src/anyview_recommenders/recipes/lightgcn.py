"""LightGCN: embeddings of users and items, spread over the graph of their interactions, that rank what a user has above the rest.

He, Deng, Wang, Li, Zhang, Wang. LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation. SIGIR 2020,
arXiv 2002.02126. Without layers it is matrix factorisation (BPR-MF, Rendle et al. 2009).

Where the log has a validation part, training ends when its ranking no longer gets better, and the best weights remain.
"""

from __future__ import annotations

from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import LightGraphConvolution, Pool
from anyview_recommenders.objectives import BPR
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "epochs": 300},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "demo": {"data": "generated"},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {"lr": LogUniform(1e-3, 2e-2), "l2": LogUniform(1e-5, 1e-2), "layers": Integers(1, 4)}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def lightgcn(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    pool: Pool = "mean",
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """LightGCN: embeddings spread over the graph of interactions (He et al., 2020, arXiv 2002.02126); with 0 layers BPR-MF.

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions; 0 is matrix factorisation
        deviation: of the normal distribution that embeddings start from
        pool: rows are the mean of embeddings and layers, or their sum
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = LightGraphConvolution(catalogue.train, dim, layers=layers, deviation=deviation, pool=pool)
    tasks = [Task(Triples(catalogue.train), BPR(dim, l2=l2))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
