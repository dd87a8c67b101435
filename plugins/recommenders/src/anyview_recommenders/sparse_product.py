"""Products of sparse matrices with dense rows, whose gradients are products with the transpose.

A matrix is kept in CSR beside its transpose, also in CSR, so that neither pass has to make one; a symmetric matrix is its own. Where what
stands in a matrix changes, as attention does, a pattern keeps where it stands, and the entries have gradients too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from anyview.objectives.gram import full
from anyview.sparse import csr_product


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
        starts, columns, values = (self.get_buffer(f"{side}_{name}") for name in ("starts", "columns", "values"))
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


class SparsePattern(nn.Module):
    """Where the T entries of a sparse matrix (M, N) stand; what they are comes with each product, and has a gradient.

    matrix: (M, N) SciPy sparse matrix without duplicate entries, of which only the places are read. Entries are numbered row by row, in a
    row by columns. rows, columns: (T,) int64, where they stand. No product makes a tensor (T, D).

    >>> pattern = SparsePattern(sparse.csr_array(np.array([[0.0, 2.0, 3.0], [1.0, 0.0, 0.0]])))
    >>> pattern(torch.tensor([0.5, 0.5, 1.0]), torch.tensor([[1.0], [2.0], [4.0]])).tolist()
    [[3.0], [1.0]]
    >>> pattern.products(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [2.0], [4.0]])).tolist()
    [2.0, 4.0, 2.0]
    """

    starts: Tensor
    columns: Tensor
    rows: Tensor
    back_starts: Tensor
    back_columns: Tensor
    order: Tensor

    def __init__(self, matrix: sparse.csr_matrix | sparse.csr_array) -> None:
        super().__init__()
        own = sparse.csr_array(matrix).sorted_indices()
        numbers = sparse.csr_array((np.arange(own.nnz), own.indices, own.indptr), shape=own.shape).tocsc()
        self.shape = own.shape
        rows = np.repeat(np.arange(own.shape[0]), np.diff(own.indptr))
        parts = {"starts": own.indptr, "columns": own.indices, "rows": rows}
        parts |= {"back_starts": numbers.indptr, "back_columns": numbers.indices, "order": numbers.data}
        for name, part in parts.items():
            self.register_buffer(name, torch.from_numpy(part.astype(np.int64)), persistent=False)

    def __len__(self) -> int:
        return self.columns.numel()

    def forward(self, entries: Tensor, rows: Tensor) -> Tensor:
        """The matrix of some entries (T,) times rows (N, D): (M, D), with gradient to both."""
        product: Tensor = _Weighted.apply(self, False, full(entries), full(rows))
        return product

    def back(self, entries: Tensor, rows: Tensor) -> Tensor:
        """The transposed matrix of some entries (T,) times rows (M, D): (N, D), with gradient to both."""
        product: Tensor = _Weighted.apply(self, True, full(entries), full(rows))
        return product

    def products(self, a: Tensor, b: Tensor) -> Tensor:
        """For each entry the inner product of its row of a (M, D) and its column's of b (N, D), (T,), with gradient to both."""
        product: Tensor = _Sampled.apply(self, full(a), full(b))
        return product

    def sums(self, entries: Tensor) -> Tensor:
        """The sums of each row's entries, (M,) of (T,)."""
        return entries.new_zeros(self.shape[0]).index_add(0, self.rows, entries)

    def softmax(self, logits: Tensor, keep: Tensor | None = None) -> Tensor:
        """Entries (T,) that sum to 1 in each row, from logits (T,); keep: (T,) bool, the entries that take part, the others are 0.

        Each row's largest logit is subtracted, so that none is too large. A row of which nothing is kept has zeros.

        >>> pattern = SparsePattern(sparse.csr_array(np.array([[1.0, 1.0], [0.0, 1.0]])))
        >>> pattern.softmax(torch.tensor([1000.0, 1000.0, -1000.0])).tolist()
        [0.5, 0.5, 1.0]
        """
        logits = full(logits) if keep is None else full(logits).masked_fill(~keep, -torch.inf)
        with torch.no_grad():
            highest = torch.segment_reduce(logits, "max", offsets=self.starts, unsafe=True)
            highest = highest.masked_fill(highest == -torch.inf, 0.0)
        powers = (logits - highest.index_select(0, self.rows)).exp()
        return powers / self.sums(powers).clamp(min=1.0).index_select(0, self.rows)  # a row with entries has a power of 1

    def shares(self, keep: Tensor | None = None) -> Tensor:
        """Entries (T,) that are equal and sum to 1 in each row, over those that are kept, (T,) bool; the others are 0.

        >>> pattern = SparsePattern(sparse.csr_array(np.array([[1.0, 1.0], [0.0, 1.0]])))
        >>> pattern.shares().tolist(), pattern.shares(torch.tensor([True, False, False])).tolist()
        ([0.5, 0.5, 1.0], [1.0, 0.0, 0.0])
        """
        kind = torch.get_default_dtype()
        ones = torch.ones(len(self), dtype=kind, device=self.rows.device) if keep is None else keep.to(kind)
        return ones / self.sums(ones).clamp(min=1.0).index_select(0, self.rows)

    def matrix(self, entries: Tensor, *, back: bool = False) -> Tensor:
        """The matrix of some entries (T,) as a torch CSR tensor, or its transpose."""
        if back:
            entries, shape = entries.index_select(0, self.order), self.shape[::-1]
            return torch.sparse_csr_tensor(self.back_starts, self.back_columns, entries, shape, check_invariants=False)
        return torch.sparse_csr_tensor(self.starts, self.columns, entries, self.shape, check_invariants=False)


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
        return csr_product(matrix, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _Product.apply(ctx.transposed, ctx.matrix, gradients[0])


class _Weighted(torch.autograd.Function):
    """A pattern's matrix, or its transpose, times rows."""

    @staticmethod
    def forward(ctx: Any, pattern: SparsePattern, back: bool, entries: Tensor, rows: Tensor) -> Tensor:
        ctx.pattern, ctx.back = pattern, back
        ctx.save_for_backward(entries, rows)
        return csr_product(pattern.matrix(entries, back=back), rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor | None, Tensor | None]:
        entries, rows = ctx.saved_tensors
        pair = (rows, gradients[0]) if ctx.back else (gradients[0], rows)
        of_entries = _Sampled.apply(ctx.pattern, *pair) if ctx.needs_input_grad[2] else None
        return (
            None,
            None,
            of_entries,
            _Weighted.apply(ctx.pattern, not ctx.back, entries, gradients[0]) if ctx.needs_input_grad[3] else None,
        )


class _Sampled(torch.autograd.Function):
    """The inner products at a pattern's entries."""

    @staticmethod
    def forward(ctx: Any, pattern: SparsePattern, a: Tensor, b: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(a, b)
        with torch.autocast(a.device.type, enabled=False):
            return torch.sparse.sampled_addmm(pattern.matrix(a.new_zeros(len(pattern))), a.contiguous(), b.t(), beta=0.0).values()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return None, _Weighted.apply(ctx.pattern, False, gradients[0], b), _Weighted.apply(ctx.pattern, True, gradients[0], a)
