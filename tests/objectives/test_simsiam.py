from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anyview.data.source import Batch
from anyview.encoders.heads import mlp
from anyview.encoders.norm import BatchNorm
from anyview.evaluation.label_free import mean_standard_deviation
from anyview.objectives import simsiam
from anyview.objectives.simsiam import SimSiam, simsiam_loss, spread
from anyview.pretrainer import Pretrainer, StepInput
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws

SMALL = partial(SimSiam, width=16, hidden=8)


def rows() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 7, 5, generator=random, dtype=torch.float64)
    return prediction.requires_grad_(), target


def test_is_the_paper_s_formula() -> None:
    prediction, target = rows()
    expected = torch.stack([-(p @ z) / (p.norm() * z.norm()) for p, z in zip(prediction, target, strict=True)]).mean()
    found = simsiam_loss(prediction, target)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    ours, theirs = (torch.autograd.grad(loss, prediction)[0] for loss in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_target() -> None:
    prediction, target = rows()
    assert torch.autograd.gradcheck(lambda p: simsiam_loss(p, target), prediction)
    assert not simsiam_loss(prediction.detach(), target.requires_grad_()).requires_grad


def test_all_rows_equal_is_the_minimum_and_zero_rows_are_finite() -> None:
    a = torch.ones(4, 3, requires_grad=True)
    assert float(simsiam_loss(a, 2 * a).detach()) == pytest.approx(-1.0)
    assert SMALL(4).collapse_line(4) is None
    zeros = torch.zeros(4, 3, requires_grad=True)
    loss = simsiam_loss(zeros, a)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert bool(zeros.grad.isfinite().all())


def test_is_taken_in_full_precision_under_autocast() -> None:
    prediction, target = (z.detach().float() for z in rows())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = simsiam_loss(prediction, target)
        assert simsiam_loss(prediction.bfloat16(), target.bfloat16()).dtype == torch.float32
    assert torch.equal(inside, simsiam_loss(prediction, target))


def test_spread_is_one_for_isotropic_rows_and_nought_for_equal_ones() -> None:
    z = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert float(spread(z)) == pytest.approx(1.0, abs=0.01)
    assert float(spread(torch.ones(5, 3))) == pytest.approx(0.0, abs=1e-6)
    assert float(spread(z[:9] + 2)) == pytest.approx(mean_standard_deviation(z[:9] + 2), rel=1e-5)
    assert not spread(z.requires_grad_()).requires_grad


def test_heads_are_the_published_ones() -> None:
    objective = SimSiam(32, width=64, hidden=16)
    linear = [[layer for layer in head if isinstance(layer, torch.nn.Linear)] for head in (objective.project, objective.predict)]
    assert [[layer.out_features for layer in head] for head in linear] == [[64, 64, 64], [16, 64]]
    assert [[layer.bias is not None for layer in head] for head in linear] == [[False, False, False], [False, True]]
    norms = [[layer.affine for layer in head if isinstance(layer, BatchNorm)] for head in (objective.project, objective.predict)]
    assert norms == [[True, True, False], [True]]


def test_loss_is_the_mean_of_both_orders_and_targets_are_fixed() -> None:
    stage = tiny_stage(SMALL)
    pretrainer = Pretrainer(stage).train()
    found = pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 10))
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    objective = stage.tasks[0].objective
    z = [objective.project(stage.encoder(view).rows) for view in views]
    p = [objective.predict(rows) for rows in z]
    expected = -(cosine_similarity(p[0], z[1].detach()).mean() + cosine_similarity(p[1], z[0].detach()).mean()) / 2
    torch.testing.assert_close(found["simsiam"], expected)
    for ours, theirs in zip(
        torch.autograd.grad(found.total, stage.encoder.parameters()), torch.autograd.grad(expected, stage.encoder.parameters()), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    shown = pretrainer.monitors["projection_standard_deviation"]
    torch.testing.assert_close(shown, (spread(z[0]) + spread(z[1])) / 2)


def trained_spread() -> tuple[float, float]:
    """Spread of the projections and the loss after 120 steps on rows that no two batches share.

    The projector ends in a linear layer: batch norm would keep each column's deviation at 1 whatever happens, and leave the collapse to
    the number of directions.
    """
    torch.manual_seed(0)
    stage = tiny_stage(partial(SimSiam, width=32, hidden=8))
    objective = stage.tasks[0].objective
    objective.project = mlp(8, 32, 32)
    pretrainer = Pretrainer(stage).train()
    optimizer = torch.optim.SGD(pretrainer.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    random = torch.Generator().manual_seed(0)
    for step in range(120):
        optimizer.zero_grad()
        loss = pretrainer(StepInput(Batch(torch.randn(32, 12, generator=random), 32), tiny_draws(step, 32), step, 120)).total
        loss.backward()
        optimizer.step()
        pretrainer.after_step(step + 1, 120)
    return float(pretrainer.monitors["projection_standard_deviation"]), float(loss.detach())


def test_collapses_without_the_stop_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, _ = trained_spread()
    monkeypatch.setattr(simsiam, "simsiam_loss", lambda p, z: -cosine_similarity(p, z, dim=1).mean())
    collapsed, loss = trained_spread()
    assert healthy > 0.6
    assert collapsed < 0.2
    assert loss < -0.99


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows)
