"""Two towers: users and items encoded from their features, with a contrast of two masked views of every item's features beside.

Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang, Ettinger. Self-supervised Learning for Large-scale Item Recommendations. CIKM 2021,
arXiv 2007.12865.

A user's row has to find the item among the items of the batch. Most items are in few batches, so items of the whole catalogue are drawn
uniformly beside them, and two views of each have to find each other: one hides a feature and those that say the same, the other the rest.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, ObjectiveSlot, Step
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.feature_views import ItemPair, Masking, UsersWithItems
from anyview_recommenders.features import SideFeatures
from anyview_recommenders.item_contrast import ItemContrast
from anyview_recommenders.losses import in_batch_softmax
from anyview_recommenders.optimizers import SparseAdam
from anyview_recommenders.owned import Owned
from anyview_recommenders.towers import TwoTowers
from anyview_recommenders.training import ADAM, trained

SelfSupervision = Literal["none", "spread_out", "feature_dropout", "random", "correlated"]


class InBatchSoftmax(Objective):
    """A user's row finds the item among the items of all interactions of the batch.

    matrix: (U, I) CSR of the training interactions. temperature: what cosines are divided by. correct: whether the log of each item's share
    of the interactions is subtracted from its logits. remove_hits: whether items that a user has too, and other interactions with the same
    item, are no negatives. It reads views of roles "queries" and "items". Raises UserError for a temperature that is not above 0.
    """

    needs = Needs(views=0, roles=("queries", "items"), couples_rows=True)
    tags = ("contrastive", "ranking")
    log_chances: Tensor

    def __init__(self, matrix: csr_matrix, *, temperature: float = 0.07, correct: bool = True, remove_hits: bool = True) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"cosines are divided by the temperature, which is above 0, and {temperature:g} was given; try 0.07")
        self.temperature, self.correct = temperature, correct
        counts = np.bincount(matrix.indices, minlength=matrix.shape[1]).clip(min=1)
        shares = torch.from_numpy(np.log(counts / max(1, matrix.nnz))).to(torch.get_default_dtype())
        self.register_buffer("log_chances", shares, persistent=False)
        self.owned = Owned(matrix) if remove_hits else None

    def forward(self, step: Step) -> Losses:
        [asking], [asked] = (step.set.role(role) for role in ("queries", "items"))
        users, items = gather_rows(asking.data["users"]), gather_rows(asked.data["items"])
        queries, rows = gather_rows(step.encode(asking).rows), gather_rows(step.encode(asked).rows)
        log_chances = self.log_chances[items] if self.correct else None
        excluded = None if self.owned is None else self.owned(users, items)
        return Losses(softmax=in_batch_softmax(queries, rows, self.temperature, log_chances=log_chances, excluded=excluded))


MASKING: dict[str, Masking] = {"spread_out": "none", "random": "random", "correlated": "correlated"}
PRESETS: Presets = {
    "generated-features": {"dim": 32, "hidden": 64, "width": 16, "lr": 5e-3, "epochs": 60, "batch_size": 1024},
    "ml-latest-small": {"dim": 64, "hidden": 128, "lr": 5e-3, "epochs": 100, "look_every": 2, "patience": 4},
    "grid": {"data": "generated-features", "dim": 16, "hidden": 32, "width": 8, "epochs": 1},
    "demo": {"data": "generated-features"},
}
RANGES = {
    "lr": LogUniform(5e-4, 1e-2),
    "temperature": LogUniform(0.05, 0.5),
    "weight": LogUniform(0.03, 5.0),
    "dropout": Uniform(0.0, 0.4),
}


@recipe(presets=PRESETS, views=ItemPair, ranges=RANGES)
def two_towers(
    data: str = "ml-latest-small",
    *,
    reading: Reading = None,
    dim: int = 128,
    hidden: int = 1024,
    width: int = 32,
    deviation: float = 0.1,
    hash_size: int = 0,
    share_table: bool = False,
    sparse: bool = False,
    temperature: float = 0.07,
    correct: bool = True,
    remove_hits: bool = True,
    self_supervision: SelfSupervision = "correlated",
    ssl: ObjectiveSlot = ItemContrast,
    weight: float = 0.1,
    dropout: float = 0.1,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """Two towers over features, items by two masked views of theirs (Yao et al., 2021, arXiv 2007.12865).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they and their features are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        hidden: width of the towers' inner layer
        width: of a feature's embedding
        deviation: of the normal distribution that embeddings start from
        hash_size: features with more values share so many embeddings; 0 gives each value its own
        share_table: whether all features share one table of hash_size embeddings
        sparse: whether only the embeddings of a batch are moved (lazy Adam), for tables too large to go over in each step
        temperature: what cosines of users and items are divided by
        correct: whether logits are corrected by how often an item is in a batch
        remove_hits: whether items of a batch that a user has too are no negatives
        self_supervision: what is done for items beside ranking: nothing; spread their rows out; hide features of them in ranking
            (feature_dropout); contrast two views with a random half of the features each, or with correlated features hidden together
        ssl: any objective over two views of items, for spread_out, random and correlated
        weight: of that objective
        dropout: share of the values of a feature that views of items lose; of the features that feature_dropout hides
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"features": True, **(reading or {})})
    side, matrix = SideFeatures.of(source), Catalogue.of(source).train
    tables: dict[str, Any] = {"hash_size": hash_size, "share_table": share_table, "sparse": sparse}
    network = TwoTowers(side, dim, width=width, hidden=hidden, deviation=deviation, **tables)
    pairs = UsersWithItems(side.items, hide=dropout if self_supervision == "feature_dropout" else 0.0)
    tasks = [Task(pairs, InBatchSoftmax(matrix, temperature=temperature, correct=correct, remove_hits=remove_hits))]
    if self_supervision in MASKING:
        views = ItemPair(side.items, MASKING[self_supervision], dropout=0.0 if self_supervision == "spread_out" else dropout)
        tasks.append(Task(views, ssl(dim), weight))
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience, SparseAdam if sparse else ADAM)
