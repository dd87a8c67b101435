"""EASE: a linear map from histories to scores, in closed form.

Steck. Embarrassingly Shallow Autoencoders for Sparse Data. WWW 2019, arXiv 1905.03375.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import linalg, sparse

from anyview.errors import UserError
from anyview_recommenders.baselines.item_knn import ItemWeights

MOST_ITEMS = 20_000


def ease(matrix: sparse.csr_matrix | sparse.csr_array, regularisation: float = 100.0) -> ItemWeights:
    """Scores R B, where column j of B (I, I) rebuilds item j from all others by ridge regression, B_jj = 0.

    matrix: (U, I). regularisation: lambda, above 0. With P = (RᵀR + lambda)⁻¹, B_ij = -P_ij / P_jj, in float64: 8 I² bytes, and twice
    that while it is made. Raises UserError for more than 20,000 items and for a regularisation that is not above 0.

    >>> scorer = ease(sparse.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])), regularisation=1.0)
    >>> scorer.weights.round(3) + 0.0
    array([[0.   , 0.667, 0.   ],
           [0.667, 0.   , 0.   ],
           [0.   , 0.   , 0.   ]])
    """
    items = matrix.shape[1]
    if items > MOST_ITEMS:
        asked = f"EASE keeps a dense matrix of items, and {items:,} items take {8 * items**2 / 2**30:.0f} GiB and twice that to make it"
        raise UserError(f"{asked}; choose item_knn or als, or filter to at most {MOST_ITEMS:,} items")
    if regularisation <= 0:
        raise UserError(f"EASE needs a regularisation above 0, {regularisation} was given; try 50 to 1000")
    histories = sparse.csr_array(matrix, dtype=np.float64)
    gram = (histories.T @ histories).toarray()
    gram[np.diag_indices(items)] += regularisation
    factor = linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    weights = _inverse(factor)
    weights /= -weights.diagonal()
    np.fill_diagonal(weights, 0.0)
    return ItemWeights(histories, weights)


def _inverse(factor: np.ndarray) -> np.ndarray:
    """The inverse of a matrix by its lower Cholesky factor, both triangles."""
    inverse: np.ndarray = torch.cholesky_inverse(torch.from_numpy(factor)).numpy()
    return inverse
