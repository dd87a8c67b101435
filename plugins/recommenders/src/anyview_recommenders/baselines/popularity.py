"""Popularity: everybody is recommended what most have."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


class Popularity:
    """Scores every item by a number that is the same for all users; counts: (I,)."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts

    def score(self, users: Tensor) -> Tensor:
        """(b, I) for users (b,)."""
        return self.counts.expand(len(users), -1)


def popularity(matrix: sparse.csr_matrix | sparse.csr_array) -> Popularity:
    """Scores by how many users each item has in the interaction matrix (U, I).

    >>> popularity(sparse.csr_array(np.array([[1, 0, 1], [0, 0, 1]]))).score(torch.tensor([1])).tolist()
    [[1.0, 0.0, 2.0]]
    """
    return Popularity(torch.from_numpy(np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.float32)))
