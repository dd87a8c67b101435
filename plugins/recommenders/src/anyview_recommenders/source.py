"""A log of interactions as a source: an epoch goes over its training interactions, and rows are users, then items."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from anyview.data.source import Batch, Epoch, Source, fingerprint
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.views.draws import derive_seed
from anyview.views.view import View
from anyview_recommenders.beside import Beside, facts
from anyview_recommenders.catalogue import Catalogue, packed
from anyview_recommenders.features import SideFeatures
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.ones import of_ones
from anyview_recommenders.splits import Parts

FACTORS = 64
"""Width of the raw features."""


class InteractionSource(Source):
    """Users and items with their interactions, split into training, validation and test.

    Samples, and the rows of an embedding, are nodes: users 0 .. U - 1, then items U .. U + I - 1; `ids` are their original ids in that
    order (as strings where one kind has integers and the other strings). A batch is of training interactions: data {"user": (b,), "item":
    (b,)} positions, and its index counts interactions. side: features of users and items, None where nobody asked for any. beside: trust
    and further behaviours. notes: further facts for `describe`.

    An epoch is a fresh order of the training interactions, cut into batches whose sizes differ by at most one. Users who have every item of
    the catalogue are left out of it, because nothing is left that they could prefer less. Raises UserError where no interaction is left.
    """

    protocols = ("ranking",)
    all_training: Mapping[str, Any] | None = {"validation": 0}

    def __init__(
        self,
        name: str,
        parts: Parts,
        *,
        side: SideFeatures | None = None,
        beside: Beside | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.parts, self.side, self.beside, self.notes = name, parts, side, beside or Beside(), dict(notes or {})
        train = parts.train
        self.shape = {"users": train.users, "items": train.items, "interactions": len(train)}
        kinds = {train.user_ids.dtype.kind, train.item_ids.dtype.kind}
        ids = [*train.user_ids.tolist(), *train.item_ids.tolist()]
        self.ids = ids if len(kinds) == 1 else [str(node) for node in ids]
        self._rows = torch.from_numpy(self._trainable())

    def _trainable(self) -> np.ndarray:
        """(n,) the training interactions of users who lack an item."""
        train = self.parts.train
        full = np.diff(train.matrix().indptr) == train.items
        if full.any():
            warnings.warn(f"{int(full.sum())} users of {self.name!r} have every item, so nothing is learned from them", stacklevel=3)
        rows = np.flatnonzero(~full[train.user])
        if not len(rows):
            raise UserError(f"no training interaction of {self.name!r} is left to learn from; loosen the filters, or give more data")
        return rows

    def __len__(self) -> int:
        return self.shape["users"] + self.shape["items"]

    def steps(self, batch_size: int | None) -> int:
        return 1 if batch_size is None else -(-len(self._rows) // batch_size)

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        count = len(self._rows)
        order = torch.Generator().manual_seed(derive_seed(epoch.seed, "order", epoch.number))
        rows = self._rows[torch.randperm(count, generator=order)]
        for start, end in self.cuts(count, epoch, "interactions"):
            own = epoch.own(end - start)
            index = rows[start:end][own]
            yield Batch({"user": self._user[index], "item": self._item[index]}, len(index), own.start, end - start, index=index)

    def cuts(self, count: int, epoch: Epoch, what: str) -> Iterator[tuple[int, int]]:
        """Where the batches of `count` samples that an epoch still shows begin and end, their sizes differ by at most one.

        Raises UserError, which says what the samples are, where a batch has fewer than there are ranks.
        """
        steps = self.steps(epoch.batch_size)
        if count // steps < epoch.ranks:
            asked = f"a batch of {count // steps} {what}"
            raise UserError(f"{asked} cannot be shared by {epoch.ranks} ranks; make the batch larger or use fewer devices")
        return ((count * step // steps, count * (step + 1) // steps) for step in range(epoch.skip, steps))

    @cached_property
    def _user(self) -> torch.Tensor:
        return torch.from_numpy(self.parts.train.user)

    @cached_property
    def _item(self) -> torch.Tensor:
        return torch.from_numpy(self.parts.train.item)

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        return self.catalogue.clean(batch_size)

    def ranked_on(self, part: Literal["test", "validation"]) -> InteractionSource:
        """The same log, whose clean views show nothing of a part that is to be ranked."""
        return self

    def features(self) -> np.ndarray:
        """(U + I, 64 at most) factors of the training matrix's truncated SVD, whose products are its best approximation of that rank.

        Cremonesi, Koren, Turrin. Performance of Recommender Algorithms on Top-N Recommendation Tasks. RecSys 2010 (PureSVD).
        """
        matrix = self.parts.train.matrix()
        rank = min(FACTORS, min(matrix.shape) - 1)
        if rank < 1:
            return np.concatenate([np.ones((matrix.shape[0], 1)), np.asarray(matrix.sum(0)).reshape(-1, 1)]).astype(np.float32)
        users, values, items = svds(matrix, k=rank, v0=np.ones(min(matrix.shape), dtype=np.float32), random_state=0)
        return np.concatenate([users * values, items.T]).astype(np.float32)

    def split(self, seed: int) -> Split:
        """The parts as numbers of interactions, training first; the same for every seed."""
        ends = np.cumsum([len(part) for part in self.parts.all])
        numbers = [torch.arange(end - len(part), end) for end, part in zip(ends.tolist(), self.parts.all, strict=True)]
        train, validation, test = numbers
        return Split(train, validation, test, name=self.parts.name)

    def keeps(self) -> Mapping[str, np.ndarray]:
        return {**self.catalogue.arrays(), **self._further()}

    def _further(self) -> dict[str, np.ndarray]:
        """What there is beyond interactions, as a run keeps it."""
        return {**({} if self.side is None else self.side.arrays()), **self.beside.arrays()}

    @cached_property
    def catalogue(self) -> Catalogue:
        """What a run keeps of the log."""
        train = self.parts.train
        held_out = of_ones(csr_matrix(self.parts.validation.matrix() + self.parts.test.matrix(), dtype=np.float32))
        return Catalogue(train.user_ids, train.item_ids, train.matrix(), held_out)

    def fingerprint(self) -> str:
        train = self.parts.train
        ids = [*packed("users", train.user_ids).values(), *packed("items", train.item_ids).values()]
        of_parts = (array for part in self.parts.all for array in _positions(part))
        return fingerprint(*ids, *of_parts, *self._further().values())

    def describe(self) -> dict[str, Any]:
        features = {} if self.side is None else self.side.facts()
        aside = facts(self.beside, len(self.parts.train))
        return {"name": self.name, **self.parts.whole().summary(), **self.parts.facts(), **aside, **self.notes, **features}


def _positions(part: Interactions) -> tuple[np.ndarray | None, ...]:
    return part.user, part.item, part.time, part.rating, part.behaviour
