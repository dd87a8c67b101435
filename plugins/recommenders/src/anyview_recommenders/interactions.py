"""Interactions: who used what, when and how, with the ids that the user's data calls them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from anyview_recommenders.ones import of_ones

OF_ROWS = ("user", "item", "time", "rating", "behaviour")
"""The fields that have one entry per interaction."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """A log of interactions between users and items, in the order of the input.

    user, item: (n,) int64 positions in `user_ids` and `item_ids`. user_ids: (U,), item_ids: (I,) what the input calls them, integers or
    strings, in the order of their first appearance; both may hold ids that no interaction has. time: (n,) float64 seconds. rating: (n,)
    float64. behaviour: (n,) int64 positions in `behaviours`, which names what was done ("view", "buy").

    >>> log = Interactions.from_ids(["ann", "bob", "ann"], [7, 7, 9])
    >>> log.user.tolist(), log.item.tolist(), log.user_ids.tolist(), log.item_ids.tolist()
    ([0, 1, 0], [0, 0, 1], ['ann', 'bob'], [7, 9])
    >>> log.matrix().toarray().tolist()
    [[1.0, 1.0], [1.0, 0.0]]
    """

    user: np.ndarray
    item: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    time: np.ndarray | None = None
    rating: np.ndarray | None = None
    behaviour: np.ndarray | None = None
    behaviours: tuple[str, ...] = ()

    @classmethod
    def from_ids(cls, user: Sequence[Any] | np.ndarray, item: Sequence[Any] | np.ndarray, **more: Any) -> Interactions:
        """Of original ids (n,), integers or strings, numbered in the order of their first appearance; more: the optional fields."""
        users, user_ids = numbered(user)
        items, item_ids = numbered(item)
        return cls(users, items, user_ids, item_ids, **more)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def users(self) -> int:
        """U, how many users there are, those without interactions included."""
        return len(self.user_ids)

    @property
    def items(self) -> int:
        """I, how many items the catalogue has."""
        return len(self.item_ids)

    @cached_property
    def _matrix(self) -> csr_matrix:
        ones = np.ones(len(self), dtype=np.float32)
        return of_ones(csr_matrix((ones, (self.user, self.item)), shape=(self.users, self.items)))

    def matrix(self) -> csr_matrix:
        """(U, I) float32 CSR of ones, each pair once, item positions of a row in order; shared between calls, so do not change it."""
        return self._matrix

    def of_pairs(self, values: np.ndarray) -> np.ndarray:
        """What interactions say, (n,), of each entry of `matrix`, row by row; where a pair comes several times, what its first says.

        >>> log = Interactions.from_ids([1, 2, 1], [5, 5, 6])
        >>> log.of_pairs(np.array([0.5, 1.0, 2.0])).tolist()
        [0.5, 2.0, 1.0]
        """
        _, first = np.unique(self.user * self.items + self.item, return_index=True)
        return values[first]

    def select(self, mask: np.ndarray) -> Interactions:
        """The interactions where mask (n,) is True, or those of position mask (m,); users and items keep their positions."""
        return replace(self, **{name: getattr(self, name)[mask] for name in OF_ROWS if getattr(self, name) is not None})

    def without_unused(self) -> Interactions:
        """The same interactions over the users and items that have one, with new positions in the same order."""
        users, user = np.unique(self.user, return_inverse=True)
        items, item = np.unique(self.item, return_inverse=True)
        return replace(self, user=user, item=item, user_ids=self.user_ids[users], item_ids=self.item_ids[items])

    def arrays(self) -> list[np.ndarray | None]:
        """All that is in it, for a fingerprint."""
        return [None if value is None else np.asarray(value) for value in (getattr(self, field.name) for field in fields(self))]

    def summary(self) -> dict[str, Any]:
        """Users, items and interactions in numbers: density in percent of all pairs, degrees as smallest/median/largest."""
        matrix = self.matrix()
        cells = max(1, self.users * self.items)
        return {
            "users": self.users,
            "items": self.items,
            "interactions": len(self),
            "density": f"{100 * matrix.nnz / cells:.3g} %",
            "items per user": _degrees(np.diff(matrix.indptr)),
            "users per item": _degrees(np.bincount(matrix.indices, minlength=self.items)),
        }


def numbered(ids: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n,) int64 of ids (n,), and the distinct ids in the order of their first appearance.

    >>> numbered(["b", "a", "b"])
    (array([0, 1, 0]), array(['b', 'a'], dtype=object))
    """
    array = np.asarray(ids)
    if array.dtype.kind == "U":
        array = np.asarray(ids, dtype=object)
    distinct, first, position = np.unique(array, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[position], distinct[order]


def _degrees(counts: np.ndarray) -> str:
    """Smallest, median and largest of some counts."""
    return f"{counts.min()}/{np.median(counts):g}/{counts.max()}" if len(counts) else "none"
