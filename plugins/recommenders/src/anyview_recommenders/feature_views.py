"""Views of two towers: a batch's users with their items, and items of the whole catalogue that show some of their features.

Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang, Ettinger. Self-supervised Learning for Large-scale Item Recommendations. CIKM 2021,
arXiv 2007.12865.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
from anyview_recommenders.features import Feature
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.mutual_information import check_enough, correlated_sets, mutual_information

Masking = Literal["none", "random", "correlated"]


class UsersWithItems(ViewMaker):
    """For each interaction its user, whose history lacks the item, and the item: a view of role "queries" and one of role "items".

    features: of items, k. hide: the share of the features that an item does not show, each drawn for itself; an item that would show none
    shows all. Raises UserError unless 0 <= hide < 1.
    """

    gives = Gives(views=0, roles=("queries", "items"), data="features")

    def __init__(self, features: Sequence[Feature], *, hide: float = 0.0) -> None:
        self.count, self.hide = len(features), check_rate("hide", hide)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        user, item = batch.data["user"], batch.data["item"]
        shown = {"items": item}
        if self.hide:
            hidden = draws.bernoulli(self.hide, self.count)
            shown["hidden"] = hidden & ~hidden.all(1, keepdim=True)
        return ViewSet([View({"users": user, "without": item}, role="queries", index=user), View(shown, role="items", index=item)])


class ItemPair(ViewMaker):
    """Two views of items of the whole catalogue, which show complementary features and have each lost some values.

    features: of items, k. masking: "correlated" hides a feature, drawn anew for each batch, and the half of the others (k/2, rounded down)
    that it has most mutual information with in the first view, and the rest in the second; "random" a random half and the rest; "none"
    hides nothing. dropout: share of the values of features with several that are lost, in each view for itself.

    There are as many items as the batch has interactions, at most the catalogue, drawn from it uniformly and each once, whatever the batch
    holds: a log shows popular items most, and they need it least. Without masking and dropout one view stands in both places. Of several
    ranks each shows its share. Raises UserError for a share outside [0, 1), and where features to hide are fewer than three.
    """

    gives = Gives(views=2, data="features")

    def __init__(self, features: Sequence[Feature], masking: Masking = "correlated", *, dropout: float = 0.1) -> None:
        self.items, self.masking, self.dropout = len(features[0]), masking, check_rate("dropout", dropout)
        self.count = len(features) if masking == "none" else check_enough(len(features))
        self.slots = sum(feature.longest for feature in features)
        self.sets = torch.from_numpy(correlated_sets(mutual_information(features))) if masking == "correlated" else None

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        count = min(self.items, draws.total)
        own = slice(count * draws.start // draws.total, count * (draws.start + draws.rows) // draws.total)
        items = draws.permutation(self.items)[:count][own]
        hidden = self._hidden(draws)
        lost = [self._lost(draws, count, own) for _ in range(2)]
        if hidden is None and lost[0] is None:
            return ViewSet([View({"items": items}, index=items)] * 2)
        sides = (None, None) if hidden is None else (hidden, ~hidden)
        shown = [{"items": items, "hidden": side, "dropped": dropped} for side, dropped in zip(sides, lost, strict=True)]
        return ViewSet([View({name: part for name, part in data.items() if part is not None}, index=items) for data in shown])

    def _hidden(self, draws: Draws) -> Tensor | None:
        """(k,) bool, what the first view hides, the same on all ranks."""
        if self.masking == "none":
            return None
        if self.sets is None:
            return draws.permutation(self.count) < self.count // 2
        if self.sets.device != draws.device:
            self.sets = self.sets.to(draws.device)  # once
        return self.sets.index_select(0, draws.permutation(self.count)[:1])[0]

    def _lost(self, draws: Draws, count: int, own: slice) -> Tensor | None:
        """(m, S) bool, the values that a view has lost, drawn for all ranks together."""
        return draws.shared_uniform(count, self.slots)[own] < self.dropout if self.dropout else None
