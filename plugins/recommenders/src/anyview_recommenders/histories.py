"""Histories: what each user did, in order of time, and windows of it as encoders of sequences read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from anyview_recommenders.splits import Parts, joined, when

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")
PAD = 0
"""Stands where a window reaches back beyond a history; item i is i + 1."""


@dataclass(frozen=True, eq=False)
class Histories:
    """What each of U users did, oldest first.

    starts: (U + 1,) int64, where a user's items begin. items: (n,) int64 positions. parts: (n,) int64, 0 where an item is of the training
    part, 1 of validation, 2 of test. length: L, the most recent items that a window shows.

    >>> histories = Histories(torch.tensor([0, 3, 3]), torch.tensor([7, 8, 9]), torch.tensor([0, 0, 2]), length=4)
    >>> histories.latest(torch.tensor([0, 1])).tolist()
    [[0, 8, 9, 10], [0, 0, 0, 0]]
    >>> histories.until("validation").latest(torch.tensor([0])).tolist()
    [[0, 0, 8, 9]]
    """

    starts: Tensor
    items: Tensor
    parts: Tensor
    length: int

    @classmethod
    def of(cls, parts: Parts, length: int) -> Histories:
        """Those of a log, by time; of equal times the larger item id is later. Without times its order counts, and test comes last."""
        whole, known = parts.whole(), joined(parts.all[:2])
        number = when(whole) if whole.time is not None else np.concatenate([when(known), len(known) + when(parts.test)])
        order = np.lexsort((number, whole.user))
        part = np.repeat(np.arange(len(PARTS)), [len(one) for one in parts.all])
        starts = np.concatenate([[0], np.cumsum(np.bincount(whole.user, minlength=whole.users))])
        return cls(torch.from_numpy(starts), torch.from_numpy(whole.item[order]), torch.from_numpy(part[order]), length)

    @classmethod
    def from_arrays(cls, kept: Mapping[str, np.ndarray]) -> Histories | None:
        """Those that `arrays` made arrays of; None where there are none."""
        if "history_items" not in kept:
            return None
        starts, items, parts = (torch.from_numpy(kept[f"history_{name}"].astype(np.int64)) for name in ("starts", "items", "parts"))
        return cls(starts, items, parts, int(kept["history_length"]))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays by name."""
        return {
            "history_starts": self.starts.numpy(),
            "history_items": self.items.numpy().astype(np.int32),
            "history_parts": self.parts.numpy().astype(np.int8),
            "history_length": np.array(self.length),
        }

    @property
    def users(self) -> int:
        """U."""
        return len(self.starts) - 1

    @cached_property
    def owners(self) -> Tensor:
        """(n,) the user of each item."""
        return torch.arange(self.users).repeat_interleave(self.counts)

    @property
    def counts(self) -> Tensor:
        """(U,) how many items each user has."""
        return self.starts.diff()

    def until(self, part: PartName) -> Histories:
        """What is of a part or of one before it."""
        kept = self.parts <= PARTS.index(part)
        starts = torch.cat([self.starts[:1], kept.cumsum(0)])[self.starts]
        return replace(self, starts=starts, items=self.items[kept], parts=self.parts[kept])

    def last_items(self) -> Tensor:
        """(U,) the latest item of each user, one beyond the largest where there is none."""
        none = torch.full((self.users,), int(self.items.max()) + 1 if len(self.items) else 0)
        there = self.counts > 0
        none[there] = self.items[self.starts[1:][there] - 1]
        return none

    def latest(self, users: Tensor, length: int | None = None) -> Tensor:
        """The latest L, or `length`, items of users (b,), as `window` gives them."""
        return self.window(self.starts[users], self.starts[users + 1], length)

    def window(self, begin: Tensor, end: Tensor, length: int | None = None) -> Tensor:
        """(b, L) int64, the latest of the items `begin` .. `end` - 1, both (b,), with PAD to their left and 1 added to each."""
        places = end[:, None] - torch.arange(length or self.length, 0, -1, device=end.device)
        there = places >= begin[:, None]
        return torch.where(there, self.items[places.clamp_min(0)] + 1, PAD) if len(self.items) else there.long()
