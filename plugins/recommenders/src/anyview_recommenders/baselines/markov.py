"""First-order Markov: what most often came next after a user's last item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

TIE = 1e-6
"""Weight of an item's count, which orders items that equally many came to."""


class Transitions:
    """Scores by the last item; counts: (I + 1, I) from an item to the next, the last row for users without one; last: (n,) item or I."""

    def __init__(self, counts: sparse.csr_array, popularity: np.ndarray, last: np.ndarray) -> None:
        self.counts, self.popularity, self.last = counts, popularity, last

    def score(self, users: Tensor) -> Tensor:
        """(b, I) float64 for users (b,), numbered as the sequences are."""
        return torch.from_numpy(self.counts[self.last[users.numpy(force=True)]].toarray() + TIE * self.popularity)


def markov(sequences: Sequence[Sequence[int] | np.ndarray], items: int | None = None) -> Transitions:
    """Scores an item by how often it came right after the user's last one, of equals the more frequent first.

    sequences: each user's items, in order of time. items: I, by default one more than the largest. A user without items is scored by how
    frequent items are.

    >>> scorer = markov([[0, 1, 2], [0, 1], [2, 0]])
    >>> scorer.score(torch.tensor([2, 0])).round().tolist()
    [[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]
    """
    rows = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
    whole = np.concatenate([*rows, np.empty(0, dtype=np.int64)])
    count = int(whole.max(initial=-1)) + 1 if items is None else items
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    last = np.array([row[-1] if len(row) else count for row in rows], dtype=np.int64)
    return transitions(owners, whole, last, count)


def transitions(owners: np.ndarray, items: np.ndarray, last: np.ndarray, count: int) -> Transitions:
    """The same, of interactions in order: users (n,), ascending, and items (n,); last: (U,) what each is scored after, or count."""
    follows = owners[1:] == owners[:-1]
    pairs = items[:-1][follows], items[1:][follows]
    counts = sparse.csr_array((np.ones(len(pairs[0])), pairs), shape=(count + 1, count))
    return Transitions(counts, np.bincount(items, minlength=count).astype(np.float64), last)
