"""What is known of users and items beside who used what: features, each a bag of values for every user or item.

Every feature is of one kind inside: codes of values. A category is a bag of one, a list a bag of several. A number becomes the quantile
bucket that it lies in, with edges from what training knows: mutual information is taken of values that repeat, an outlier moves nothing,
and what is not known is a bucket of its own, none of which standardised numbers offer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from anyview.data.source import Source
from anyview.errors import UserError, unknown
from anyview_recommenders.catalogue import packed, unpacked
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.splits import when

Kind = Literal["id", "history", "category", "list", "number"]
UNKNOWN = 0
"""The code of what is not known: a value like any other."""


@dataclass(frozen=True, eq=False)
class Feature:
    """A feature of n users or items.

    kind: "id", of those with training interactions; "history", ids of the items used in training, the last first; "category"; "list";
    "number". starts: (n + 1,) int64, where each bag begins; codes: (m,) int64, 0 for what is not known; a bag may be empty. size: how many
    codes there are. values: (size - 1,) strings, code c means values[c - 1]; empty for ids, histories and numbers. edges: (q,) float64,
    where a number's buckets part.

    >>> genres = Feature("genres", "list", np.array([0, 2, 3]), np.array([1, 2, 0]), 3, np.array(["war", "noir"], dtype=object))
    >>> len(genres), genres.longest, genres.matrix().toarray().tolist()
    (2, 2, [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    """

    name: str
    kind: Kind
    starts: np.ndarray
    codes: np.ndarray
    size: int
    values: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))
    edges: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def longest(self) -> int:
        """Values in the largest bag, at least 1."""
        return max(1, int(np.diff(self.starts).max(initial=0)))

    @property
    def several(self) -> bool:
        """Whether a bag may hold several values."""
        return self.kind in ("list", "history")

    def matrix(self) -> csr_matrix:
        """(n, size) float64 CSR: 1 where a bag has a value."""
        return csr_matrix((np.ones(len(self.codes)), self.codes, self.starts), shape=(len(self), self.size))

    def unknown(self) -> int:
        """Of how many users or items nothing is known."""
        return int((np.diff(self.starts) == 0).sum() + (self.codes == UNKNOWN).sum())


@dataclass(frozen=True, eq=False)
class SideFeatures:
    """The features of all users and of all items of a log, in the order of its positions; those of each side have names of their own."""

    users: tuple[Feature, ...]
    items: tuple[Feature, ...]

    @classmethod
    def of(cls, source: Source) -> SideFeatures:
        """Those of a log, or of the outline that a run is loaded with; raises UserError for data that was opened without."""
        kept = source.keeps()
        if "features_of_items" not in kept:
            asked = f"features were asked for, and the data {source.name!r} was opened without"
            raise UserError(f"{asked}; open it with open_interactions(..., features=True)")
        return cls(_unpacked(kept, "users"), _unpacked(kept, "items"))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays by name, for `of`."""
        return {**_packed("users", self.users), **_packed("items", self.items)}

    def facts(self) -> dict[str, Any]:
        """What each feature is, in words."""
        return {f"features of {side}": ", ".join(map(_told, own)) for side, own in (("users", self.users), ("items", self.items))}


def categories_of(source: Source, names: str = "") -> csr_matrix | None:
    """(I, C) CSR, which values items have of features; None where they have none.

    names: of features, with commas between them; all that are categories or lists by default. Raises UserError for one that there is not.
    """
    features = SideFeatures.of(source).items if "features_of_items" in source.keeps() else ()
    there = {feature.name: feature for feature in features if feature.kind != "id"}
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in there:
            raise unknown("feature of items", name, list(there), look=", ".join(there) or "a table of --reading.item_features")
    chosen = asked or [name for name, feature in there.items() if feature.kind in ("category", "list")]
    matrices = [there[name].matrix()[:, 1:] for name in chosen]  # without what is not known
    found = csr_matrix(sparse.hstack(matrices)) if matrices else None
    return found if found is not None and found.nnz else None


def ids_of(known: np.ndarray) -> Feature:
    """The id of each of n users or items as a feature; known: (n,) bool, whether training knows it. The others have an empty bag.

    >>> ids_of(np.array([True, False, True])).codes.tolist()
    [1, 3]
    """
    starts = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
    return Feature("id", "id", starts, np.flatnonzero(known) + 1, len(known) + 1)


def histories_of(train: Interactions, longest: int = 50) -> Feature:
    """What each user used in training, the last `longest` items, latest first; of equal times the larger item id is later.

    >>> log = Interactions.from_ids([1, 1, 2], [5, 6, 6], time=np.array([1.0, 2.0, 3.0]))
    >>> histories_of(log).codes.tolist(), histories_of(log, longest=1).codes.tolist()
    ([2, 1, 2], [2, 2])
    """
    rows = np.lexsort((-when(train), train.user))
    counts = np.bincount(train.user, minlength=train.users)
    begins = np.cumsum(counts) - counts
    kept = rows[np.arange(len(rows)) - begins[train.user[rows]] < longest]
    starts = np.concatenate([[0], np.cumsum(np.minimum(counts, longest))]).astype(np.int64)
    return Feature("history", "history", starts, train.item[kept] + 1, train.items + 1)


def _told(feature: Feature) -> str:
    """A feature in words: kind, values, and of how many nothing is known."""
    if feature.kind in ("id", "history"):
        return feature.name
    what = f"{feature.size - 1} {'buckets' if feature.kind == 'number' else 'values'}"
    share = 100 * feature.unknown() / max(1, len(feature))
    return f"{feature.name} ({feature.kind}, {what}" + (f", {share:.2g} % unknown)" if share else ")")


def _packed(side: str, features: Sequence[Feature]) -> dict[str, np.ndarray]:
    words = {"features": [feature.name for feature in features], "kinds": [feature.kind for feature in features]}
    arrays = {f"sizes_of_{side}": np.array([feature.size for feature in features], dtype=np.int64)}
    for name, own in words.items():
        arrays |= packed(f"{name}_of_{side}", np.array(own, dtype=object))
    for number, feature in enumerate(features):
        own_arrays = {"starts": feature.starts, "codes": feature.codes, "edges": feature.edges}
        arrays |= {f"{side}_{number}_{name}": array for name, array in own_arrays.items()}
        arrays |= packed(f"{side}_{number}_values", feature.values)
    return arrays


def _unpacked(kept: Mapping[str, np.ndarray], side: str) -> tuple[Feature, ...]:
    names, kinds, sizes = unpacked(kept, f"features_of_{side}"), unpacked(kept, f"kinds_of_{side}"), kept[f"sizes_of_{side}"]
    features = []
    for number, (name, kind, size) in enumerate(zip(names, kinds, sizes.tolist(), strict=True)):
        assert kind in get_args(Kind)
        starts, codes, edges = (kept[f"{side}_{number}_{part}"] for part in ("starts", "codes", "edges"))
        features.append(Feature(name, kind, starts, codes, size, unpacked(kept, f"{side}_{number}_values"), edges))
    return tuple(features)
