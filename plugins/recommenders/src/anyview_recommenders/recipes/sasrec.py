"""SASRec: after each item of a sequence, the next one scores above all others.

Kang, McAuley. Self-Attentive Sequential Recommendation. ICDM 2018, arXiv 1808.09781.

A transformer reads a user's items, none of them a later one, so one pass learns from every place of a sequence. Scores are products of the
last state with the items' own embeddings. The authors tell the next item from one other that is drawn (`--over one`); by default it is told
from all of them, which ranks better.
"""

from __future__ import annotations

from anyview.ranges import Choices, Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.next_item import NextItem, Over
from anyview_recommenders.sequence_encoders import ItemTransformer
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import NextItems
from anyview_recommenders.training import trained

PRESETS: Presets = {
    "generated-walks": {"length": 20, "lr": 5e-3, "epochs": 60, "look_every": 2},
    "amazon-beauty": {"dropout": 0.5, "over": "some", "epochs": 60, "look_every": 2, "patience": 4},
    "grid": {"data": "generated-walks", "dim": 16, "epochs": 1},
}
RANGES = {"lr": LogUniform(3e-4, 5e-3), "dropout": Uniform(0.1, 0.6), "layers": Integers(1, 3), "heads": Choices(1, 2)}


@recipe(presets=PRESETS, views=NextItems, ranges=RANGES)
def sasrec(
    data: str = "amazon-beauty",
    *,
    reading: Reading = None,
    dim: int = 64,
    length: int = 50,
    layers: int = 2,
    heads: int = 1,
    dropout: float = 0.2,
    over: Over = "all",
    negatives: int = 1000,
    epochs: int = 200,
    batch_size: int = 256,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """SASRec: the next item after each of a sequence, by a transformer that reads none later (Kang and McAuley, 2018, arXiv 1808.09781).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        length: the most recent items that are read
        layers: blocks of the transformer
        heads: of its attention
        dropout: share of embeddings, and of what blocks add, that is left out in training
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
    tasks = [Task(NextItems(), NextItem(dim, over=over, negatives=negatives))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
