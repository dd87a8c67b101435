"""DCRec: a sequence's state has to find its last item in a graph of what stood next to what, by how far that item goes with the crowd.

Yang, Huang, Xia, Huang, Luo, Lin. Debiased Contrastive Learning for Sequential Recommendation. WWW 2023, arXiv 2303.11780.

Items lie in two graphs: of what stood next to what, counted, and of what the same users have. A transformer's states are fused with the
last item's rows in both. How far that item is known by what everybody does is told by taking the batch's sequences out of the first graph;
where it is, the state and the first graph are contrasted, where it is not, the two graphs. Weights are kept near a normal distribution.

Edges to the items that are asked for are in the first graph, as the authors have it; leaving most edges out in training is what keeps the
model from reading them there. Negatives are told apart by item: sequences that end alike are none of each other.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.errors import UserError
from anyview.objectives.contrast import unit
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.conformity import conformity, divergence
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.dropout import dropping
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.item_graph import near_in_sequences, similar_items, with_loops
from anyview_recommenders.item_graph_encoders import FusedEncoding, FusedItemTransformer
from anyview_recommenders.losses import product_losses
from anyview_recommenders.next_item import NextItem, Over
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import NextItems
from anyview_recommenders.training import trained


class DCRec(NextItem):
    """The next item by fused states, contrast weighed by conformity, and conformity near a normal distribution.

    dim: width of the encoder's rows. rate: of the graphs' edges that a step leaves out. weight: of the contrast. temperature: what cosines
    are divided by. mean, deviation: of the weights. divergence: weight of how far they are from such a normal distribution.
    Raises UserError for a rate outside [0, 1), a temperature, a mean or a deviation that is not above 0.
    """

    needs = Needs(views=0, roles=("sequence",), targets=True, tokens=True, couples_rows=True)
    tags = ("ranking", "contrastive")

    def __init__(
        self,
        dim: int,
        *,
        rate: float = 0.7,
        weight: float = 1e-4,
        temperature: float = 0.8,
        mean: float = 0.4,
        deviation: float = 0.1,
        divergence: float = 1e-2,
        over: Over = "all",
        negatives: int = 1000,
    ) -> None:
        super().__init__(dim, over=over, negatives=negatives)
        if min(temperature, mean, deviation) <= 0:
            found = f"{temperature:g}, {mean:g} and {deviation:g}"
            raise UserError(f"temperature, mean and deviation are above 0, and these are {found}; try 0.8, 0.4 and 0.1")
        self.rate, self.weight, self.temperature, self.divergence = check_rate("rate", rate), weight, temperature, divergence
        self.mean, self.deviation = mean, deviation

    def forward(self, step: Step) -> Losses:
        encoder, view = step.encoder, step.set.role("sequence")[0]
        assert isinstance(encoder, FusedItemTransformer)
        encoding = step.encode(replace(view, data={**view.data, "rate": self.rate, **dropping(step.draws)}))
        assert isinstance(encoding, FusedEncoding)
        assert encoding.sequential is not None
        terms = Losses(next_item=self.loss(step, encoding, encoder.item_rows()))
        sequence, states = gather_rows(view.data["sequence"]), gather_rows(encoding.sequential[:, -1])
        weights = conformity(encoder.adjacent, encoder.adjacent_rows, sequence, self.mean)
        samples = self.mean + self.deviation * torch.randn(len(weights), generator=step.generator, device=weights.device)
        terms["contrast"] = self.weight * self.contrast(encoding, states, sequence[:, -1], weights)
        terms["conformity"] = self.divergence * divergence(weights, samples.to(weights))
        return terms

    def contrast(self, encoding: FusedEncoding, states: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        """InfoNCE of states (B, D) with their last items (B,) by weights (B,), and of these between graphs by what is left of the largest.

        Cosines; the negatives are the other last items of the batch, each once; a mean over sequences.
        """
        assert encoding.adjacent is not None
        assert encoding.similar is not None
        items, own = last.unique(return_inverse=True)
        adjacent, similar = unit(encoding.adjacent[items]), unit(encoding.similar[items])
        by_state = product_losses(unit(states, 1 / self.temperature), adjacent, own)
        between = product_losses(adjacent / self.temperature, similar, torch.arange(len(items), device=own.device))[own]
        return (weights * by_state + (weights.max() - weights) * between).mean()


PRESETS: Presets = {
    "generated-walks": {"length": 20, "lr": 5e-3, "epochs": 60, "look_every": 2},
    "amazon-beauty": {"dropout": 0.5, "over": "some", "epochs": 60, "look_every": 2, "patience": 4},
    "grid": {"data": "generated-walks", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(3e-4, 5e-3),
    "dropout": Uniform(0.1, 0.6),
    "rate": Uniform(0.3, 0.9),
    "weight": LogUniform(1e-4, 0.3),
    "temperature": LogUniform(0.1, 1.0),
    "neighbours": Integers(2, 20),
}


@recipe(presets=PRESETS, views=NextItems, ranges=RANGES)
def dcrec(
    data: str = "amazon-beauty",
    *,
    reading: Reading = None,
    dim: int = 64,
    length: int = 50,
    neighbours: int = 4,
    convolutions: int = 2,
    layers: int = 2,
    heads: int = 1,
    dropout: float = 0.2,
    rate: float = 0.7,
    weight: float = 1e-4,
    temperature: float = 0.8,
    mean: float = 0.4,
    deviation: float = 0.1,
    divergence: float = 1e-2,
    over: Over = "all",
    negatives: int = 1000,
    epochs: int = 200,
    batch_size: int = 256,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """DCRec: states fused with two graphs of items, and contrast by how far items go with the crowd (Yang et al., 2023, arXiv 2303.11780).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        length: the most recent items that are read
        neighbours: items that an item has in the graph of what the same users have
        convolutions: layers in each graph
        layers: blocks of the transformer
        heads: of its attention
        dropout: share of embeddings, and of what blocks add, that is left out in training
        rate: share of the graphs' edges that is left out in training
        weight: of the contrast
        temperature: what cosines are divided by
        mean: of the weights by conformity
        deviation: of the normal distribution that they are kept near
        divergence: weight of how far they are from it
        over: whether an item is told from all others, from some that are drawn, or from one
        negatives: how many are drawn
        epochs: passes over the users, at most
        batch_size: users per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = SequenceSource.of(open_interactions(data, **(reading or {})), length)
    catalogue = Catalogue.of(source)
    assert catalogue.histories is not None
    adjacent = with_loops(near_in_sequences(catalogue.histories.until("train"), catalogue.items))
    similar = with_loops(similar_items(catalogue.train, neighbours))
    network = FusedItemTransformer(
        adjacent, similar, dim, convolutions=convolutions, length=length, depth=layers, heads=heads, drop=dropout
    )
    objective = DCRec(
        dim,
        rate=rate,
        weight=weight,
        temperature=temperature,
        mean=mean,
        deviation=deviation,
        divergence=divergence,
        over=over,
        negatives=negatives,
    )
    return trained(source, network, [Task(NextItems(), objective)], epochs, batch_size, lr, look_every, patience)
