"""Sparse matrices of ones."""

from __future__ import annotations

from typing import TypeVar

from scipy.sparse import csr_array, csr_matrix

Matrix = TypeVar("Matrix", csr_matrix, csr_array)


def of_ones(matrix: Matrix) -> Matrix:
    """The same CSR matrix, changed in place: ones where it has entries, each place once, the columns of a row in order.

    >>> of_ones(csr_matrix(([2.0, 3.0], ([0, 0], [1, 1])), shape=(1, 2))).toarray().tolist()
    [[0.0, 1.0]]
    """
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
