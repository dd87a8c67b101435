"""A log as sequences: an epoch goes over the users, each with what they did in training, oldest first."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch

from anyview.data.source import Batch, Epoch, Source
from anyview.errors import UserError
from anyview.views.draws import derive_seed
from anyview.views.view import View
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.histories import Histories, PartName
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.splits import Parts

SHORTEST = 2
"""The fewest training items of a user from whom something is learned: one that comes after another."""


class SequenceSource(InteractionSource):
    """Users and items as in InteractionSource, with the order of each user's items.

    length: L, the most recent items that are read. A batch is of users with two training items or more, in a fresh order: data
    {"sequence": (b, L + 1) int64}, their latest training items with zeros to the left and 1 added to each, so that every item but the
    first has one before it. Clean views read training and validation, the rows of items stand behind those of users, as everywhere.

    Raises UserError for a length below 1, and where no user has two training items.
    """

    def __init__(self, name: str, parts: Parts, *, length: int = 50, notes: Mapping[str, Any] | None = None) -> None:
        if length < 1:
            raise UserError(f"a sequence has at least 1 item, and length is {length}; try 50")
        super().__init__(name, parts, notes=notes)
        self.length = length
        self.reads: PartName = "validation"
        self.train_rows = (self.training.counts >= SHORTEST).nonzero().flatten()
        if not len(self.train_rows):
            raise UserError(
                f"no user of {name!r} has {SHORTEST} training items, and what comes next is learned from those; give longer ones"
            )

    @classmethod
    def of(cls, source: Source, length: int) -> Source:
        """A log as sequences; a source that is no log, such as an outline, as it is."""
        if (isinstance(source, cls) and source.length == length) or not isinstance(source, InteractionSource):
            return source
        made = cls(source.name, source.parts, length=length, notes=source.notes)
        made.place = source.place
        return made

    @cached_property
    def training(self) -> Histories:
        """What users did in the training part."""
        histories = self.catalogue.histories
        assert histories is not None
        return histories.until("train")

    @cached_property
    def catalogue(self) -> Catalogue:
        return replace(super().catalogue, histories=Histories.of(self.parts, self.length))

    def steps(self, batch_size: int | None) -> int:
        return 1 if batch_size is None else -(-len(self._users) // batch_size)

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        order = torch.Generator().manual_seed(derive_seed(epoch.seed, "order", epoch.number))
        users = self._users[torch.randperm(len(self._users), generator=order)]
        for start, end in self.cuts(len(users), epoch, "users"):
            own = epoch.own(end - start)
            index = users[start:end][own]
            sequence = self.training.latest(index, self.length + 1)
            yield Batch({"sequence": sequence}, len(index), own.start, end - start, index=index)

    @property
    def _users(self) -> torch.Tensor:
        assert self.train_rows is not None
        return self.train_rows

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        return self.catalogue.clean(batch_size, until=self.reads)

    def ranked_on(self, part: Literal["test", "validation"]) -> InteractionSource:
        if part == "test":
            return self
        shown = copy.copy(self)
        shown.reads = "train"
        return shown

    def describe(self) -> dict[str, Any]:
        longest = int(self.training.counts.max())
        shown = f"the latest {self.length} of each user's items" if longest > self.length else "all of each user's items"
        return {
            **super().describe(),
            "sequences": f"{len(self._users):,} of {SHORTEST} training items or more, up to {longest}; read are {shown}",
        }
