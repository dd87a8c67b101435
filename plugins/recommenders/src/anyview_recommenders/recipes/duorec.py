"""DuoRec: SASRec, and a prefix finds another that was followed by the same item, each read under a dropout of its own.

Qiu, Huang, Yin, Wang. Contrastive Learning for Representation Degeneration Problem in Sequential Recommendation. WSDM 2022, arXiv
2110.05730.

Of each user of a batch a place is drawn, and the prefix before it; another prefix of any training sequence that was followed by the same
item is its other view, or where there is none the same prefix. Prefixes followed by the same item are no negatives of each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.histories import Histories
from anyview_recommenders.next_item import NextItem, Over
from anyview_recommenders.sequence_contrast import SequenceContrast
from anyview_recommenders.sequence_encoders import ItemTransformer
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import NextItems
from anyview_recommenders.training import trained


class SameTarget(ViewMaker):
    """Two prefixes of training sequences that were followed by the same item: one of each sequence of a batch, and one of anybody's.

    training: what users did in training. The prefixes end before a place that is drawn, uniformly among all but the first; the other is
    drawn uniformly among the others with the same target, and is the same prefix where there are none. Views carry the group "target".
    """

    gives = Gives(views=2, groups=("target",), data="sequence")

    def __init__(self, training: Histories) -> None:
        self.training = training
        places = torch.arange(len(training.items))
        follows = places[places > training.starts[training.owners]]
        self.by_target = follows[training.items[follows].argsort(stable=True)]
        targets = training.items[self.by_target]
        count = int(training.items.max()) + 1 if len(training.items) else 0
        self.ends = torch.bincount(targets, minlength=count).cumsum(0)
        self.begins = torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
        self.rank = torch.empty_like(places)
        self.rank[self.by_target] = torch.arange(len(self.by_target))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        assert batch.index is not None
        users, device = batch.index.cpu(), batch.index.device
        first, second = draws.uniform(2).cpu().double().unbind(1)
        count = self.training.counts[users] - 1
        place = self.training.starts[users] + 1 + (first * count).long()
        target = self.training.items[place]
        groups = {"target": target.to(device)}
        shown = (place, self.other(place, target, second))
        return ViewSet([View({"sequence": self.prefix(one).to(device)}, index=batch.index, groups=groups) for one in shown])

    def other(self, place: Tensor, target: Tensor, share: Tensor) -> Tensor:
        """(b,) places with the same targets (b,) as places (b,), the one at a share (b,) of the way among the others."""
        begin, others = self.begins[target], self.ends[target] - self.begins[target] - 1
        drawn = begin + (share * others).long()
        drawn = drawn + ((drawn >= self.rank[place]) & (others > 0))
        return self.by_target[drawn]

    def prefix(self, place: Tensor) -> Tensor:
        """(b, L) what stands before places (b,), of the same user."""
        return self.training.window(self.training.starts[self.training.owners[place]], place)


PRESETS: Presets = {
    "generated-walks": {"length": 20, "lr": 5e-3, "epochs": 60, "look_every": 2},
    "amazon-beauty": {"dropout": 0.5, "over": "some", "temperature": 20.0, "epochs": 60, "look_every": 2, "patience": 4},
    "grid": {"data": "generated-walks", "dim": 16, "epochs": 1},
}
RANGES = {"lr": LogUniform(3e-4, 5e-3), "dropout": Uniform(0.1, 0.6), "weight": LogUniform(0.01, 0.5), "temperature": LogUniform(0.5, 50.0)}


@recipe(presets=PRESETS, views=(NextItems, SameTarget), ranges=RANGES)
def duorec(
    data: str = "amazon-beauty",
    *,
    reading: Reading = None,
    dim: int = 64,
    length: int = 50,
    layers: int = 2,
    heads: int = 1,
    dropout: float = 0.2,
    weight: float = 0.1,
    temperature: float = 1.0,
    over: Over = "all",
    negatives: int = 1000,
    epochs: int = 200,
    batch_size: int = 256,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """DuoRec: SASRec, and contrast of prefixes that were followed by the same item (Qiu et al., 2022, arXiv 2110.05730).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        length: the most recent items that are read
        layers: blocks of the transformer
        heads: of its attention
        dropout: share of embeddings, and of what blocks add, that is left out in training
        weight: of the contrast
        temperature: what products are divided by
        over: whether an item is told from all others, from some that are drawn, or from one, as the authors do
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
    network = ItemTransformer(catalogue.items, dim, length=length, depth=layers, heads=heads, drop=dropout)
    views = SameTarget(catalogue.histories.until("train"))
    contrast = Task(views, SequenceContrast(dim, temperature=temperature), weight)
    tasks = [Task(NextItems(), NextItem(dim, over=over, negatives=negatives)), contrast]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
