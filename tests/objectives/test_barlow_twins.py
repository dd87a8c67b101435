from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.objectives.barlow_twins import BarlowTwins, barlow_twins_loss, redundancy_floor, standardise
from anyview.testing import check_objective, check_rank_exact

SHAPES = [(6, 10), (8, 8), (20, 5)]


def paper(a: Tensor, b: Tensor, redundancy: float = 0.0051) -> Tensor:
    """The formula, entry by entry."""
    a, b = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (a, b))
    correlation = a.T @ b / len(a)
    eye = torch.eye(len(correlation), dtype=torch.bool)
    return (correlation[eye] - 1).square().sum() + redundancy * correlation[~eye].square().sum()


def rows(shape: tuple[int, int], case: str = "random") -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(*shape, generator=random, dtype=torch.float64)
    b = a + 0.5 * torch.randn(*shape, generator=random, dtype=torch.float64)
    if case == "duplicates":
        a[1], b[1] = a[0], b[0]
    if case == "constant column":
        a[:, 1] = 2.0
    return a.requires_grad_(), b.requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", ["random", "duplicates", "constant column"])
@pytest.mark.parametrize("redundancy", [0.0051, 1.0])
def test_is_the_paper_s_formula(shape: tuple[int, int], case: str, redundancy: float) -> None:
    a, b = rows(shape, case)
    expected = paper(a, b, redundancy)
    found = barlow_twins_loss(a, b, redundancy)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(torch.autograd.grad(found, (a, b)), torch.autograd.grad(expected, (a, b)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_gradcheck(shape: tuple[int, int]) -> None:
    assert torch.autograd.gradcheck(barlow_twins_loss, rows(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_invariances(shape: tuple[int, int]) -> None:
    a, b = rows(shape)
    loss = barlow_twins_loss(a, b)
    torch.testing.assert_close(barlow_twins_loss(b, a), loss)
    order = torch.randperm(len(a))
    torch.testing.assert_close(barlow_twins_loss(a[order], b[order]), loss)
    scale = torch.rand(shape[1], dtype=torch.float64) + 0.5
    torch.testing.assert_close(barlow_twins_loss(a * scale + 3, b - 7), loss, rtol=1e-3, atol=0)  # up to eps inside the root


def test_all_rows_equal_gives_the_width() -> None:
    assert float(barlow_twins_loss(torch.ones(8, 5), 2 * torch.ones(8, 5))) == 5.0


def test_all_columns_equal_gives_the_off_diagonal_in_full() -> None:
    column = torch.randn(400, 1, dtype=torch.float64).expand(-1, 6)
    assert float(barlow_twins_loss(column, column, 0.1)) == pytest.approx(0.1 * 6 * 5, rel=1e-3)


def test_floor_with_fewer_rows_than_columns() -> None:
    """An equal-norm tight frame of 16 columns in 7 dimensions has as little redundancy as 7 dimensions allow."""
    floor = redundancy_floor(8, 16)
    hadamard = torch.tensor([[1.0]], dtype=torch.float64)
    for _ in range(4):
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    frame = hadamard[1:8]  # 7 orthogonal rows, 16 columns of equal norm
    rows = torch.cat([frame, -frame])
    found = barlow_twins_loss(rows, rows, 1.0)
    assert float(found) == pytest.approx(floor, rel=1e-3)


@pytest.mark.parametrize(("width", "floor"), [(2048, 73.4), (8192, 1300.4)])
def test_floor_of_published_widths_at_256_rows(width: int, floor: float) -> None:
    assert 0.0051 * redundancy_floor(256, width) == pytest.approx(floor, abs=0.05)


def test_no_floor_with_more_rows_than_columns() -> None:
    assert redundancy_floor(257, 256) == 0.0
    assert redundancy_floor(1, 256) == 0.0  # and no diagonal of 1


def test_deviations_are_biased() -> None:
    """With unbiased ones the diagonal of identical views would be (M - 1)/M, and the loss above 0."""
    a = torch.randn(10, 1, dtype=torch.float64)
    torch.testing.assert_close(standardise(a, eps=0.0).square().sum(), torch.tensor(10.0, dtype=torch.float64))


@pytest.mark.parametrize("value", [0.0, 2.0, 0.1, 1000.3])
def test_constant_columns_become_nought(value: float) -> None:
    assert float(standardise(torch.full((7, 3), value)).abs().max()) <= 2e-5 * max(1.0, value)


def test_identical_whitened_views_have_no_loss() -> None:
    z = torch.linalg.qr(torch.randn(50, 6, dtype=torch.float64)).Q
    z = torch.linalg.qr(z - z.mean(0)).Q * 50**0.5
    assert float(barlow_twins_loss(z, z)) < 1e-8


def test_one_row_is_finite() -> None:
    a = torch.randn(1, 4, requires_grad=True)
    loss = barlow_twins_loss(a, torch.randn(1, 4))
    loss.backward()
    assert float(loss.detach()) == 4.0
    assert bool(a.grad.isfinite().all())


def test_float32_is_near_float64() -> None:
    a, b = rows((64, 512))
    exact = torch.autograd.grad(barlow_twins_loss(a, b), a)[0]
    low = a.detach().float().requires_grad_()
    loss = barlow_twins_loss(low, b.float())
    assert float(loss.detach()) == pytest.approx(float(barlow_twins_loss(a, b).detach()), rel=1e-6)
    torch.testing.assert_close(torch.autograd.grad(loss, low)[0].double(), exact, rtol=1e-3, atol=1e-5 * float(exact.abs().max()))


def test_is_taken_in_full_precision_under_autocast() -> None:
    a, b = (z.detach().float() for z in rows((20, 30)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = barlow_twins_loss(a, b)
        assert barlow_twins_loss(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert torch.equal(inside, barlow_twins_loss(a, b))


def test_objective_keeps_the_contract() -> None:
    check_objective(partial(BarlowTwins, width=16))


@pytest.mark.parametrize("width", [4, 24])  # fewer and more columns than rows
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(width: int, ranks: int, rows: int) -> None:
    check_rank_exact(partial(BarlowTwins, width=width), ranks=ranks, rows=rows)


def test_ranks_are_exact_in_float32() -> None:
    check_rank_exact(partial(BarlowTwins, width=16), rows=32, steps=1, tolerance=1e-5, dtype=torch.float32)
