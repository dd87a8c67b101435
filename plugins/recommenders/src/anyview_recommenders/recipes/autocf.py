"""AutoCF: interactions around nodes that fit their surroundings are hidden, and users have to find their items all the same.

Xia, Huang, Huang, Lin, Yu, Kao. Automated Self-Supervised Learning for Recommendation. WWW 2023, arXiv 2303.07797.

Every few steps some seeds are drawn, those most like what surrounds them before others; what lies around them is hidden. Rows come from a
graph convolution over the rest, and from attention between random pairs of hidden nodes. That embeddings are like what surrounds them is
learned too, in the steps that draw: this is how masking is learned. A user's item is found among all items, so there are no negatives.
"""

from __future__ import annotations

import torch

from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import all_nodes, gathered_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.graph_attention import AttentiveGraphConvolution
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.losses import item_softmax, log_partition, squared_length
from anyview_recommenders.masked_graph import MaskedGraph, Seeds, relatedness
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class AutoCF(Objective):
    """Users find their items among all by the rows of a masked graph; users, and items, are spread apart.

    dim: width of the encoder's rows. weight: of the spread. seeds: how many nodes masks are drawn around. depth: steps around them that are
    hidden. share: of all nodes, that attention is drawn among too. every: steps between two masks. l2: half the weight of the squared
    lengths of the embeddings of the pairs, over the batch. A mask follows from its seeds and a random seed, which is all that is saved.
    Raises UserError for more seeds than there are nodes, and for depth or every below 1.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("masked prediction",)

    def __init__(
        self, dim: int, *, weight: float = 1.0, seeds: int = 100, depth: int = 2, share: float = 0.2, every: int = 10, l2: float = 1e-6
    ) -> None:
        super().__init__()
        if min(seeds, depth, every) < 1:
            raise UserError(f"masks need seeds, depth and every of 1 or more, and these are {seeds}, {depth} and {every}; give more")
        self.weight, self.depth, self.share, self.l2 = weight, depth, check_rate("share", share), l2
        self.seeds = Seeds(seeds, every, "users and items")
        self.masked: MaskedGraph | None = None

    def _load_from_state_dict(self, *arguments: object) -> None:
        super()._load_from_state_dict(*arguments)
        self.masked = None  # that of the seeds that were there before

    def forward(self, step: Step) -> Losses:
        encoder, terms = step.encoder, Losses()
        assert isinstance(encoder, AttentiveGraphConvolution)
        if self.seeds.due(step):
            scores = relatedness(encoder.adjacency, encoder.embedding)
            self.seeds.draw(scores, step)
            self.masked = None
            terms["relatedness"] = -scores.mean()
        graph = self.graph(encoder)
        rows = all_nodes(step, adjacency=graph.shown, pairs=graph.pairs).rows
        of_users, of_items = encoder.sides(rows)
        users, items, _ = gathered_nodes(step.set.role("triples")[0].data["nodes"])
        terms["prediction"] = item_softmax(of_users, of_items, users, items - encoder.users)
        spread = [log_partition(rows.index_select(0, own.unique()), side) for own, side in ((users, of_users), (items, of_items))]
        terms["spread"] = self.weight * torch.stack(spread).sum()
        if self.l2:
            terms["l2"] = self.l2 * squared_length(*(encoder.embedding.index_select(0, own) for own in (users, items)))
        return terms

    def graph(self, encoder: AttentiveGraphConvolution) -> MaskedGraph:
        """The mask of these steps, which follows from its seeds."""
        if self.masked is None:
            around, generator = self.seeds.nodes, self.seeds.generator()
            self.masked = MaskedGraph.around(encoder.adjacency, around, depth=self.depth, share=self.share, generator=generator)
        return self.masked


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "weight": 0.1, "seeds": 5, "depth": 1, "epochs": 100},
    "lastfm": {"lr": 5e-3, "weight": 0.1, "seeds": 20, "depth": 1, "epochs": 200},
    "ml-latest-small": {"lr": 5e-3, "weight": 0.1, "seeds": 5, "depth": 1, "epochs": 60},
    "grid": {"data": "generated", "dim": 16, "seeds": 5, "depth": 1, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(5e-4, 1e-2),
    "l2": LogUniform(1e-6, 1e-2),
    "layers": Integers(1, 3),
    "weight": LogUniform(1e-2, 1.0),
    "seeds": Integers(2, 100, log=True),
    "depth": Integers(1, 2),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def autocf(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    heads: int = 4,
    deviation: float = 0.1,
    weight: float = 1.0,
    seeds: int = 100,
    depth: int = 2,
    share: float = 0.2,
    remask: int = 10,
    l2: float = 1e-6,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """AutoCF: items found by what is left of a graph that is hidden around some nodes (Xia et al., 2023, arXiv 2303.07797).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions before the layer of attention
        heads: of attention
        deviation: of the normal distribution that embeddings start from
        weight: of spreading users, and items, apart
        seeds: nodes that the graph is hidden around
        depth: steps around them that are hidden
        share: of all nodes, that attention is drawn among beside the hidden ones
        remask: steps between two masks
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = AttentiveGraphConvolution(catalogue.train, dim, layers=layers, heads=heads, deviation=deviation)
    objective = AutoCF(dim, weight=weight, seeds=seeds, depth=depth, share=share, every=remask, l2=l2)
    return trained(source, network, [Task(Triples(catalogue.train), objective)], epochs, batch_size, lr, look_every, patience)
