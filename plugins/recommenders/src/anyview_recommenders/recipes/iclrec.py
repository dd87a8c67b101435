"""ICLRec: CL4SRec, and what a sequence was after has to be found by its views: the centre of its cluster among all sequences.

Chen, Liu, Li, McAuley, Xiong. Intent Contrastive Learning for Sequential Recommendation. WWW 2022, arXiv 2202.02519.

Before each epoch the means of all sequences' states are clustered; the centres, of length 1, are the intents. The authors scale centres
after clustering; here the means are scaled before it, so that a sequence's intent is the centre that its mean has the largest product with.
Crops and masks leave less of a sequence than CL4SRec's, which the preset of the generated set takes.
"""

from __future__ import annotations

from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.intent_contrast import IntentContrast
from anyview_recommenders.next_item import NextItem, Over
from anyview_recommenders.sequence_contrast import SequenceContrast
from anyview_recommenders.sequence_encoders import ItemTransformer
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import Augmented, NextItems
from anyview_recommenders.training import trained

MILD = {"crop": 0.6, "mask": 0.3, "reorder": 0.6}
PRESETS: Presets = {
    "generated-walks": {"length": 20, "lr": 5e-3, **MILD, "weight": 0.02, "intent": 0.02, "intents": 20, "epochs": 60, "look_every": 2},
    "amazon-beauty": {"dropout": 0.5, "intent": 0.1, "over": "some", "epochs": 60, "look_every": 2, "patience": 4},
    "grid": {"data": "generated-walks", "dim": 16, "intents": 20, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(3e-4, 5e-3),
    "dropout": Uniform(0.1, 0.6),
    "weight": LogUniform(0.01, 0.5),
    "intent": LogUniform(0.01, 1.0),
    "intents": Integers(16, 1024, log=True),
}


@recipe(presets=PRESETS, views=(NextItems, Augmented), ranges=RANGES)
def iclrec(
    data: str = "amazon-beauty",
    *,
    reading: Reading = None,
    dim: int = 64,
    length: int = 50,
    layers: int = 2,
    heads: int = 1,
    dropout: float = 0.2,
    crop: float = 0.2,
    mask: float = 0.7,
    reorder: float = 0.2,
    weight: float = 0.1,
    intent: float = 1.0,
    intents: int = 256,
    alike: bool = False,
    temperature: float = 1.0,
    over: Over = "all",
    negatives: int = 1000,
    epochs: int = 200,
    batch_size: int = 256,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """ICLRec: CL4SRec, and contrast of a sequence's views with the centre of its cluster (Chen et al., 2022, arXiv 2202.02519).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        length: the most recent items that are read
        layers: blocks of the transformer
        heads: of its attention
        dropout: share of embeddings, and of what blocks add, that is left out in training
        crop: share of a sequence that a crop keeps
        mask: share of a sequence's items that show a mask token
        reorder: share of a sequence that is shuffled
        weight: of the contrast of two views
        intent: weight of the contrast with intents
        intents: clusters of all sequences
        alike: whether sequences of one intent are negatives of each other
        temperature: what products are divided by, in both
        over: whether an item is told from all others, from some that are drawn, or from one, as the authors do
        negatives: how many are drawn
        epochs: passes over the users, at most
        batch_size: users per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = SequenceSource.of(open_interactions(data, **(reading or {})), length)
    network = ItemTransformer(Catalogue.of(source).items, dim, length=length, depth=layers, heads=heads, drop=dropout)
    views = Augmented(crop=crop, mask=mask, reorder=reorder)
    tasks = [
        Task(NextItems(), NextItem(dim, over=over, negatives=negatives)),
        Task(views, SequenceContrast(dim, temperature=temperature), weight),
        Task(views, IntentContrast(dim, intents=intents, temperature=temperature, alike=alike), intent),
    ]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
