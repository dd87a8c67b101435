"""What a run keeps of a log, so that it recommends without it: the ids of users and items, and who has what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from anyview.data.source import Source
from anyview.errors import UserError
from anyview.views.view import View
from anyview_recommenders.histories import Histories, PartName


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Users and items with their original ids, and their interactions.

    user_ids: (U,), item_ids: (I,), integers, or strings in an array of objects. train: (U, I) CSR of ones, what models learn from.
    held_out: (U, I) CSR, the interactions of the validation and test parts, which are no news to their users either.
    histories: what each user did, in order, for encoders that read sequences; None for those that read nodes of a graph.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    train: csr_matrix
    held_out: csr_matrix
    histories: Histories | None = None

    @classmethod
    def of(cls, source: Source) -> Catalogue:
        """That of a log, or of the outline that a run is loaded with; raises UserError for data that is no log."""
        kept = source.keeps()
        if not {"user_ids", "item_ids", "train_starts"} <= kept.keys():
            raise UserError(f"the data {source.name!r} is no log of interactions, and a recommender was asked for; choose other data")
        users, items = unpacked(kept, "user_ids"), unpacked(kept, "item_ids")
        train, held_out = (matrix_of(kept, name, len(items)) for name in ("train", "held_out"))
        return cls(users, items, train, held_out, Histories.from_arrays(kept))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays by name, for `of`."""
        matrices = {"train": self.train, "held_out": self.held_out}
        starts = {f"{name}_starts": matrix.indptr for name, matrix in matrices.items()}
        found = {f"{name}_items": matrix.indices for name, matrix in matrices.items()}
        order = {} if self.histories is None else self.histories.arrays()
        return {**packed("user_ids", self.user_ids), **packed("item_ids", self.item_ids), **starts, **found, **order}

    def clean(self, batch_size: int = 1024, *, until: PartName = "test") -> Iterator[View]:
        """Untouched views of all users, then of all items, for their rows.

        All nodes in one view, because a graph convolution is taken over all of them, however few are asked for. Where there are histories,
        `batch_size` users at a time with what they did up to and with the part `until`; then the items.
        """
        if self.histories is None:
            yield all_nodes(self.users + self.items)
            return
        read = self.histories.until(until)
        for users in torch.arange(self.users).split(batch_size):
            yield View({"sequence": read.latest(users)}, role="clean", index=users)
        items = torch.arange(self.items)
        yield View({"items": items}, role="clean", index=self.users + items)

    def with_items(self, ids: np.ndarray) -> Catalogue:
        """The same with further items (n,) behind its own, which nobody has."""
        shape = (self.users, self.items + len(ids))
        matrices = (csr_matrix((own.data, own.indices, own.indptr), shape=shape) for own in (self.train, self.held_out))
        return Catalogue(self.user_ids, np.concatenate([self.item_ids, ids]), *matrices)

    @property
    def users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def items(self) -> int:
        """I."""
        return len(self.item_ids)

    @cached_property
    def known(self) -> csr_matrix:
        """(U, I) CSR, everything that a user is known to have, in training or not."""
        return (self.train + self.held_out).tocsr()

    @cached_property
    def _positions(self) -> dict[Any, int]:
        return {user: position for position, user in enumerate(self.user_ids.tolist())}

    def positions(self, users: Sequence[str | int]) -> np.ndarray:
        """(n,) int64 positions of original user ids; digits in a string mean an integer where ids are integers.

        Raises UserError that names the ids that the log does not have.
        """
        wanted = [self._as_id(user) for user in users]
        unseen = [user for user in wanted if user not in self._positions]
        if unseen:
            named = ", ".join(map(repr, unseen[:3])) + (f" and {len(unseen) - 3} more" if len(unseen) > 3 else "")
            known = ", ".join(repr(user) for user in self.user_ids[:3].tolist())
            sentence = f"the run knows {self.users:,} users, such as {known}, and not {named}"
            raise UserError(f"{sentence}; check the spelling, or train on data that has them")
        return np.array([self._positions[user] for user in wanted], dtype=np.int64)

    def _as_id(self, user: str | int) -> str | int:
        whole = self.user_ids.dtype.kind == "i" and isinstance(user, str) and user.lstrip("-").isdecimal()
        return int(user) if whole else user


def all_nodes(count: int) -> View:
    """A clean view of nodes 0 .. count - 1."""
    nodes = torch.arange(count)
    return View({"nodes": nodes}, role="clean", index=nodes)


def packed(name: str, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Ids as arrays without objects: integers as they are, strings as UTF-8 and where each ends.

    >>> packed("ids", np.array(["ö", ""], dtype=object))
    {'ids': array([195, 182], dtype=uint8), 'ids_ends': array([2, 2])}
    """
    if ids.dtype.kind == "i":
        return {name: ids}
    parts = [text.encode("utf-8", "surrogatepass") for text in ids.tolist()]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return {name: np.frombuffer(b"".join(parts), dtype=np.uint8), f"{name}_ends": ends}


def unpacked(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The ids that `packed` made arrays of.

    >>> unpacked(packed("ids", np.array(["ö", ""], dtype=object)), "ids")
    array(['ö', ''], dtype=object)
    """
    if f"{name}_ends" not in arrays:
        return arrays[name]
    whole, ends = arrays[name].tobytes(), arrays[f"{name}_ends"].tolist()
    ids = np.empty(len(ends), dtype=object)
    ids[:] = [whole[start:end].decode("utf-8", "surrogatepass") for start, end in zip([0, *ends], ends, strict=False)]
    return ids


def matrix_of(kept: Mapping[str, np.ndarray], name: str, width: int) -> csr_matrix:
    """A matrix of ones that is kept by a name, with so many columns."""
    starts, columns = kept[f"{name}_starts"], kept[f"{name}_items"]
    return csr_matrix((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(starts) - 1, width))
