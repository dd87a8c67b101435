from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.objectives.sinkhorn import sinkhorn
from anyview.objectives.swav import SwAV, swav_loss
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws, tiny_pretrainer
from anyview.views.maker import ViewMaker
from anyview.views.multi_crop import MultiCrop
from anyview.views.noise import Noise

SMALL = partial(SwAV, hidden=16, width=8, prototypes=6)
QUEUED = partial(SMALL, queue=20, queue_from=0)  # a batch of 12 does not divide 20
STEPS = 10


def crops() -> ViewMaker:
    return MultiCrop(Noise(0.1), Noise(0.6), locals=2)


def scores(views: int, rows: int = 5, count: int = 4) -> list[Tensor]:
    return list(2 * torch.rand(views, rows, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)


def begun(stage: Stage) -> Pretrainer:
    return tiny_pretrainer(stage, shown(0), 12)


def shown(number: int) -> StepInput:
    return StepInput(tiny_batch(), tiny_draws(number, 12), number, STEPS)


@pytest.mark.parametrize(("rows", "count"), [(3, 5), (5, 3), (7, 7)])
@pytest.mark.parametrize("views", [2, 5])
def test_is_the_paper_s_formula(rows: int, count: int, views: int) -> None:
    s = scores(views, rows, count)
    q = [sinkhorn(row) for row in s[:2]]
    views_mean = []
    for a in range(2):
        others = [v for v in range(views) if v != a]
        losses = [-(q[a][m, k] * (s[v][m] / 0.1).softmax(0)[k].log()) for v in others for m in range(rows) for k in range(count)]
        views_mean.append(torch.stack(losses).sum() / len(others) / rows)
    torch.testing.assert_close(swav_loss(s, q), (views_mean[0] + views_mean[1]) / 2, rtol=1e-10, atol=0)


def test_gradcheck_and_no_gradient_through_assignments() -> None:
    s = [row.requires_grad_() for row in scores(3)]
    q = [sinkhorn(row) for row in s[:2]]
    assert torch.autograd.gradcheck(lambda *rows: swav_loss(rows, q), tuple(s))
    weights = [row.clone().requires_grad_() for row in q]
    swav_loss(s, weights).backward()
    assert all(row.grad is None for row in weights)


def test_invariances() -> None:
    s = scores(2, 6, 5)
    q = [sinkhorn(row) for row in s]
    loss = swav_loss(s, q)
    torch.testing.assert_close(swav_loss(s[::-1], q[::-1]), loss)
    order, columns = torch.randperm(6), torch.randperm(5)
    again = [row[order][:, columns] for row in s]
    torch.testing.assert_close(swav_loss(again, [sinkhorn(row) for row in again]), loss)


def test_collapse_line_is_log_of_the_number_of_prototypes() -> None:
    s = torch.full((7, 10), 0.3, dtype=torch.float64)
    assert float(swav_loss([s, s], [sinkhorn(s)] * 2)) == pytest.approx(math.log(10), rel=1e-12)
    assert SMALL(4).collapse_line(12) == pytest.approx(math.log(6))


def test_equal_rows_cannot_go_below_the_collapse_line() -> None:
    s = scores(1)[0][:1].expand(5, 4)
    assert float(swav_loss([s, s], [sinkhorn(s)] * 2)) > math.log(4)


def test_objective_is_the_loss_of_all_crops() -> None:
    stage = tiny_stage(SMALL, crops)
    pretrainer = begun(stage)
    objective = stage.tasks[0].objective
    found = pretrainer(shown(0))
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    rows = [normalize(objective.project(stage.encoder(view).rows), dim=1) for view in views]
    s = [row @ normalize(objective.prototypes.weight, dim=1).T for row in rows]
    torch.testing.assert_close(found["swav"], swav_loss(s, [sinkhorn(row) for row in s[:2]]))
    assert list(found) == ["swav"]
    used = torch.cat(s[:2]).argmax(1).unique()
    assert float(pretrainer.monitors["dead_prototypes"]) == 6 - len(used)


def test_prototypes_stay_for_the_first_epoch_or_half_of_a_short_stage() -> None:
    stage = tiny_stage(SMALL)
    pretrainer = begun(stage)
    weight = stage.tasks[0].objective.prototypes.weight
    for number, moves in [(0, False), (4, False), (5, True), (9, True)]:
        pretrainer.zero_grad()
        pretrainer(shown(number)).total.backward()
        assert bool(weight.grad.abs().max() > 0) is moves
        assert float(stage.tasks[0].objective.project[0].weight.grad.abs().max()) > 0


def train(pretrainer: Pretrainer, steps: int) -> None:
    for number in range(steps):
        pretrainer(shown(number))
        pretrainer.after_step(number + 1, STEPS)


def test_queue_holds_each_view_s_rows_of_earlier_steps() -> None:
    stage = tiny_stage(QUEUED)
    pretrainer = begun(stage)
    objective = stage.tasks[0].objective
    rows = []
    for number in range(2):
        views = stage.tasks[0].views(tiny_batch(), tiny_draws(number, 12)).views
        rows.append([normalize(objective.project(stage.encoder(view).rows), dim=1).detach() for view in views])
    train(pretrainer, 2)
    for position, queue in enumerate(objective.queues):
        assert queue.full
        torch.testing.assert_close(queue.rows[12:], rows[1][position][:8])
        torch.testing.assert_close(queue.rows[:4], rows[1][position][8:])
        torch.testing.assert_close(queue.rows[4:12], rows[0][position][4:])


def test_queue_takes_part_once_it_is_full_of_real_rows_and_not_before_its_time() -> None:
    losses = {}
    for name, make in {"none": SMALL, "at once": QUEUED, "later": partial(QUEUED, queue_from=15)}.items():
        pretrainer = begun(tiny_stage(make))
        for number in range(7):
            losses[name, number] = float(pretrainer(shown(number)).total.detach())
            pretrainer.after_step(number + 1, STEPS)
    for number in (0, 1):  # 12 rows of 20 after the first step
        assert losses["at once", number] == losses["none", number]
    assert losses["at once", 2] != losses["none", 2]
    for number in range(5):  # half of the stage
        assert losses["later", number] == losses["none", number]
    assert losses["later", 5] != losses["none", 5]


def test_queue_rows_join_the_assignment_and_are_cut_off() -> None:
    stage = tiny_stage(QUEUED)
    pretrainer = begun(stage)
    objective = stage.tasks[0].objective
    train(pretrainer, 2)
    kept = [queue.rows.clone() for queue in objective.queues]
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(2, 12)).views
    prototypes = normalize(objective.prototypes.weight, dim=1)
    s = [normalize(objective.project(stage.encoder(view).rows), dim=1) @ prototypes.T for view in views]
    q = [sinkhorn(torch.cat([row, rows @ prototypes.T]))[:12] for row, rows in zip(s, kept, strict=True)]
    torch.testing.assert_close(pretrainer(shown(2))["swav"], swav_loss(s, q))


def test_is_taken_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = begun(tiny_stage(SMALL))(shown(0))
    assert all(term.dtype == torch.float32 for term in losses.values())
    assert bool(losses.total.isfinite())


def test_nothing_of_a_step_is_kept() -> None:
    stage = tiny_stage(QUEUED)
    train(begun(stage), 2)
    assert stage.tasks[0].objective._incoming == {}


def test_equiangular_prototypes_have_no_gradient() -> None:
    pytest.importorskip("anyview.objectives.equiangular")
    check_objective(partial(SMALL, kind="equiangular"))


@pytest.mark.parametrize("make", [SMALL, QUEUED], ids=["plain", "queue"])
def test_objective_keeps_the_contract(make: partial[SwAV]) -> None:
    check_objective(make)
    check_objective(make, make_views=crops)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact_with_crops_and_a_queue(ranks: int, rows: int) -> None:
    check_rank_exact(QUEUED, ranks=ranks, rows=rows, steps=4, make_views=crops)


def test_ranks_are_exact_in_float32() -> None:
    check_rank_exact(SMALL, rows=32, steps=1, tolerance=1e-5, dtype=torch.float32)
