from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from anyview.objectives.cosines import cosines


@pytest.mark.parametrize("shape", [(6, 4), (1, 3), (5, 1), (3, 40), (0, 4)])
def test_is_the_product_over_both_lengths(shape: tuple[int, int]) -> None:
    rows = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    fixed = 5 * torch.randn(*shape, dtype=torch.float64)
    found, expected = cosines(rows, fixed), cosine_similarity(rows, fixed, dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    weights = torch.randn(shape[0], dtype=torch.float64)
    (slope,), (wanted,) = (torch.autograd.grad((weights * each).sum(), rows) for each in (found, expected))
    torch.testing.assert_close(slope, wanted, rtol=1e-10, atol=1e-14)


def test_gradcheck() -> None:
    fixed = torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda rows: cosines(rows, fixed), torch.randn(3, 4, dtype=torch.float64, requires_grad=True))


def test_has_no_gradient_to_the_fixed_rows() -> None:
    rows, fixed = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    cosines(rows, fixed).sum().backward()
    assert fixed.grad is None
    assert float(rows.grad.abs().max()) > 0
    assert not cosines(rows.detach(), fixed).requires_grad


def test_gradient_is_at_right_angles_to_the_row_whatever_its_length() -> None:
    rows, fixed = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.randn(4, 3, dtype=torch.float64)
    (slope,) = torch.autograd.grad(cosines(rows, fixed).sum(), rows)
    torch.testing.assert_close((slope * rows).sum(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-14)
    (shorter,) = torch.autograd.grad(cosines(10 * rows, fixed).sum(), rows)
    torch.testing.assert_close(shorter, slope)


@pytest.mark.parametrize("zero", ["rows", "fixed", "both"])
def test_rows_of_zeros_are_finite(zero: str) -> None:
    rows, fixed = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
    if zero == "fixed":
        rows = torch.ones(2, 3, requires_grad=True)
    if zero == "rows":
        fixed = torch.ones(2, 3)
    found = cosines(rows, fixed)
    found.sum().backward()
    assert found.tolist() == [0.0, 0.0]
    assert bool(rows.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_single(dtype: torch.dtype) -> None:
    rows, fixed = (torch.randn(5, 7).to(dtype) for _ in range(2))
    found = cosines(rows.requires_grad_(), fixed)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, cosines(rows.float(), fixed.float()))
    found.sum().backward()
    assert rows.grad.dtype == dtype
