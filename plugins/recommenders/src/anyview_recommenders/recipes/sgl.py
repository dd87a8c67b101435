"""SGL: a node finds itself again in another graph that has lost other edges.

Wu, Wang, Feng, He, Chen, Lian, Xie. Self-supervised Graph Learning for Recommendation. SIGIR 2021, arXiv 2010.10783.

At the start of each epoch two corrupted graphs are drawn: without a share of the edges, without a share of the nodes, or, as in a random
walk, without other edges in every layer. Ranking is learned on the whole graph; the rows that the two graphs give the batch's users, and
its items, have to find each other among those of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import encode_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.graph_convolution import Adjacency, Drop, check_rate, drop
from anyview_recommenders.losses import node_contrast
from anyview_recommenders.objectives import BPR
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class SGL(BPR):
    """BPR on the whole graph, and InfoNCE between two corrupted ones, for users and for items.

    dim: width of the encoder's rows. weight, temperature: of InfoNCE. dropped: what corrupted graphs lose. rate: the share of it that they
    lose. l2: as in BPR. The epoch's graphs follow from a seed, which is all that is saved of them.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)
    seed: Tensor

    def __init__(
        self, dim: int, *, weight: float = 0.1, temperature: float = 0.2, dropped: Drop = "edge", rate: float = 0.1, l2: float = 1e-4
    ) -> None:
        super().__init__(dim, l2=l2)
        self.weight, self.temperature, self.dropped, self.rate = weight, temperature, dropped, check_rate("rate", rate)
        self.register_buffer("seed", torch.zeros((), dtype=torch.long))
        self.drawn: Sequence[Adjacency | list[Adjacency]] = ()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.drawn = ()  # those of the seed that was there before

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        self.seed.fill_(torch.randint(2**62, ()).item())
        self.drawn = ()

    def forward(self, step: Step) -> Losses:
        terms = super().forward(step)
        first, second = (encode_nodes(step, adjacency=graph) for graph in self.graphs(step.encoder))
        found = [node_contrast(a.rows, b.rows, self.temperature) for a, b in zip(first, second, strict=True)]
        terms["contrast"] = self.weight * torch.stack(found).sum()
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # InfoNCE's part follows from how many different users and items a batch has

    def graphs(self, encoder: nn.Module) -> Sequence[Adjacency | list[Adjacency]]:
        """The epoch's two graphs, for the encoder's layers."""
        if not self.drawn:
            assert isinstance(encoder, LightGraphConvolution)
            generator = torch.Generator(self.seed.device).manual_seed(int(self.seed))
            self.drawn = [drop(self.dropped, encoder.adjacency, self.rate, generator, encoder.depth) for _ in range(2)]
        return self.drawn


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-4, "epochs": 100},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-4, "epochs": 100},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "weight": LogUniform(1e-2, 0.5),
    "temperature": LogUniform(0.05, 0.5),
    "rate": Uniform(0.05, 0.5),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def sgl(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    weight: float = 0.1,
    temperature: float = 0.2,
    dropped: Drop = "edge",
    rate: float = 0.1,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """SGL: a node finds itself in a graph that has lost other edges (Wu et al., 2021, arXiv 2010.10783).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        weight: of the contrast
        temperature: what cosines are divided by
        dropped: what a corrupted graph loses: edges, nodes, or as a random walk other edges in every layer
        rate: share of it that is lost
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = LightGraphConvolution(catalogue.train, dim, layers=layers, deviation=deviation)
    objective = SGL(dim, weight=weight, temperature=temperature, dropped=dropped, rate=rate, l2=l2)
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
