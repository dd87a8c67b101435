"""Products of fixed sparse matrices with dense rows, whose gradients are products with the transpose.

A matrix is kept in CSR beside its transpose, also in CSR, so that neither pass has to make one; a symmetric matrix is its own.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from anyview.objectives.gram import full

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")  # once per process, and nothing to be done


def sparse_product(matrix: Tensor, transposed: Tensor, rows: Tensor) -> Tensor:
    """A sparse matrix times rows (N, D), with gradient to the rows, as often as it is taken: (M, D).

    matrix: (M, N) torch CSR tensor. transposed: (N, M), the same as CSR. Rows in half precision are taken as float32.

    >>> matrix = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    >>> sparse_product(matrix.to_sparse_csr(), matrix.T.to_sparse_csr(), torch.tensor([[1.0], [2.0], [3.0]])).tolist()
    [[4.0], [1.0]]
    """
    product: Tensor = _Product.apply(matrix, transposed, full(rows))
    return product


class SparseMatrix(nn.Module):
    """A fixed sparse matrix (M, N) beside its transpose, where the module that holds it is; none of it is a weight, and nothing is saved.

    matrix: (M, N) SciPy sparse matrix, taken in torch's default type. Rows without entries give zeros.

    >>> matrix = SparseMatrix(sparse.csr_array(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])))
    >>> matrix(torch.ones(3, 1)).tolist(), matrix.back(torch.ones(2, 1)).tolist()
    ([[2.0], [1.0]], [[1.0], [2.0], [0.0]])
    """

    def __init__(self, matrix: sparse.csr_matrix | sparse.csr_array) -> None:
        super().__init__()
        self.shape = matrix.shape
        for side, own in (("there", sparse.csr_array(matrix)), ("back", sparse.csr_array(matrix.T))):
            parts = {"starts": own.indptr.astype(np.int64), "columns": own.indices.astype(np.int64), "values": own.data}
            for name, part in parts.items():
                tensor = torch.from_numpy(part).to(torch.get_default_dtype()) if name == "values" else torch.from_numpy(part)
                self.register_buffer(f"{side}_{name}", tensor, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """The matrix times rows (N, D): (M, D), with gradient to the rows."""
        return sparse_product(self._side("there"), self._side("back"), rows)

    def back(self, rows: Tensor) -> Tensor:
        """The transposed matrix times rows (M, D): (N, D), with gradient to the rows."""
        return sparse_product(self._side("back"), self._side("there"), rows)

    def _side(self, side: str) -> Tensor:
        shape = self.shape if side == "there" else self.shape[::-1]
        parts = [self.get_buffer(f"{side}_{name}") for name in ("starts", "columns", "values")]
        return torch.sparse_csr_tensor(*parts, shape, check_invariants=False)


def row_normalised(matrix: sparse.csr_matrix | sparse.csr_array) -> sparse.csr_array:
    """A matrix of numbers that are not negative with rows that sum to 1; rows of zeros stay.

    >>> row_normalised(sparse.csr_array(np.array([[1.0, 3.0], [0.0, 0.0]]))).toarray().tolist()
    [[0.25, 0.75], [0.0, 0.0]]
    """
    own = sparse.csr_array(matrix, dtype=np.float64)
    sums = np.asarray(own.sum(1)).ravel()
    return sparse.csr_array(sparse.diags_array(1 / np.where(sums > 0, sums, 1.0)) @ own)


def degree_normalised(matrix: sparse.csr_matrix | sparse.csr_array) -> sparse.csr_array:
    """D^-1/2 A C^-1/2 of a matrix A (M, N) of ones, D and C the degrees of its rows and columns; rows and columns of zeros stay.

    >>> degree_normalised(sparse.csr_array(np.array([[1.0, 1.0], [0.0, 1.0]]))).toarray().round(3).tolist()
    [[0.707, 0.5], [0.0, 0.707]]
    """
    own = sparse.csr_array(matrix, dtype=np.float64)
    rows, columns = (1 / np.sqrt(np.maximum(np.asarray(own.sum(axis)).ravel(), 1.0)) for axis in (1, 0))
    return sparse.csr_array(sparse.diags_array(rows) @ own @ sparse.diags_array(columns))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, rows: Tensor) -> Tensor:
        ctx.matrix, ctx.transposed = matrix, transposed
        return _product(matrix, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _Product.apply(ctx.transposed, ctx.matrix, gradients[0])


def _product(matrix: Tensor, rows: Tensor) -> Tensor:
    if rows.is_cuda:
        with torch.autocast("cuda", enabled=False):
            return matrix @ rows
    return torch.sparse.mm(matrix, rows.contiguous(), reduce="sum")  # the general product needs a build of torch with MKL
