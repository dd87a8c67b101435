"""CL4SRec: SASRec, and a sequence that is cropped, masked or put out of order finds its other view among those of the batch.

Xie, Sun, Liu, Wu, Gao, Zhang, Ding, Cui. Contrastive Learning for Sequential Recommendation. ICDE 2022, arXiv 2010.14395.
"""

from __future__ import annotations

from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.next_item import NextItem, Over
from anyview_recommenders.sequence_contrast import SequenceContrast
from anyview_recommenders.sequence_encoders import ItemTransformer
from anyview_recommenders.sequence_source import SequenceSource
from anyview_recommenders.sequence_views import Augmented, NextItems
from anyview_recommenders.training import trained

PRESETS: Presets = {
    "generated-walks": {"length": 20, "lr": 5e-3, "epochs": 60, "look_every": 2},
    "amazon-beauty": {"dropout": 0.5, "over": "some", "temperature": 20.0, "epochs": 60, "look_every": 2, "patience": 4},
    "grid": {"data": "generated-walks", "dim": 16, "epochs": 1},
}
RANGES = {"lr": LogUniform(3e-4, 5e-3), "dropout": Uniform(0.1, 0.6), "weight": LogUniform(0.01, 0.5), "temperature": LogUniform(0.5, 50.0)}


@recipe(presets=PRESETS, views=(NextItems, Augmented), ranges=RANGES)
def cl4srec(
    data: str = "amazon-beauty",
    *,
    reading: Reading = None,
    dim: int = 64,
    length: int = 50,
    layers: int = 2,
    heads: int = 1,
    dropout: float = 0.2,
    crop: float = 0.6,
    mask: float = 0.3,
    reorder: float = 0.6,
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
    """CL4SRec: SASRec, and contrast of cropped, masked and reordered sequences (Xie et al., 2022, arXiv 2010.14395).

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
    network = ItemTransformer(Catalogue.of(source).items, dim, length=length, depth=layers, heads=heads, drop=dropout)
    views = Augmented(crop=crop, mask=mask, reorder=reorder)
    contrast = Task(views, SequenceContrast(dim, temperature=temperature), weight)
    tasks = [Task(NextItems(), NextItem(dim, over=over, negatives=negatives)), contrast]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
