"""What readers hand over: a log, perhaps in parts, with what was noticed while it was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from anyview.errors import UserError
from anyview_recommenders.interactions import Interactions, numbered


@dataclass(eq=False)
class Raw:
    """A log as it was read: users and items shared by its parts, each pair once a behaviour.

    log: all of it, or its training part where test is there. layout: what kind of file it was. notes: what a user should know of it.
    trust: links between users that came with it, or the file of them, which `trust.read_trust` reads. knowledge: makes the triples that
    came with it, a `knowledge.Knowledge`.
    tables: makes the DataFrame of features that lies beside it, by "user" and "item".
    """

    log: Interactions
    layout: str
    validation: Interactions | None = None
    test: Interactions | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    trust: Interactions | Path | None = None
    knowledge: Callable[[], Any] | None = None
    tables: Mapping[str, Callable[[], Any]] = field(default_factory=dict)


def assemble(layout: str, *parts: Interactions | None, notes: dict[str, Any] | None = None, what: str = "the data") -> Raw:
    """A log from its training, validation and test part, each with ids of its own; pairs that a part has more than once are merged.

    Raises UserError for a part without interactions.
    """
    present = [part for part in parts if part is not None]
    if any(not len(part) for part in present):
        raise UserError(f"{what} holds no interactions; give a line for each of a user with an item")
    merged = [merge_duplicates(part) for part in together(present)]
    repeated = sum(count for _, count in merged)
    noted = {"merged": f"{repeated:,} repeated interactions, the first of each kept"} if repeated else {}
    made = iter(part for part, _ in merged)
    train, validation, test = (None if part is None else next(made) for part in (*parts, None, None)[:3])
    assert train is not None
    return Raw(train, layout, validation, test, {**noted, **(notes or {})})


def merge_duplicates(log: Interactions) -> tuple[Interactions, int]:
    """The first interaction of each pair of user and item, or of each with its behaviour, and how many more there were.

    >>> log, more = merge_duplicates(Interactions.from_ids([1, 1, 2], [5, 5, 5]))
    >>> len(log), more
    (2, 1)
    """
    keys = log.user * log.items + log.item
    if log.behaviour is not None:
        keys = keys * max(1, len(log.behaviours)) + log.behaviour
    first = np.sort(np.unique(keys, return_index=True)[1])
    return (log, 0) if len(first) == len(log) else (log.select(first), len(log) - len(first))


def together(parts: Sequence[Interactions]) -> list[Interactions]:
    """The same parts over one numbering of users and items, in the order of their first appearance."""
    if len(parts) == 1:
        return list(parts)
    users, user_ids = shared_ids([part.user_ids for part in parts])
    items, item_ids = shared_ids([part.item_ids for part in parts])
    return [
        replace(part, user=user[part.user], item=item[part.item], user_ids=user_ids, item_ids=item_ids)
        for part, user, item in zip(parts, users, items, strict=True)
    ]


def shared_ids(ids: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """New positions of each part's ids, and all ids; strings in all parts where one has strings."""
    if len({part.dtype.kind for part in ids}) > 1:
        ids = [np.array([str(one) for one in part.tolist()], dtype=object) for part in ids]
    positions, distinct = numbered(np.concatenate(ids))
    return np.split(positions, np.cumsum([len(part) for part in ids])[:-1]), distinct
