"""Items that a user has not interacted with, or has, drawn uniformly, a whole batch at once and without a second try.

Rendle, Freudenthaler, Gantner, Schmidt-Thieme. BPR: Bayesian Personalized Ranking from Implicit Feedback. UAI 2009, arXiv 1205.2618.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


@dataclass(slots=True)
class Unseen:
    """The items that each of U users has not interacted with, without a list of them.

    items: I. starts: (U + 1,) int64, where a user's interactions begin. keys: (E,) int64 in ascending order: for the k-th of user u's
    items i in ascending order u·I + i - k, where i - k is how many items below i the user has not interacted with.
    """

    items: int
    starts: Tensor
    keys: Tensor

    @classmethod
    def of(cls, matrix: sparse.csr_matrix | sparse.csr_array) -> Unseen:
        """Those of an interaction matrix (U, I) without duplicate entries."""
        matrix = matrix.sorted_indices()
        starts = matrix.indptr.astype(np.int64)
        counts = np.diff(starts)
        users = np.repeat(np.arange(len(counts)), counts)
        below = matrix.indices - (np.arange(len(users)) - starts[users])
        return cls(matrix.shape[1], torch.from_numpy(starts), torch.from_numpy(users * matrix.shape[1] + below))

    def to(self, device: torch.device) -> Unseen:
        """The same on a device; itself where it is there."""
        return self if self.keys.device == device else replace(self, starts=self.starts.to(device), keys=self.keys.to(device))

    def counts(self, users: Tensor) -> Tensor:
        """How many items each of the users (b,) has not interacted with, (b,)."""
        return self.items - (self.starts[users + 1] - self.starts[users])

    def pick(self, users: Tensor, shares: Tensor) -> Tensor:
        """Of each user's unseen items, in ascending order, the one at a share of the way: users (b,), shares (b,) in [0, 1), to (b,).

        A user must have one; see `counts`.

        >>> unseen = Unseen.of(sparse.csr_array(np.array([[1, 0, 1, 0, 0]])))
        >>> unseen.pick(torch.tensor([0, 0, 0]), torch.tensor([0.0, 0.5, 0.9])).tolist()
        [1, 3, 4]
        """
        counts = self.counts(users)
        ranks = torch.minimum((shares.double() * counts).long(), counts - 1)
        passed = torch.searchsorted(self.keys, users * self.items + ranks, right=True) - self.starts[users]
        return ranks + passed


@dataclass(slots=True)
class Seen:
    """The items that each of U users has interacted with. starts: (U + 1,) int64, where a user's begin among items (E,) int64."""

    starts: Tensor
    items: Tensor

    @classmethod
    def of(cls, matrix: sparse.csr_matrix | sparse.csr_array) -> Seen:
        """Those of an interaction matrix (U, I)."""
        return cls(*(torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices)))

    def to(self, device: torch.device) -> Seen:
        """The same on a device; itself where it is there."""
        return self if self.items.device == device else Seen(self.starts.to(device), self.items.to(device))

    def counts(self, users: Tensor) -> Tensor:
        """How many items each of the users (b,) has interacted with, (b,)."""
        return self.starts[users + 1] - self.starts[users]

    def pick(self, users: Tensor, shares: Tensor) -> Tensor:
        """Of each user's items the one at a share of the way: users (b,), shares (b,) in [0, 1), to (b,); some item where there is none.

        >>> seen = Seen.of(sparse.csr_array(np.array([[1, 0, 1], [0, 1, 0]])))
        >>> seen.pick(torch.tensor([0, 0, 1]), torch.tensor([0.0, 0.5, 0.9])).tolist()
        [0, 2, 1]
        """
        counts = self.counts(users)
        ranks = torch.minimum((shares.double() * counts).long(), (counts - 1).clamp(min=0))
        return self.items[(self.starts[users] + ranks).clamp(max=len(self.items) - 1)]


def sample_negatives(users: Tensor, unseen: Unseen, generator: torch.Generator) -> Tensor:
    """For each user (b,) an item drawn uniformly from those that the user has not interacted with, (b,) int64; -1 where there is none.

    generator: on the users' device. Exact after one binary search in the interactions, however many items a user has. Users who have
    everything are told in a warning; who trains on the answer leaves their rows out.

    >>> unseen = Unseen.of(sparse.csr_array(np.array([[1, 0, 1], [1, 1, 0]])))
    >>> sample_negatives(torch.tensor([0, 1, 0]), unseen, torch.Generator().manual_seed(0)).tolist()
    [1, 2, 1]
    """
    shares = torch.rand(len(users), dtype=torch.float64, generator=generator, device=generator.device)
    none = unseen.counts(users) == 0
    if bool(none.any()):
        count = len(users[none].unique())
        warnings.warn(f"{count} user{'s have' if count > 1 else ' has'} every item and no negative; left out", stacklevel=2)
        return unseen.pick(users, shares).masked_fill(none, -1)
    return unseen.pick(users, shares)
