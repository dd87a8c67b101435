from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.objectives.byol import BYOL, byol_loss
from anyview.objectives.objective import Step
from anyview.pretrainer import Pretrainer, StepInput
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws
from anyview.views.view import View, ViewSet

SMALL = partial(BYOL, hidden=16, width=8)


def train(momentum: float, final_momentum: float, steps: int = 2) -> Pretrainer:
    stage = tiny_stage(partial(SMALL, momentum=momentum, final_momentum=final_momentum))
    pretrainer = Pretrainer(stage).train()
    pretrainer.start()
    optimizer = stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad])
    for step in range(steps):
        optimizer.zero_grad()
        pretrainer(StepInput(tiny_batch(), tiny_draws(step, 12), step, steps)).total.backward()
        optimizer.step()
        pretrainer.after_step(step + 1, steps)
    return pretrainer


def test_is_the_paper_s_formula() -> None:
    random = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 7, 5, generator=random, dtype=torch.float64)
    unit = [z / z.norm(dim=1, keepdim=True) for z in (prediction, target)]
    expected = (unit[0] - unit[1]).square().sum(1).mean()
    torch.testing.assert_close(byol_loss(prediction, target), expected, rtol=1e-12, atol=0)


def test_gradcheck_and_no_gradient_to_the_target() -> None:
    prediction, target = torch.randn(2, 4, 3, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(lambda p: byol_loss(p, target), (prediction.clone().requires_grad_(),))
    target.requires_grad_()
    assert not byol_loss(prediction, target).requires_grad


@pytest.mark.parametrize(("cosine", "loss"), [(1.0, 0.0), (0.0, 2.0), (-1.0, 4.0)])
def test_lies_between_nought_and_four(cosine: float, loss: float) -> None:
    a = torch.tensor([[1.0, 0.0]])
    b = torch.tensor([[cosine, (1 - cosine**2) ** 0.5]])
    assert float(byol_loss(a, 3 * b)) == pytest.approx(loss, abs=1e-6)


def test_zero_rows_are_finite() -> None:
    prediction = torch.zeros(3, 2, requires_grad=True)
    loss = byol_loss(prediction, torch.ones(3, 2))
    loss.backward()
    assert float(loss.detach()) == 2.0
    assert bool(prediction.grad.isfinite().all())


def test_loss_is_the_mean_of_both_orders() -> None:
    stage = tiny_stage(SMALL)
    pretrainer = Pretrainer(stage).train()
    found = pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 10))
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["BYOL"]

    def order(seen: Tensor, guessed: Tensor) -> Tensor:
        return byol_loss(objective.predict(objective.project(seen)), objective.teacher_project(guessed))

    student, target = ([module(view).rows for view in views] for module in (stage.encoder, teacher))
    expected = (order(student[0], target[1]) + order(student[1], target[0])) / 2
    torch.testing.assert_close(found["byol"], expected)
    assert list(found) == ["byol"]


def teacher_and_student(pretrainer: Pretrainer) -> list[tuple[Tensor, Tensor]]:
    objective = pretrainer.objectives["BYOL"]
    pairs = [(pretrainer.teachers["BYOL"].module, pretrainer.encoder), (objective.teacher_project.module, objective.project)]
    return [(a, b) for teacher, student in pairs for a, b in zip(teacher.parameters(), student.parameters(), strict=True)]


def test_no_gradient_reaches_a_teacher() -> None:
    pretrainer = train(0.9, 1.0)
    pairs = teacher_and_student(pretrainer)
    assert all(teacher.grad is None and not teacher.requires_grad for teacher, _ in pairs)
    assert all(student.grad is not None for _, student in pairs)


def test_momentum_one_keeps_the_teachers() -> None:
    start, end = train(1.0, 1.0, steps=0), train(1.0, 1.0)
    before, after = teacher_and_student(start), teacher_and_student(end)
    assert all(torch.equal(old, new) for (old, _), (new, _) in zip(before, after, strict=True))
    assert sum(not torch.equal(teacher, student) for teacher, student in after) > len(after) / 2


def test_momentum_nought_makes_teachers_of_the_students() -> None:
    assert all(torch.equal(teacher, student) for teacher, student in teacher_and_student(train(0.0, 0.0)))


def test_momentum_rises_to_its_final_value() -> None:
    momentum = BYOL(4, hidden=8, width=4, momentum=0.9, final_momentum=1.0).momentum
    assert momentum(0, 100) == pytest.approx(0.9)
    assert momentum(50, 100) == pytest.approx(0.95)
    assert momentum(100, 100) == pytest.approx(1.0)


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows)


def test_ranks_are_exact_in_float32() -> None:
    check_rank_exact(SMALL, rows=32, steps=1, tolerance=1e-5, dtype=torch.float32)


def test_joint_views_share_the_moments_of_batch_norm() -> None:
    stage = tiny_stage(partial(SMALL, bn_views="joint"))
    pretrainer = Pretrainer(stage).train()
    before = copy.deepcopy(pretrainer)
    found = pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 10))["byol"]
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    both = View(torch.cat([view.data for view in views]))
    objective, teacher = before.objectives["BYOL"], before.teachers["BYOL"]
    predicted = objective.predict(objective.project(before.encoder(both).rows)).chunk(2)
    targets = objective.teacher_project(teacher(both).rows).chunk(2)
    torch.testing.assert_close(found, (byol_loss(predicted[0], targets[1]) + byol_loss(predicted[1], targets[0])) / 2)
    each = Pretrainer(tiny_stage(SMALL)).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 10))["byol"]
    assert abs(float(found.detach() - each.detach())) > 1e-4
    assert int(stage.encoder.inner[0][1].num_batches_tracked) == 1


def test_joint_views_keep_the_contract_and_are_rank_exact() -> None:
    joint = partial(SMALL, bn_views="joint")
    check_objective(joint)
    check_rank_exact(joint)


def test_views_of_two_shapes_are_no_joint_views() -> None:
    stage = tiny_stage(partial(SMALL, bn_views="joint"))
    shapes = [View(torch.zeros(4, 12)), View(torch.zeros(4, 6))]
    step = Step(ViewSet(shapes), tiny_batch(), tiny_draws(0, 4), 0, 1, stage.encoder, stage.encoder)
    with pytest.raises(UserError, match=r"these are \(4, 12\), \(4, 6\); encode each by itself"):
        stage.tasks[0].objective(step)
