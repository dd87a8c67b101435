from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.objectives import contrast
from anyview.objectives.align_uniform import AlignUniform, alignment, uniformity
from anyview.pretrainer import Pretrainer, StepInput
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws

SHAPES = [(6, 10), (8, 8), (11, 5), (2, 3)]


def rows(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, *shape, generator=random, dtype=torch.float64)
    return a.requires_grad_(), b.requires_grad_()


def distance(x: Tensor, y: Tensor) -> Tensor:
    return (x / x.norm() - y / y.norm()).square().sum()


def same_with_gradient(found: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_alignment_is_the_paper_s_formula(shape: tuple[int, int]) -> None:
    a, b = rows(shape)
    same_with_gradient(alignment(a, b), torch.stack([distance(x, y) for x, y in zip(a, b, strict=True)]).mean(), a, b)


@pytest.mark.parametrize("block", [2**25, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_uniformity_is_the_paper_s_formula(shape: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    z = rows(shape)[0]
    pairs = [torch.exp(-2 * distance(z[i], z[j])) for i in range(len(z)) for j in range(i)]
    same_with_gradient(uniformity(z), torch.log(torch.stack(pairs).mean()), z)


def test_range_of_alignment() -> None:
    z = rows((5, 3))[0]
    assert float(alignment(z, 7 * z).detach()) == pytest.approx(0.0, abs=1e-15)
    assert float(alignment(z, -z).detach()) == pytest.approx(4.0)


@pytest.mark.parametrize("count", [2, 5, 30])
def test_range_of_uniformity(count: int) -> None:
    """All rows equal give the largest value, a regular simplex the smallest."""
    simplex = torch.eye(count, dtype=torch.float64) - 1 / count
    assert float(uniformity(simplex)) == pytest.approx(-4 - 4 / (count - 1))
    equal = torch.ones(count, 3, dtype=torch.float64, requires_grad=True)
    value = uniformity(equal)
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-12)
    value.backward()
    assert bool(equal.grad.isfinite().all())


def test_rows_spread_evenly_on_a_sphere() -> None:
    z = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(uniformity(z)) == pytest.approx(-4 + 8 / 64, abs=0.02)


def test_invariances() -> None:
    a, b = rows((9, 4))
    order = torch.randperm(9)
    torch.testing.assert_close(alignment(b[order], 3 * a[order]), alignment(a, b))
    torch.testing.assert_close(uniformity(0.1 * a[order]), uniformity(a))
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    torch.testing.assert_close(uniformity(a @ turn), uniformity(a))


def test_gradcheck() -> None:
    a, b = rows((4, 3))
    assert torch.autograd.gradcheck(alignment, (a, b))
    assert torch.autograd.gradcheck(uniformity, a)


def test_zero_rows_are_finite_and_one_row_makes_no_pair() -> None:
    z = torch.zeros(3, 2, requires_grad=True)
    (alignment(z, torch.ones(3, 2)) + uniformity(z)).backward()
    assert bool(z.grad.isfinite().all())
    with pytest.raises(ValueError, match=r"uniformity compares .* at least two rows, found 1"):
        uniformity(torch.ones(1, 2))


def test_is_taken_in_full_precision_under_autocast() -> None:
    a, b = (z.detach().float() for z in rows((20, 30)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = alignment(a, b), uniformity(a)
        assert uniformity(a.bfloat16()).dtype == alignment(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert torch.equal(inside[0], alignment(a, b))
    assert torch.equal(inside[1], uniformity(a))


def test_objective_weighs_the_mean_of_both_views_uniformity() -> None:
    stage = tiny_stage(partial(AlignUniform, hidden=16, width=8, uniformity=3.0))
    found = Pretrainer(stage).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 10))
    objective = stage.tasks[0].objective
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    a, b = (objective.project(stage.encoder(view).rows) for view in views)
    assert list(found) == ["alignment", "uniformity"]
    torch.testing.assert_close(found["alignment"], alignment(a, b))
    torch.testing.assert_close(found["uniformity"], 1.5 * (uniformity(a) + uniformity(b)))
    assert objective.collapse_line(12) == 0.0
    assert math.isfinite(float(found.total.detach()))


def test_objective_keeps_the_contract() -> None:
    check_objective(partial(AlignUniform, hidden=16, width=8))


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(partial(AlignUniform, hidden=16, width=8), ranks=ranks, rows=rows)
