"""A trained run as a recommender: original ids in, original ids out, without the data that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from anyview.errors import UserError
from anyview.evaluation.embedding import choose_device, frozen
from anyview.run import Run
from anyview_recommenders.baselines.popularity import popularity
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.evaluations import scorer_of
from anyview_recommenders.ranking import MEMORY, NOTHING, chunks, top


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
    and scored on. Raises UserError for a run on other data.
    """

    def __init__(self, run: Run, *, device: str = "auto") -> None:
        self.catalogue = Catalogue.of(run.recipe.source)
        place = choose_device(device)
        with frozen(run.embedder, place):
            self.scorer = scorer_of(run.embedder, self.catalogue)
        self.popular = popularity(self.catalogue.train)

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
