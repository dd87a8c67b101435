"""A trained run as a recommender: original ids in, original ids out, without the data that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from anyview.errors import UserError
from anyview.evaluation.embedding import choose_device, frozen
from anyview.run import Run
from anyview_recommenders.baselines.popularity import popularity
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import of
from anyview_recommenders.evaluations import scorer_of
from anyview_recommenders.feature_tables import FeatureOptions, codes_of, only_new, read_table
from anyview_recommenders.features import SideFeatures
from anyview_recommenders.ranking import MEMORY, NOTHING, chunks, top
from anyview_recommenders.scorer import DotProduct
from anyview_recommenders.towers import TwoTowers


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Lists for some users. users: (c,) original ids. items: a list of original ids for each, best first. scores: of those.

    cold: (c,) bool, users without training interactions, who are given what is popular.
    """

    users: list[str | int]
    items: list[list[str | int]]
    scores: list[list[float]]
    cold: list[bool]


class Recommender:
    """Recommends items that a user is not known to have, in training or outside of it.

    run: a run of a recipe of this plugin; an encoder of sequences reads all that a user is known to have done. device: that rows are made
    and scored on. new_items: a table of features, as the run was trained with, of items that it does not know and that are recommended too.
    Raises UserError for a run on other data, and for new items where the encoder reads no features.
    """

    def __init__(self, run: Run, *, device: str = "auto", new_items: Any = None) -> None:
        self.catalogue = Catalogue.of(run.recipe.source)
        place = choose_device(device)
        with frozen(run.embedder, place):
            self.scorer = scorer_of(run.embedder, self.catalogue)
            if new_items is not None:
                self._add(run, new_items)
        self.popular = popularity(self.catalogue.train)

    @torch.no_grad()
    def _add(self, run: Run, new_items: Any) -> None:
        """Rows of items that the run does not know, behind those that it does."""
        if not isinstance(run.embedder, TwoTowers):
            asked = "new items were given, and the run's encoder has a row for each item and reads no features"
            raise UserError(f"{asked}; train recommenders/two_towers")
        reading = run.recipe.values.get("reading") or {}
        options: FeatureOptions = of(FeatureOptions, reading)
        table = only_new(read_table(new_items, "item", reading.get("item")), self.catalogue.item_ids)
        features = [codes_of(feature, table, options) for feature in SideFeatures.of(run.recipe.source).items]
        rows = torch.cat([self.scorer.item_rows, run.embedder.of_new_items(features).float()])
        self.scorer = DotProduct(self.scorer.user_rows, rows)
        self.catalogue = self.catalogue.with_items(table.ids)

    def recommend(self, users: Sequence[str | int] | None = None, k: int = 20, *, memory: int = MEMORY) -> Iterator[Recommendations]:
        """The k best items of users by their original ids, some users at a time in the order given; None is all users.

        A list is shorter where a user lacks fewer than k items. memory: bytes of scores at once. Raises UserError for ids that the run does
        not know and for k below 1.
        """
        if k < 1:
            raise UserError(f"a list has at least 1 item, and k is {k}; ask for more")
        asked = np.arange(self.catalogue.users) if users is None else self.catalogue.positions(users)
        return (self._lists(chunk, k) for chunk in chunks(asked, self.catalogue.items, memory))

    @torch.no_grad()
    def _lists(self, users: np.ndarray, k: int) -> Recommendations:
        known, train = self.catalogue.known, self.catalogue.train
        cold = np.diff(train.indptr)[users] == 0
        items, scores = top(self.scorer, users, known, k)
        if cold.any():
            items[cold], scores[cold] = top(self.popular, users[cold], known, k)
        there = items != NOTHING
        names = self.catalogue.item_ids
        return Recommendations(
            users=self.catalogue.user_ids[users].tolist(),
            items=[names[row[kept]].tolist() for row, kept in zip(items, there, strict=True)],
            scores=[row[kept].tolist() for row, kept in zip(scores, there, strict=True)],
            cold=cold.tolist(),
        )
