from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.encoders.encoder import Wrapped
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.objectives.w_mse import WMSE, WhiteningError, w_mse_loss, whiten
from anyview.testing import check_objective, check_rank_exact
from anyview.views.draws import Draws
from anyview.views.view import View, ViewSet

SMALL = partial(WMSE, hidden=16, width=4, window=8)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def paper(views: list[Tensor], order: Tensor, window: int, shrinkage: float = 0.0) -> Tensor:
    """One permutation, window, pair of views and row at a time."""
    distances = []
    for permutation in order:
        for start in range(0, len(permutation) - window + 1, window):
            part = permutation[start : start + window]
            unit = []
            for view in views:
                z = view[part]
                covariance = (1 - shrinkage) * torch.cov(z.T) + shrinkage * torch.eye(z.shape[1], dtype=z.dtype)
                white = torch.linalg.inv(torch.linalg.cholesky(covariance)) @ (z - z.mean(0)).T
                unit.append(white.T / white.norm(dim=0)[:, None])
            for i in range(len(views)):
                for j in range(i):
                    distances += [(unit[i][row] - unit[j][row]).square().sum() for row in range(window)]
    return torch.stack(distances).mean()


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
@pytest.mark.parametrize("count", [2, 3])
def test_is_the_paper_s_formula(shrinkage: float, count: int) -> None:
    views = [rows(22, 3, seed=seed).requires_grad_() for seed in range(count)]
    order = torch.stack([torch.randperm(22) for _ in range(2)])
    expected, found = paper(views, order, 10, shrinkage), w_mse_loss(views, order, 10, shrinkage)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(torch.autograd.grad(found, views), torch.autograd.grad(expected, views), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradcheck_and_gradients_to_every_view() -> None:
    views = [rows(9, 2, seed=seed).requires_grad_() for seed in range(2)]
    order = torch.randperm(9)
    assert torch.autograd.gradcheck(lambda *both: w_mse_loss(both, order, 4), views)
    assert all(float(gradient.abs().max()) > 0 for gradient in torch.autograd.grad(w_mse_loss(views, order, 4), views))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whitened_rows_have_the_identity_for_covariance(dtype: torch.dtype) -> None:
    z = (rows(128, 64) @ rows(64, 64, seed=1)).to(dtype) + 3
    white = whiten(z)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(64, dtype=dtype), rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-9)
    torch.testing.assert_close(white.mean(0), torch.zeros(64, dtype=dtype), rtol=0, atol=1e-4)


def test_a_batch_of_parts_is_whitened_part_by_part() -> None:
    z = rows(3, 12, 4)
    for part, white in zip(z, whiten(z), strict=True):
        torch.testing.assert_close(whiten(part), white)


def test_lower_triangular_maps_with_positive_diagonal_change_nothing() -> None:
    views, order = [rows(20, 4, seed=seed) for seed in range(2)], torch.randperm(20)
    factor = rows(4, 4, seed=5).tril() + 3 * torch.eye(4, dtype=torch.float64)
    moved = [view @ factor.T + 7 for view in views]
    torch.testing.assert_close(w_mse_loss(moved, order, 10), w_mse_loss(views, order, 10))
    turned = [view @ torch.linalg.qr(rows(4, 4, seed=6)).Q for view in views]
    assert not torch.allclose(w_mse_loss(turned, order, 10), w_mse_loss(views, order, 10), rtol=1e-3)


def test_invariances() -> None:
    views, order = [rows(20, 4, seed=seed) for seed in range(2)], torch.randperm(20)
    loss = w_mse_loss(views, order, 10)
    torch.testing.assert_close(w_mse_loss(views[::-1], order, 10), loss)
    other = torch.randperm(20)
    torch.testing.assert_close(w_mse_loss([view[other] for view in views], other.argsort()[order], 10), loss)
    torch.testing.assert_close(w_mse_loss([views[0], views[0]], order, 10), torch.zeros((), dtype=torch.float64))
    opposite = w_mse_loss([views[0], -views[0]], order, 10)
    torch.testing.assert_close(opposite, torch.tensor(4.0, dtype=torch.float64))


def test_rows_beyond_the_last_window_take_no_part_and_small_batches_are_one() -> None:
    views, order = [rows(11, 2, seed=seed) for seed in range(2)], torch.randperm(11)
    torch.testing.assert_close(w_mse_loss(views, order, 5), w_mse_loss(views, order[:10], 5))
    torch.testing.assert_close(w_mse_loss(views, order, 128), w_mse_loss(views, order, 11))


def degenerate(case: str) -> Tensor:
    z = rows(16, 4)
    if case == "duplicates":
        z = z[:3].repeat(6, 1)[:16]
    elif case == "fewer rows than columns":
        z = z[:4]
    elif case == "one row":
        z = z[:1]
    elif case == "all equal":
        z = torch.ones_like(z)
    elif case == "constant column":
        z[:, 2] = 1.7
    elif case == "dependent columns":
        z[:, 3] = z[:, :2].sum(1)
    return z


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["duplicates", "fewer rows than columns", "one row", "all equal", "constant column", "dependent columns"])
def test_rows_that_cannot_be_whitened_are_named(case: str, dtype: torch.dtype) -> None:
    """Also where rounding lets the Cholesky factor exist."""
    z = degenerate(case).to(dtype)
    for scale in (1.0, 1e-3, 1e3):
        with pytest.raises(WhiteningError, match=r"W-MSE needs at least 2·d = 8 independent rows to whiten 4 columns"):
            whiten(scale * z)
        assert bool(whiten(z, shrinkage=0.1).isfinite().all())


def test_columns_of_very_different_scale_are_whitened() -> None:
    z = rows(32, 4) * torch.tensor([1e-4, 1.0, 1e4, 1.0])
    torch.testing.assert_close(torch.cov(whiten(z.float()).T), torch.eye(4), rtol=0, atol=1e-4)


def test_is_taken_in_full_precision_under_autocast() -> None:
    views, order = [rows(20, 4, seed=seed).float() for seed in range(2)], torch.randperm(20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = w_mse_loss(views, order, 10)
        assert w_mse_loss([view.bfloat16() for view in views], order, 10).dtype == torch.float32
    assert torch.equal(inside, w_mse_loss(views, order, 10))


def test_a_window_below_twice_the_width_is_refused() -> None:
    with pytest.raises(UserError, match="at least 128 rows, and a window of 100"):
        WMSE(8, window=100)
    WMSE(8, window=100, shrinkage=0.01)


def make_step(seed: int = 0) -> Step:
    views = [View(rows(16, 12, seed=seed).float(), role=role) for seed, role in enumerate(("global", "global", "local"))]
    return Step(ViewSet(views), None, Draws.seeded(seed, total=16), 0, 10, Wrapped(torch.nn.Identity(), 12))


def test_permutations_are_the_step_s_and_all_views_take_part() -> None:
    objective = SMALL(12, repeats=3).eval()
    found = objective(make_step())["w_mse"]
    generator = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(16, generator=generator) for _ in range(3)])
    projected = [objective.project(view.data) for view in make_step().views]
    torch.testing.assert_close(found, w_mse_loss(projected, orders, 8))
    assert not torch.equal(found, objective(make_step(seed=1))["w_mse"])
    assert objective.collapse_line(16) is None


def test_objective_keeps_the_contract() -> None:
    check_objective(partial(WMSE, hidden=16, width=4, window=8, repeats=2))
    check_objective(partial(WMSE, hidden=16, width=16, shrinkage=0.1))


@pytest.mark.parametrize("options", [{"width": 2, "window": 4}, {"width": 16, "shrinkage": 0.1, "repeats": 2}])
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(options: dict[str, float], ranks: int, rows: int) -> None:
    check_rank_exact(partial(WMSE, hidden=16, **options), ranks=ranks, rows=rows, tolerance=1e-8)
