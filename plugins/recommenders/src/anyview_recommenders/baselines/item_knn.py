"""Item-based nearest neighbours: items that the same users have, by shrunk cosines.

Sarwar, Karypis, Konstan, Riedl. Item-based Collaborative Filtering Recommendation Algorithms. WWW 2001. Shrinkage: Bell, Koren. Scalable
Collaborative Filtering with Jointly Derived Neighborhood Interpolation Weights. ICDM 2007.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from anyview.errors import UserError

BLOCK_BYTES = 2**26
"""The most that a dense block of items' similarities takes, 64 MiB."""


class ItemWeights:
    """Scores R[users] W: histories: (U, I) CSR; weights: (I, I) sparse or dense, column j from the history to the score of item j."""

    def __init__(self, histories: sparse.csr_array, weights: sparse.csr_array | np.ndarray) -> None:
        self.histories, self.weights = histories, weights

    def score(self, users: Tensor) -> Tensor:
        """(b, I) float32 for users (b,)."""
        scores = self.histories[users.numpy(force=True)] @ self.weights
        return torch.from_numpy(np.asarray(scores.toarray() if sparse.issparse(scores) else scores, dtype=np.float32))


def item_knn(matrix: sparse.csr_matrix | sparse.csr_array, neighbours: int = 100, shrinkage: float = 10.0) -> ItemWeights:
    """Scores an item by the similarities to it of the items that a user has, of which it keeps its nearest.

    matrix: (U, I). With C = RᵀR the similarity of i to j is C_ij / (|r_i| |r_j| + shrinkage + 1e-6), and 0 to itself. Each item j keeps
    the `neighbours` most similar to it, of equals the first. Dense memory holds a block of items at a time. Raises UserError for fewer
    than one neighbour and for a shrinkage below 0.

    >>> scorer = item_knn(sparse.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1]])), neighbours=1, shrinkage=0)
    >>> scorer.score(torch.tensor([0]))
    tensor([[0.8165, 0.8165, 0.5774]])
    """
    if neighbours < 1 or shrinkage < 0:
        raise UserError(f"item_knn needs a neighbour and no negative shrinkage, {neighbours} and {shrinkage} were given; try 100 and 10")
    histories = sparse.csr_array(matrix, dtype=np.float64)
    by_item = histories.T.tocsr()
    lengths = np.sqrt(np.diff(by_item.indptr))
    step = max(1, BLOCK_BYTES // (8 * len(lengths)))
    blocks = [slice(start, min(start + step, len(lengths))) for start in range(0, len(lengths), step)]
    near = [_nearest(by_item, histories, lengths, own, neighbours, shrinkage) for own in blocks]
    return ItemWeights(histories, sparse.csr_array(sparse.vstack(near).T))


def _nearest(
    by_item: sparse.csr_array, histories: sparse.csr_array, lengths: np.ndarray, own: slice, neighbours: int, shrinkage: float
) -> sparse.csr_array:
    """The similarities of the items `own` to all, without all but their nearest: (n, I)."""
    similar = (by_item[own] @ histories).toarray()
    similar /= lengths[own, None] * lengths + shrinkage + 1e-6
    places = np.arange(own.stop - own.start)
    similar[places, places + own.start] = 0.0
    if neighbours < similar.shape[1]:
        least = np.partition(similar, -neighbours, axis=1)[:, -neighbours, None]
        above, level = similar > least, similar == least
        room = neighbours - above.sum(1, keepdims=True)
        similar *= above | (level & (level.cumsum(1) <= room))
    return sparse.csr_array(similar)
