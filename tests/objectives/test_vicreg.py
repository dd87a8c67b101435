from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.objectives.vicreg import VICReg, covariance_term, spread_terms, variance_term, vicreg_loss, vicreg_terms
from anyview.testing import check_objective, check_rank_exact

SHAPES = [(6, 10), (8, 8), (20, 5)]


def paper(a: Tensor, b: Tensor) -> Tensor:
    """25 MSE + 25 mean of both views' hinges + off-diagonal covariances of both views over D."""

    def hinge(z: Tensor) -> Tensor:
        return torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()

    def off(z: Tensor) -> Tensor:
        covariance = torch.cov(z.T)
        return covariance[~torch.eye(z.shape[1], dtype=torch.bool)].square().sum() / z.shape[1]

    return 25 * (a - b).square().mean() + 25 * (hinge(a) + hinge(b)) / 2 + off(a) + off(b)


def rows(shape: tuple[int, int], case: str = "random") -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    a = 0.7 * torch.randn(*shape, generator=random, dtype=torch.float64)
    b = a + 0.5 * torch.randn(*shape, generator=random, dtype=torch.float64)
    if case == "duplicates":
        a[1], b[1] = a[0], b[0]
    if case == "constant column":
        a[:, 1] = 2.0
    return a.requires_grad_(), b.requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", ["random", "duplicates", "constant column"])
def test_is_the_paper_s_formula(shape: tuple[int, int], case: str) -> None:
    a, b = rows(shape, case)
    expected, found = paper(a, b), vicreg_loss(a, b)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(torch.autograd.grad(found, (a, b)), torch.autograd.grad(expected, (a, b)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_gradcheck(shape: tuple[int, int]) -> None:
    assert torch.autograd.gradcheck(vicreg_loss, rows(shape))


def test_weights_multiply_their_terms() -> None:
    a, b = rows((20, 5))
    terms = vicreg_terms(a, b)
    assert list(terms) == ["invariance", "variance", "covariance"]
    for position, term in enumerate(terms.values()):
        weights = [0.0, 0.0, 0.0]
        weights[position] = 3.0
        torch.testing.assert_close(vicreg_loss(a, b, *weights), 3 * term)


@pytest.mark.parametrize("shape", SHAPES)
def test_terms_alone_and_together(shape: tuple[int, int]) -> None:
    a, b = rows(shape)
    terms = vicreg_terms(a, b)
    torch.testing.assert_close((variance_term(a) + variance_term(b)) / 2, terms["variance"], rtol=1e-12, atol=0)
    torch.testing.assert_close(covariance_term(a) + covariance_term(b), terms["covariance"], rtol=1e-12, atol=0)
    for part, alone in zip(spread_terms(torch.stack([a, b])), (terms["variance"], terms["covariance"] / 2), strict=True):
        torch.testing.assert_close(part, alone, rtol=1e-12, atol=0)  # a mean over what comes before the rows


def test_the_variance_of_both_views_is_averaged_not_summed() -> None:
    """Public libraries differ in this factor; constant rows tell which one it is."""
    assert float(vicreg_loss(torch.zeros(4, 3), torch.zeros(4, 3))) == pytest.approx(25 * (1 - 1e-4**0.5))


@pytest.mark.parametrize("shape", SHAPES)
def test_invariances(shape: tuple[int, int]) -> None:
    a, b = rows(shape)
    loss = vicreg_loss(a, b)
    torch.testing.assert_close(vicreg_loss(b, a), loss)
    order = torch.randperm(len(a))
    torch.testing.assert_close(vicreg_loss(a[order], b[order]), loss)
    torch.testing.assert_close(vicreg_loss(a + 3, b + 3), loss)


def test_all_rows_equal_gives_the_variance_s_line_and_finite_gradients() -> None:
    a = torch.ones(8, 4, dtype=torch.float64, requires_grad=True)
    loss = vicreg_loss(a, a)
    assert float(loss.detach()) == pytest.approx(24.75, abs=1e-12)
    loss.backward()
    assert bool(a.grad.isfinite().all())


def test_white_identical_views_have_no_loss() -> None:
    z = torch.linalg.qr(torch.randn(50, 6, dtype=torch.float64)).Q
    z = torch.linalg.qr(z - z.mean(0)).Q * 49**0.5
    assert float(vicreg_loss(z, z)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("shape", [(64, 256), (256, 64)])
def test_covariance_survives_a_column_that_dwarfs_the_others(shape: tuple[int, int]) -> None:
    """The sum of squared variances nearly equals what it is subtracted from; both are summed in float64."""
    z = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[:, 0] *= 100
    exact = float(covariance_term(z))
    assert float(covariance_term(z.float())) == pytest.approx(exact, rel=1e-4)
    assert exact > 0


def test_one_row_has_no_variance() -> None:
    with pytest.raises(ValueError, match="at least two rows"):
        vicreg_loss(torch.randn(1, 4), torch.randn(1, 4))


def test_is_taken_in_full_precision_under_autocast() -> None:
    a, b = (z.detach().float() for z in rows((20, 30)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = vicreg_loss(a, b)
        assert vicreg_loss(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert torch.equal(inside, vicreg_loss(a, b))


def test_objective_keeps_the_contract() -> None:
    check_objective(partial(VICReg, width=16))


@pytest.mark.parametrize("width", [4, 24])  # fewer and more columns than rows
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(width: int, ranks: int, rows: int) -> None:
    check_rank_exact(partial(VICReg, width=width), ranks=ranks, rows=rows)


def test_ranks_are_exact_in_float32() -> None:
    check_rank_exact(partial(VICReg, width=16), rows=32, steps=1, tolerance=1e-5, dtype=torch.float32)
