"""Splits of a log into training, validation and test, and the filter that leaves users and items with enough interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from anyview.errors import UserError
from anyview_recommenders.interactions import OF_ROWS, Interactions

SplitName = Literal["given", "leave_one_out", "ratio", "temporal", "global_time", "by_user"]
"""leave_one_out: each user's last interaction is test, the one before it validation. ratio: a random share of each user's are training.
temporal: the first share of each user's. global_time: what happened before one moment. by_user: a share of the users is never tested."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Training, validation and test interactions over the same users and items; name: how they were made."""

    train: Interactions
    validation: Interactions
    test: Interactions
    name: str

    @property
    def all(self) -> tuple[Interactions, Interactions, Interactions]:
        """The three parts."""
        return self.train, self.validation, self.test

    def whole(self) -> Interactions:
        """The three parts one after another."""
        return joined(self.all)

    def facts(self) -> dict[str, Any]:
        """Sizes of the parts, and what a score on the test part should be read with."""
        train, test = self.train.matrix(), self.test.matrix()
        known_users, known_items = np.diff(train.indptr) > 0, np.bincount(train.indices, minlength=self.train.items) > 0
        sizes = "/".join(str(len(part)) for part in self.all)
        facts: dict[str, Any] = {"split": f"{self.name}: {sizes} training/validation/test"}
        if len(self.test):
            facts["test users"] = int((np.diff(test.indptr) > 0).sum())
        if cold := int((~known_users[np.unique(self.test.user)]).sum()):
            facts["test users without training interactions"] = cold
        if unseen := int((~known_items[self.test.item]).sum()):
            facts["test interactions with items unseen in training"] = unseen
        if repeated := int(train.multiply(test).nnz):
            facts["test pairs that are in training too"] = repeated
        return facts


def joined(parts: Sequence[Interactions]) -> Interactions:
    """Interactions over the same users and items, one part after another; a column that one of them lacks is left out."""
    columns = {name: [getattr(part, name) for part in parts] for name in OF_ROWS}
    whole: dict[str, Any] = {
        name: None if any(value is None for value in values) else np.concatenate(values) for name, values in columns.items()
    }
    return replace(parts[0], **whole)


def split(
    log: Interactions, how: SplitName, *, share: float = 0.8, validation: float = 0.1, seed: int = 0, test: Interactions | None = None
) -> Parts:
    """A log in parts. Every user with a test interaction keeps at least one in training.

    share: of each user's interactions, of time or of users, that is training and validation. validation: share of a user's training part,
    its last, that is for choosing; 0 for none. Where the log has no times, the last of leave_one_out are those that come last in it, and
    validation is drawn. Of interactions at the same time the larger item id is later. test: the test part where `how` is "given", over the
    same users and items. Raises UserError where times are asked for and missing, for shares out of range, and where a part is empty.

    >>> log = Interactions.from_ids([1, 1, 1, 2, 2], [5, 6, 7, 5, 6], time=np.array([3.0, 1.0, 2.0, 1.0, 2.0]))
    >>> parts = split(log, "leave_one_out")
    >>> parts.test.item_ids[parts.test.item].tolist(), len(parts.validation), len(parts.train)
    ([5, 6], 1, 2)
    """
    if not 0 < share < 1 or not 0 <= validation < 1:
        raise UserError(f"a share lies between 0 and 1, and share is {share:g} and validation {validation:g}; try 0.8 and 0.1")
    if how in ("temporal", "global_time") and log.time is None:
        raise UserError(f"the split {how} needs times, and the log has none; choose ratio or leave_one_out, or name the column of times")
    if how == "given":
        if test is None:
            raise UserError("the given split was asked for, and the data has one part only; choose leave_one_out, ratio or temporal")
        rest, name = log, "given"
    else:
        held_out = _held_out(log, how, share, seed)
        rest, test, name = log.select(~held_out), log.select(held_out), _name(log, how, share, seed)
    if not len(rest) or not len(test):
        empty = "training" if not len(rest) else "test"
        found = f"{len(log):,} interactions of {log.users:,} users"
        raise UserError(f"the {empty} part of the split {name!r} is empty, of {found}; loosen the filters or choose another split")
    chosen = _validation(rest, how, validation, seed)
    if chosen.any():
        name += f", {'the one before' if how == 'leave_one_out' else f'last {100 * validation:g} % of training'} for validation"
    return Parts(rest.select(~chosen), rest.select(chosen), test, name)


def k_core(log: Interactions, k: int) -> Interactions:
    """The largest part of a log in which every user and every item has at least k interactions; others lose their positions.

    Raises UserError where nothing is left.

    >>> k_core(Interactions.from_ids([1, 1, 2, 2, 3], [5, 6, 5, 6, 6]), 2).user_ids.tolist()
    [1, 2]
    """
    kept = log
    while len(kept):
        users, items = np.bincount(kept.user, minlength=log.users), np.bincount(kept.item, minlength=log.items)
        enough = (users[kept.user] >= k) & (items[kept.item] >= k)
        if enough.all():
            return kept.without_unused()
        kept = kept.select(enough)
    raise UserError(f"no user and item of {len(log):,} interactions have {k} each, so the filter leaves nothing; choose a smaller k_core")


def thin(parts: Parts, share: float, seed: int = 0) -> Parts:
    """The same parts with a random share of the training interactions; each user keeps at least one of theirs.

    Raises UserError unless 0 < share <= 1.

    >>> log = Interactions.from_ids(np.repeat(np.arange(50), 20), np.tile(np.arange(20), 50))
    >>> nothing = log.select(np.zeros(len(log), dtype=bool))
    >>> len(thin(Parts(log, nothing, nothing, "given"), 0.1).train)
    100
    """
    if not 0 < share <= 1:
        raise UserError(f"the share of training interactions lies above 0 and up to 1, and train_share is {share:g}; try 0.1")
    if share == 1:
        return parts
    train = parts.train
    drawn = np.random.default_rng([seed, 2]).permutation(len(train))
    first, _ = _places(train, drawn)
    order = np.lexsort((drawn, first > 0))  # one of each user's before all others
    kept = np.zeros(len(train), dtype=bool)
    kept[order[: max(int((first == 0).sum()), round(share * len(train)))]] = True
    return replace(parts, train=train.select(kept), name=f"{parts.name}, {100 * share:g} % of training")


def _held_out(log: Interactions, how: SplitName, share: float, seed: int) -> np.ndarray:
    """(n,) bool, the test interactions."""
    if how == "global_time":
        return _latest(log, share)
    if how == "leave_one_out":
        place, count = _places(log, when(log))
        return (place == count - 1) & (count > 1)
    random = np.random.default_rng(seed)
    place, count = _places(log, random.permutation(len(log)) if how == "ratio" or log.time is None else when(log))
    late = place >= np.maximum(1, np.floor(share * count + 1e-9))
    if how != "by_user":
        return late
    tested = np.zeros(log.users, dtype=bool)
    tested[random.permutation(log.users)[: max(1, round((1 - share) * log.users))]] = True
    return late & tested[log.user]


def _validation(log: Interactions, how: SplitName, share: float, seed: int) -> np.ndarray:
    """(n,) bool, the training interactions that are for choosing; each user keeps one at least."""
    if share == 0:
        return np.zeros(len(log), dtype=bool)
    if how == "global_time":
        return _latest(log, 1 - share)
    drawn = how == "ratio" or (how != "leave_one_out" and log.time is None)
    place, count = _places(log, np.random.default_rng([seed, 1]).permutation(len(log)) if drawn else when(log))
    size = np.ones(len(log)) if how == "leave_one_out" else np.floor(share * count + 0.5)
    return place >= np.maximum(1, count - size)


def _latest(log: Interactions, share: float) -> np.ndarray:
    """(n,) bool: at or after the moment before which that share of the interactions happened."""
    assert log.time is not None
    moment = np.sort(log.time)[min(len(log) - 1, int(share * len(log)))]
    return log.time >= moment


def when(log: Interactions) -> np.ndarray:
    """(n,) numbers that rise with time, and with the item's id where times are equal; the log's order where it has no times.

    >>> when(Interactions.from_ids([1, 1, 1], [5, 9, 7], time=np.array([3.0, 1.0, 1.0]))).tolist()
    [2, 1, 0]
    """
    if log.time is None:
        return np.arange(len(log))
    rank = np.empty(log.items, dtype=np.int64)
    rank[np.argsort(log.item_ids, kind="stable")] = np.arange(log.items)
    number = np.empty(len(log), dtype=np.int64)
    number[np.lexsort((rank[log.item], log.time))] = np.arange(len(log))
    return number


def _places(log: Interactions, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each interaction's place (n,) among its user's, from 0, by rising numbers (n,), and how many the user has (n,)."""
    counts = np.bincount(log.user, minlength=log.users)
    starts = np.cumsum(counts) - counts
    rows = np.lexsort((order, log.user))
    place = np.empty(len(log), dtype=np.int64)
    place[rows] = np.arange(len(log)) - starts[log.user[rows]]
    return place, counts[log.user]


def _name(log: Interactions, how: SplitName, share: float, seed: int) -> str:
    percent = f"{100 * share:g}/{100 - 100 * share:g} %"
    drawn = "" if log.time is not None and how != "ratio" else f", seed {seed}"
    return {
        "leave_one_out": "leave one out, " + ("by time" if log.time is not None else "by the order of the log"),
        "ratio": f"{percent} of each user's, seed {seed}",
        "temporal": f"{percent} of each user's, by time",
        "global_time": f"{percent}, by time",
        "by_user": f"{100 - 100 * share:g} % of the users, on {100 - 100 * share:g} % of theirs, seed {seed}"
        + ("" if drawn else ", by time"),
    }[how]
