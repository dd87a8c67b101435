"""Full ranking: every item of the catalogue is a candidate for every user, and what was seen is left out.

The measures are those of the field's papers, with one meaning each: recall divides by all relevant items, NDCG by the best list of the same
length, MRR looks at the first hit alone. Scores do not depend on how many users are ranked at once, which `memory` alone decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.errors import UserError
from anyview_recommenders.scorer import Scorer

MEMORY = 16_000_000
"""Bytes of scores that are held at once: more of them leave a processor's cache and are slower."""
HEAD = 0.2
"""The share of the items, the most popular ones, that count as the head."""
NOTHING = -1
"""Stands in a list where a user has no further unseen items."""
BLOCK = 64
"""Columns whose maximum stands for them while the best of a long row are looked for."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """What a full ranking found.

    users: (u,) int64 positions of the users that count. cold: how many users have relevant items and no history. each: measure -> (u,)
    float64, one number a user, NaN where a slice holds nothing relevant for them. whole: what is measured of all lists together.
    """

    users: np.ndarray
    cold: int
    each: dict[str, np.ndarray]
    whole: dict[str, float]

    def means(self) -> dict[str, float]:
        """Every measure as one number: means over the users that it has a number for, then the measures of all lists together."""
        means = {name: float(np.nanmean(values)) for name, values in self.each.items() if not np.isnan(values).all()}
        return {**means, **self.whole}


@torch.no_grad()
def rank(
    scorer: Scorer,
    seen: csr_matrix,
    relevant: csr_matrix,
    *,
    k: Sequence[int] = (20,),
    history: csr_matrix | None = None,
    cold: bool = False,
    head: float = HEAD,
    users: int | None = None,
    memory: int = MEMORY,
) -> Ranked:
    """Rank all items for every user with relevant ones, and measure the lists.

    seen: (U, I) CSR, what is left out of a user's list. relevant: (U, I) CSR, what should be in it. k: lengths of lists. history: (U, I)
    CSR of the training interactions, by default `seen`; users without any count only where `cold`, and its counts are the items'
    popularity. head: share of the items that count as popular. users: of more who count so many are ranked, drawn once. memory: bytes of
    scores held at once; at least one user is ranked at a time.

    Measures are called "recall@20": recall, precision, hit_rate, mrr, ndcg, map; recall and ndcg of `head` and `tail` items alone; the
    share of the catalogue in any list (coverage), and the mean training count of what is recommended (popularity).
    Raises UserError when nobody counts, or a score is NaN.

    >>> from anyview_recommenders.scorer import DotProduct
    >>> scorer = DotProduct(torch.ones(1, 1), torch.tensor([[5.0], [4.0], [3.0], [2.0]]))
    >>> seen, relevant = csr_matrix([[1.0, 0, 0, 0]]), csr_matrix([[0, 0, 1.0, 0]])
    >>> found = rank(scorer, seen, relevant, k=[2]).means()
    >>> found["recall@2"], found["mrr@2"], round(found["ndcg@2"], 4)
    (1.0, 0.5, 0.6309)
    """
    history = seen if history is None else history
    counts = np.diff(relevant.indptr) > 0
    known = np.diff(history.indptr) > 0
    ranked = np.flatnonzero(counts if cold else counts & known)
    if not len(ranked):
        raise UserError(f"none of {len(known)} users has both a history and relevant items, so there is nothing to rank; check the split")
    popularity = np.bincount(history.indices, minlength=relevant.shape[1])
    lists = _Measures(relevant, popularity, sorted(set(k)), head)
    if users is not None and users < len(ranked):
        ranked = np.sort(np.random.default_rng(0).choice(ranked, users, replace=False))
    for chunk in chunks(ranked, relevant.shape[1], memory):
        lists.add(chunk, top(scorer, chunk, seen, max(k))[0])
    return Ranked(ranked, int((counts & ~known).sum()), lists.each(), lists.whole())


def chunks(users: np.ndarray, items: int, memory: int = MEMORY) -> Iterator[np.ndarray]:
    """Users (u,) in parts whose float32 scores of all items fit into `memory` bytes, at least one at a time."""
    size = max(1, memory // (4 * max(1, items)))
    for start in range(0, len(users), size):
        yield users[start : start + size]


def top(scorer: Scorer, users: np.ndarray, seen: csr_matrix | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best unseen items of users (u,), (u, k) int64 positions, and their scores (u, k), best first, of equals the smaller first.

    seen: (U, I) CSR. Where fewer than k items are unseen the rest of a row is -1; lists are no longer than the catalogue.
    Raises UserError when a score is NaN.
    """
    scores = scorer.score(torch.from_numpy(users))
    scores = (scores if scores.dtype == torch.float64 else scores.float()).contiguous()
    bad = int(scores.amax(1).isnan().sum())
    if bad:
        raise UserError(f"{bad} of {len(users)} users have scores that are NaN, and cannot be ranked; look for a diverged run")
    with _hidden(scores, seen, users):
        items, values = best(scores, min(k, scores.shape[1]))
    return torch.where(values == -torch.inf, NOTHING, items).cpu().numpy(), values.cpu().numpy()


@contextmanager
def _hidden(scores: Tensor, seen: csr_matrix | None, users: np.ndarray) -> Iterator[None]:
    """Scores (u, I) of what users have seen are -inf meanwhile: the scores may be the model's own, and a copy would take as much again."""
    if seen is None:
        yield
        return
    rows = seen[users]
    at = torch.from_numpy(np.repeat(np.arange(len(users)), np.diff(rows.indptr))).to(scores.device)
    places = at, torch.from_numpy(rows.indices.astype(np.int64)).to(scores.device)
    own = scores[places]
    scores[places] = -torch.inf
    try:
        yield
    finally:
        scores[places] = own


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best columns of scores (b, I) and their scores, (b, k) each: higher first, then the smaller column; none is NaN.

    They lie in the k blocks of columns whose maxima are best: each of these has a score that ranks before any of another block. So long
    rows are read once, for the maxima, and sorted only where it matters.

    >>> best(torch.tensor([[1.0, 3.0, 3.0, 1.0]]), 3)[0].tolist()
    [[1, 2, 0]]
    """
    count = scores.shape[1] // BLOCK
    if count <= k:
        return _best(scores, k)
    blocks, rest = scores[:, : count * BLOCK].unflatten(1, (count, BLOCK)), scores[:, count * BLOCK :]
    chosen = _best(blocks.amax(2), k)[0].sort(dim=1).values
    row = torch.arange(len(scores), device=scores.device)[:, None]
    places, values = _best(torch.cat([blocks[row, chosen].flatten(1), rest], 1), k)
    within = places < k * BLOCK
    starts = chosen.gather(1, torch.where(within, places // BLOCK, 0)) * BLOCK
    return torch.where(within, starts + places % BLOCK, places + (count - k) * BLOCK), values


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same by sorting."""
    values, items = scores.topk(k, dim=1)
    least = values[:, -1:]
    unsure = ((scores >= least).sum(1) > k).nonzero().flatten()
    if len(unsure):  # of the columns that tie for the last places, topk takes any
        items[unsure] = _first_of_ties(scores[unsure], least[unsure], k)
    items = items.sort(dim=1).values
    values = scores.gather(1, items)
    order = values.argsort(dim=1, descending=True, stable=True)
    return items.gather(1, order), values.gather(1, order)


def _first_of_ties(scores: Tensor, least: Tensor, k: int) -> Tensor:
    """(b, k) columns of scores (b, I): those above least (b, 1), and the first of those that equal it."""
    above, ties = scores > least, scores == least
    places = k - above.sum(1, keepdim=True)
    chosen = above | (ties & (ties.cumsum(1, dtype=torch.int32) <= places))
    return chosen.nonzero()[:, 1].view(len(scores), k)


class _Measures:
    """Adds up what lists are worth, some users at a time."""

    def __init__(self, relevant: csr_matrix, popularity: np.ndarray, k: Sequence[int], head: float) -> None:
        self.relevant, self.popularity, self.k = relevant, popularity, k
        by_popularity = np.lexsort((np.arange(len(popularity)), -popularity))
        self.head = np.zeros(len(popularity), dtype=bool)
        self.head[by_popularity[: round(head * len(popularity))]] = True
        self.shown = {length: np.zeros(len(popularity), dtype=bool) for length in k}
        self.counted = dict.fromkeys(k, 0.0)
        self.listed = dict.fromkeys(k, 0)
        self.parts: list[dict[str, np.ndarray]] = []

    def add(self, users: np.ndarray, lists: np.ndarray) -> None:
        """Measure lists (u, K) of users (u,)."""
        rows = self.relevant[users]
        owner = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
        hits = _members(lists, owner, rows.indices, self.relevant.shape[1])
        found: dict[str, np.ndarray] = {}
        wanted = np.diff(rows.indptr)
        wanted_head = np.bincount(owner, weights=self.head[rows.indices], minlength=len(users)).astype(np.int64)
        in_head = self.head[lists] & (lists != NOTHING)
        for k in self.k:
            found |= {f"{name}@{k}": values for name, values in measures(hits[:, :k], wanted, k).items()}
            for part, mask, count in (("head", in_head, wanted_head), ("tail", ~in_head, wanted - wanted_head)):
                sliced = measures((hits & mask)[:, :k], count, k)
                found |= {f"{name}_{part}@{k}": sliced[name] for name in ("recall", "ndcg")}
            items = lists[:, :k][lists[:, :k] != NOTHING]
            self.shown[k][items] = True
            self.counted[k] += float(self.popularity[items].sum())
            self.listed[k] += len(items)
        self.parts.append(found)

    def each(self) -> dict[str, np.ndarray]:
        """One number a user, by measure."""
        return {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}

    def whole(self) -> dict[str, float]:
        """Measures of all lists together."""
        coverage = {f"coverage@{k}": float(shown.mean()) for k, shown in self.shown.items()}
        return coverage | {f"popularity@{k}": self.counted[k] / max(1, self.listed[k]) for k in self.k}


def measures(hits: np.ndarray, relevant: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """What ranked lists are worth, (u,) float64 each; NaN for users without relevant items.

    hits: (u, K) bool, K <= k, whether the item at each rank is relevant. relevant: (u,) how many items are. k: the length of lists, which
    a small catalogue may not fill.

    >>> values = measures(np.array([[False, True, False, False, True]]), np.array([3]), 5)
    >>> {name: round(float(value[0]), 6) for name, value in values.items()}
    {'recall': 0.666667, 'precision': 0.4, 'hit_rate': 1.0, 'mrr': 0.5, 'ndcg': 0.477624, 'map': 0.3}
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    found = hits.sum(1).astype(np.float64)
    first = np.where(found > 0, hits.argmax(1) + 1.0, np.inf)
    gain = 1 / np.log2(np.arange(1, k + 1) + 1.0)
    most = np.minimum(k, relevant)
    ideal = np.concatenate([[0.0], np.cumsum(gain)])[most]
    precise = (hits * np.cumsum(hits, 1) / ranks).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {
            "recall": found / relevant,
            "precision": found / k,
            "hit_rate": (found > 0).astype(np.float64),
            "mrr": 1 / first,
            "ndcg": (hits * gain[: hits.shape[1]]).sum(1) / ideal,
            "map": precise / most,
        }
    return {name: np.where(relevant > 0, value, np.nan) for name, value in values.items()}


def _members(lists: np.ndarray, owner: np.ndarray, items: np.ndarray, count: int) -> np.ndarray:
    """(u, K) bool: whether the items of lists (u, K) are among those, items (m,), of the same row, owner (m,) in order."""
    if not len(items):
        return np.zeros(lists.shape, dtype=bool)
    keys = np.sort(owner * count + items)
    asked = np.arange(len(lists))[:, None] * count + lists
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return (keys[place] == asked) & (lists != NOTHING)
