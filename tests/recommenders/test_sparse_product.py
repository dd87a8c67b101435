"""Products with matrices whose entries have gradients, and shares of rows, against the dense ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import sparse

from anyview_recommenders.sparse_product import SparsePattern


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pattern() -> SparsePattern:
    """Six rows and five columns; row 2 is empty, and column 3."""
    there = np.random.default_rng(0).random((6, 5)) < 0.5
    there[2], there[:, 3] = False, False
    return SparsePattern(sparse.csr_array(there.astype(np.float64)))


def dense(made: SparsePattern, entries: torch.Tensor) -> torch.Tensor:
    return torch.zeros(made.shape).index_put((made.rows, made.columns), entries)


def test_products_are_the_dense_ones() -> None:
    made = pattern()
    entries, a, b = torch.randn(len(made)), torch.randn(6, 3), torch.randn(5, 3)
    torch.testing.assert_close(made(entries, b), dense(made, entries) @ b)
    torch.testing.assert_close(made.back(entries, a), dense(made, entries).T @ a)
    torch.testing.assert_close(made.products(a, b), (a @ b.T)[made.rows, made.columns])
    torch.testing.assert_close(made.sums(entries), dense(made, entries).sum(1))


def test_gradients_are_those_of_finite_differences() -> None:
    made = pattern()
    entries, a, b = (torch.randn(*shape, requires_grad=True) for shape in ((len(made),), (6, 2), (5, 2)))
    assert torch.autograd.gradcheck(made, (entries, b))
    assert torch.autograd.gradcheck(made.back, (entries, a))
    assert torch.autograd.gradcheck(made.products, (a, b))
    assert torch.autograd.gradcheck(lambda logits: made.softmax(logits, torch.arange(len(made)) % 3 > 0), (entries,))
    assert torch.autograd.gradgradcheck(made, (entries, b))
    assert torch.autograd.gradgradcheck(made.products, (a, b))


def test_shares_sum_to_1_over_what_is_kept_however_large_logits_are() -> None:
    made = pattern()
    keep = torch.arange(len(made)) % 3 > 0
    keep[made.rows == 4] = False
    logits = 1000 * torch.randn(len(made))
    whole = torch.full(made.shape, -torch.inf).index_put((made.rows[keep], made.columns[keep]), logits[keep])
    expected = whole.softmax(1).nan_to_num()[made.rows, made.columns]
    torch.testing.assert_close(made.softmax(logits, keep), expected)
    for shares in (made.softmax(logits), made.shares(), made.softmax(logits, keep), made.shares(keep)):
        rows = dense(made, shares).sum(1)
        assert sorted(set(rows.round(decimals=12).tolist())) == [0.0, 1.0]
    assert not made.shares(keep)[~keep].any()


def test_a_pattern_without_entries_gives_zeros() -> None:
    made = SparsePattern(sparse.csr_array((2, 3)))
    assert not made(made.shares(), torch.ones(3, 2)).any()
    assert made.softmax(made.products(torch.ones(2, 4), torch.ones(3, 4))).shape == (0,)
