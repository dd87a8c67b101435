from __future__ import annotations

import pytest
import torch

from anyview.sparse import csr_product


def sparse_rows(kind: torch.dtype, rows: int, columns: int) -> torch.Tensor:
    dense = torch.randn(rows, columns, dtype=kind)
    return dense * (torch.rand(rows, columns) < 0.3)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 7, 64])
def test_product_is_the_dense_one(kind: torch.dtype, width: int) -> None:
    matrix, rows = sparse_rows(kind, 9, 13), torch.randn(width, 13, dtype=kind).t()  # neither contiguous nor square
    torch.testing.assert_close(csr_product(matrix.to_sparse_csr(), rows), matrix @ rows)


def test_indices_may_be_of_32_bits() -> None:
    matrix, rows = sparse_rows(torch.float32, 6, 5).to_sparse_csr(), torch.randn(5, 3)
    short = torch.sparse_csr_tensor(matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values(), matrix.shape)
    assert torch.equal(csr_product(short, rows), csr_product(matrix, rows))


@pytest.mark.parametrize(("height", "length"), [(0, 5), (3, 0), (4, 5)])
def test_rows_without_entries_are_zero(height: int, length: int) -> None:
    matrix = torch.zeros(height, length).to_sparse_csr()
    assert torch.equal(csr_product(matrix, torch.randn(length, 2)), torch.zeros(height, 2))
