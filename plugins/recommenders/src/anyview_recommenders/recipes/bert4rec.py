"""BERT4Rec: an item that is hidden is filled in from what stands on both sides of it.

Sun, Liu, Wu, Pei, Lin, Ou, Jiang. BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer. CIKM
2019, arXiv 1904.06690.

A share of each sequence's items is hidden, and of some sequences the last item alone, as it is when a next one is asked for: then a mask
token is put behind the history, and the items are scored by its state.
"""

from __future__ import annotations

from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.next_item import NextItem, Over
from anyview_recommenders.sequence_encoders import ClozeTransformer
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import Cloze
from anyview_recommenders.training import trained

PRESETS: Presets = {
    "generated-walks": {"length": 20, "lr": 5e-3, "last": 0.5, "epochs": 150, "look_every": 5},
    "amazon-beauty": {"dropout": 0.5, "last": 0.5, "over": "some", "epochs": 100, "look_every": 4, "patience": 4},
    "grid": {"data": "generated-walks", "dim": 16, "epochs": 1},
}
RANGES = {"lr": LogUniform(3e-4, 5e-3), "dropout": Uniform(0.1, 0.6), "share": Uniform(0.15, 0.6), "last": Uniform(0.1, 0.6)}


@recipe(presets=PRESETS, views=Cloze, ranges=RANGES)
def bert4rec(
    data: str = "amazon-beauty",
    *,
    reading: Reading = None,
    dim: int = 64,
    length: int = 50,
    layers: int = 2,
    heads: int = 2,
    dropout: float = 0.2,
    share: float = 0.2,
    last: float = 0.2,
    over: Over = "all",
    negatives: int = 1000,
    epochs: int = 200,
    batch_size: int = 256,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """BERT4Rec: hidden items, filled in from both sides (Sun et al., 2019, arXiv 1904.06690).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        length: the most recent items that are read
        layers: blocks of the transformer
        heads: of its attention
        dropout: share of embeddings, and of what blocks add, that is left out in training
        share: of a sequence's items that are hidden
        last: share of sequences of which the last item alone is hidden
        over: whether an item is told from all others, from some that are drawn, or from one, as the authors do
        negatives: how many are drawn
        epochs: passes over the users, at most
        batch_size: users per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = SequenceSource.of(open_interactions(data, **(reading or {})), length)
    items = Catalogue.of(source).items
    network = ClozeTransformer(items, dim, length=length, depth=layers, heads=heads, drop=dropout)
    tasks = [Task(Cloze(items, share, last), NextItem(network.dim, over=over, negatives=negatives))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
