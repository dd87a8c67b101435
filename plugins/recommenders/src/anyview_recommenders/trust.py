"""Trust between users: links in a file, a table or a matrix beside a log, with the ids that the log's users have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from anyview.data.roots import data_root
from anyview.errors import UserError
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.ones import of_ones
from anyview_recommenders.raw import shared_ids
from anyview_recommenders.readers import read_file
from anyview_recommenders.tables import Columns, header_of, of_frame, separator_of


def read_trust(given: Any) -> Interactions:
    """Links between users, as they are written: `user` trusts `item`, both with ids of their own.

    given: links that are read already; a DataFrame, or the path of a CSV or TSV file with a header, whose first two columns are a user and
    whom they trust; a text without a header of two columns, or of a user and all whom they trust a line; a sparse matrix in .npz or .pkl.
    Raises UserError for what cannot be read.
    """
    if isinstance(given, Interactions):
        return given
    if not isinstance(given, str | Path):
        return of_frame(given, _first_two([str(name) for name in getattr(given, "columns", [])], "the trust given"), "the trust given")
    found = next((place for place in (Path(given).expanduser(), data_root() / given) if place.is_file()), None)
    if found is None:
        raise UserError(f"there is no file {str(given)!r} of trust, here or under the data root {str(data_root())!r}; check the path")
    headed = found.suffix.lower() in (".csv", ".tsv")
    columns = _first_two(header_of(found, separator_of(found)), f"the file {str(found)!r}") if headed else Columns()
    return read_file(found, columns)[0]


def trust_matrix(links: Interactions, user_ids: np.ndarray, *, mutual: bool = False) -> tuple[csr_matrix, dict[str, str]]:
    """Who trusts whom among some users, (U, U) CSR of ones, and what was left out of it, in words.

    user_ids: (U,) those of the log, integers or strings. Links of users that the log does not know and of users to themselves are left out,
    and repeated ones are merged. mutual: links hold both ways; else as they are directed. Raises UserError where no link is left.

    >>> links = Interactions.from_ids(["a", "a", "b", "x"], ["b", "b", "b", "a"])
    >>> matrix, told = trust_matrix(links, np.array(["a", "b"], dtype=object))
    >>> matrix.toarray().tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    >>> told
    {'left out of trust': '1 of users without interactions, 1 to themselves, 1 repeated'}
    """
    count = len(user_ids)
    (_, truster, trusted), _ = shared_ids([user_ids, links.user_ids, links.item_ids])
    ends = np.stack([truster[links.user], trusted[links.item]])
    known, own = (ends < count).all(0), ends[0] == ends[1]
    kept = ends[:, known & ~own]
    repeated = kept.shape[1] - len(np.unique(kept[0] * count + kept[1]))
    if not kept.shape[1]:
        examples = ", ".join(repr(one) for one in user_ids[:2].tolist())
        found = ", ".join(repr(one) for one in links.user_ids[:2].tolist())
        raise UserError(f"none of {len(links):,} links of trust is between users of the log, such as {examples}; they are of {found}")
    kept = np.concatenate([kept, kept[::-1]], axis=1) if mutual else kept
    matrix = of_ones(csr_matrix((np.ones(kept.shape[1], dtype=np.float32), (kept[0], kept[1])), shape=(count, count)))
    left = {"of users without interactions": int((~known).sum()), "to themselves": int((known & own).sum()), "repeated": repeated}
    words = ", ".join(f"{number:,} {name}" for name, number in left.items() if number)
    return matrix, {"left out of trust": words} if words else {}


def both_ways(trust: csr_matrix) -> csr_matrix:
    """Links between users that hold both ways, (U, U) CSR of ones, where they hold one way in `trust` (U, U).

    >>> both_ways(csr_matrix(np.array([[0.0, 1.0], [0.0, 0.0]]))).toarray().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return of_ones(csr_matrix(trust + trust.T))


def _first_two(names: list[str], what: str) -> Columns:
    if len(names) < 2:
        raise UserError(f"{what} has {len(names)} columns, and trust needs two, a user and whom they trust; give it a header of both")
    return Columns(user=names[0], item=names[1])
