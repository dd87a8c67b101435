from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from anyview.encoders.encoder import Wrapped
from anyview.encoders.norm import BatchNorm
from anyview.objectives.moco_v2 import MoCoV2, moco_v2_loss, moco_v2_losses
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws
from anyview.views.view import View, ViewSet

SMALL = partial(MoCoV2, hidden=16, width=8, queue_size=30)


def rows(count: int, width: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    parts = [torch.randn(length, width, generator=random, dtype=torch.float64) for length in (count, count, size)]
    return parts[0].requires_grad_(), parts[1], normalize(parts[2], dim=1)


def paper(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    losses = []
    for query, key in zip(queries, keys, strict=True):
        logits = [cosine_similarity(query, other, dim=0) / temperature for other in (key, *queue)]
        losses.append(-torch.log(torch.exp(logits[0]) / sum(torch.exp(logit) for logit in logits)))
    return torch.stack(losses)


def begun(make: partial[MoCoV2] = SMALL) -> tuple[Stage, Pretrainer, MoCoV2]:
    stage = tiny_stage(make)
    pretrainer = Pretrainer(stage).train()
    pretrainer.start()
    return stage, pretrainer, stage.tasks[0].objective


def shown(step: int, rows: int = 12) -> StepInput:
    return StepInput(tiny_batch(rows, seed=step), tiny_draws(step, rows), step, 10)


def views_of(stage: Stage, step: int) -> list[View]:
    return stage.tasks[0].views(tiny_batch(seed=step), tiny_draws(step, 12)).views


@pytest.mark.parametrize("shape", [(6, 10, 15), (5, 3, 4), (1, 4, 9)])
@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_is_the_paper_s_formula(shape: tuple[int, int, int], temperature: float) -> None:
    queries, keys, queue = rows(*shape)
    expected = paper(queries, keys, queue, temperature)
    torch.testing.assert_close(moco_v2_losses(queries, 3 * keys, queue, temperature), expected, rtol=1e-10, atol=0)
    found = moco_v2_loss(queries, keys, queue, temperature)
    torch.testing.assert_close(found, expected.mean(), rtol=1e-10, atol=0)
    ours, theirs = (torch.autograd.grad(loss, queries)[0] for loss in (found, expected.mean()))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_keys() -> None:
    queries, keys, queue = rows(4, 3, 5)
    assert torch.autograd.gradcheck(lambda q: moco_v2_loss(q, keys, queue), queries)
    assert not moco_v2_loss(queries.detach(), keys.requires_grad_(), queue).requires_grad


def test_all_rows_equal() -> None:
    a, queue = torch.ones(3, 4, dtype=torch.float64, requires_grad=True), torch.full((30, 4), 0.5, dtype=torch.float64)
    loss = moco_v2_loss(a, a, queue)
    assert float(loss.detach()) == pytest.approx(math.log(31))
    assert SMALL(4).collapse_line(3) == pytest.approx(float(loss.detach()))
    loss.backward()
    assert bool(a.grad.isfinite().all())


def test_collapsed_rows_before_the_queue_has_noticed() -> None:
    """Against a queue that still holds random rows, whose cosines are near 0, the loss is about log(1 + K exp(-1 / τ))."""
    a, queue = torch.ones(3, 256), normalize(torch.randn(4096, 256), dim=1)
    assert float(moco_v2_loss(a, a, queue, 0.5)) == pytest.approx(math.log(1 + 4096 * math.exp(-2)), abs=0.05)


def test_zero_rows_and_small_losses_are_finite_and_exact() -> None:
    queries = torch.zeros(3, 2, requires_grad=True)
    moco_v2_loss(queries, torch.zeros(3, 2), torch.eye(2)).backward()
    assert bool(queries.grad.isfinite().all())
    sure = moco_v2_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), 0.1)
    assert float(sure) == pytest.approx(math.exp(-20), rel=1e-4)


def test_is_taken_in_full_precision_under_autocast() -> None:
    queries, keys, queue = (z.detach().float() for z in rows(20, 30, 40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = moco_v2_loss(queries, keys, queue)
        assert moco_v2_loss(queries.bfloat16(), keys.bfloat16(), queue).dtype == torch.float32
    assert torch.equal(inside, moco_v2_loss(queries, keys, queue))


@pytest.mark.parametrize("symmetric", [False, True])
def test_loss_is_against_the_queue_as_the_steps_before_left_it(symmetric: bool) -> None:
    stage, pretrainer, objective = begun(partial(SMALL, symmetric=symmetric))
    queue = objective.queue.rows.clone()
    found = pretrainer(shown(0))
    student = [objective.project(stage.encoder(view).rows) for view in views_of(stage, 0)]
    teacher = [objective.teacher_project(pretrainer.teachers["MoCoV2"](view).rows) for view in views_of(stage, 0)]
    expected = moco_v2_loss(student[0], teacher[1], queue)
    if symmetric:
        expected = (expected + moco_v2_loss(student[1], teacher[0], queue)) / 2
    torch.testing.assert_close(found["moco_v2"], expected)
    assert torch.equal(objective.queue.rows, queue)


@pytest.mark.parametrize("symmetric", [False, True])
def test_pushes_the_keys_of_the_step_after_it(symmetric: bool) -> None:
    """The keys that the loss was taken on, not those of the teacher that has moved on by then."""
    stage, pretrainer, objective = begun(partial(SMALL, symmetric=symmetric, momentum=0.0, final_momentum=0.0))
    with torch.no_grad():
        keys = [objective.teacher_project(pretrainer.teachers["MoCoV2"](view).rows) for view in views_of(stage, 0)]
    pretrainer(shown(0)).total.backward()
    stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad]).step()
    pretrainer.after_step(1, 10)
    expected = torch.cat([keys[1], keys[0]]) if symmetric else keys[1]
    torch.testing.assert_close(objective.queue.rows[: len(expected)], normalize(expected, dim=1))
    assert int(objective.queue.filled) == len(expected)
    moved = objective.teacher_project(pretrainer.teachers["MoCoV2"](views_of(stage, 0)[1]).rows)
    assert not torch.allclose(objective.queue.rows[:12], normalize(moved, dim=1))
    assert not objective._keys


def test_every_batch_of_an_accumulated_step_is_pushed_in_order() -> None:
    stage, pretrainer, objective = begun()
    for step in range(3):
        pretrainer(shown(step))
    pretrainer.after_step(1, 10)
    with torch.no_grad():
        keys = [
            normalize(objective.teacher_project(pretrainer.teachers["MoCoV2"](views_of(stage, step)[1]).rows), dim=1) for step in (1, 2)
        ]
    assert (int(objective.queue.position), int(objective.queue.filled)) == (6, 30)  # 36 rows into 30 places
    torch.testing.assert_close(objective.queue.rows[12:24], keys[0])
    torch.testing.assert_close(torch.cat([objective.queue.rows[24:], objective.queue.rows[:6]]), keys[1])


def test_queue_is_no_longer_than_the_data_unless_it_was_asked_for() -> None:
    made = [MoCoV2(8, hidden=16, width=8), SMALL(8)]
    for objective in made:
        objective.prepare(ViewSet([]), 20)
    assert [len(objective.queue.rows) for objective in made] == [20, 30]
    assert made[0].collapse_line(12) == pytest.approx(math.log(21))


def test_a_permutation_of_the_keys_changes_nothing() -> None:
    """Batch norm over the global batch cannot tell in which order its rows come, so there is nothing to shuffle."""
    teacher = nn.Sequential(nn.Linear(12, 9), BatchNorm(9), nn.ReLU(), nn.Linear(9, 5)).double()
    data, order = torch.randn(14, 12, dtype=torch.float64), torch.randperm(14)
    torch.testing.assert_close(teacher(data[order])[order.argsort()], teacher(data), rtol=1e-12, atol=1e-13)


def test_no_gradient_reaches_teachers_or_queue() -> None:
    _, pretrainer, objective = begun()
    pretrainer(shown(0)).total.backward()
    for module in (pretrainer.teachers, objective.teacher_project):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in module.parameters())
    assert not objective.queue.rows.requires_grad
    assert all(parameter.grad is not None for parameter in objective.project.parameters())


def test_one_row_is_enough() -> None:
    stage = tiny_stage(SMALL, make_encoder=lambda: Wrapped(nn.Linear(12, 8), 8))
    assert bool(Pretrainer(stage).train()(shown(0, rows=1)).total.isfinite())


@pytest.mark.parametrize("symmetric", [False, True])
def test_objective_keeps_the_contract(symmetric: bool) -> None:
    check_objective(partial(SMALL, symmetric=symmetric))


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_ranks_are_exact(ranks: int, rows: int, symmetric: bool) -> None:
    check_rank_exact(partial(SMALL, symmetric=symmetric), ranks=ranks, rows=rows)
