from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from anyview.encoders.moving_average import MovingAverage
from anyview.encoders.norm import BatchNorm
from anyview.schedules import Cosine


@pytest.fixture
def student() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), BatchNorm(3))


def change(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    module(torch.randn(8, 4))


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def test_momentum_one_never_moves_the_parameters(student: nn.Sequential) -> None:
    teacher, start = MovingAverage(student, 1.0), copy.deepcopy(student)
    for step in range(3):
        change(student)
        teacher.update(step, 3)
    for ours, theirs in zip(teacher.module.parameters(), start.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_momentum_zero_is_the_student(student: nn.Sequential) -> None:
    teacher = MovingAverage(student, 0.0)
    change(student)
    assert not equal(teacher.module, student)
    teacher.update(1, 3)
    assert equal(teacher.module, student)


def test_between_them_it_is_the_average(student: nn.Sequential) -> None:
    teacher, start = MovingAverage(student, 0.9), copy.deepcopy(student)
    change(student)
    teacher.update(1, 3)
    expected = 0.9 * start[0].weight + 0.1 * student[0].weight
    torch.testing.assert_close(teacher.module[0].weight, expected.detach())


def test_momentum_follows_its_schedule(student: nn.Sequential) -> None:
    teacher = MovingAverage(student, Cosine(0.0, 1.0))
    change(student)
    teacher.update(10, 10)
    before = copy.deepcopy(teacher.module)
    change(student)
    teacher.update(0, 10)
    assert not equal(before, teacher.module)
    assert torch.equal(teacher.module[0].weight, student[0].weight)


def test_parameters_left_out_are_kept_equal(student: nn.Sequential) -> None:
    teacher = MovingAverage(student, 1.0, parameters=lambda name: name.startswith("0."))
    start = copy.deepcopy(student)
    change(student)
    teacher.update(1, 3)
    assert torch.equal(teacher.module[0].weight, start[0].weight)
    assert torch.equal(teacher.module[1].weight, student[1].weight)


def test_buffer_rules(student: nn.Sequential) -> None:
    copied, averaged, own = (MovingAverage(student, 0.9, buffers=rule) for rule in ("copy", "average", "own"))
    change(student)
    for teacher in (copied, averaged, own):
        teacher.update(1, 3)
    theirs = student[1].running_mean
    assert torch.equal(copied.module[1].running_mean, theirs)
    torch.testing.assert_close(averaged.module[1].running_mean, 0.1 * theirs)
    assert torch.equal(own.module[1].running_mean, torch.zeros(3))
    assert int(averaged.module[1].num_batches_tracked) == int(student[1].num_batches_tracked) == 1
    assert int(own.module[1].num_batches_tracked) == 0


def test_own_buffers_follow_the_teacher_s_passes(student: nn.Sequential) -> None:
    teacher = MovingAverage(student, 0.9, buffers="own")
    teacher(torch.randn(8, 4) + 5)
    assert float(teacher.module[1].running_mean.abs().max()) > 0
    assert torch.equal(student[1].running_mean, torch.zeros(3))


def test_no_gradient_and_no_double_registration(student: nn.Sequential) -> None:
    teacher = MovingAverage(student, 0.9)
    x = torch.randn(8, 4, requires_grad=True)
    assert not teacher(x).requires_grad
    assert all(not parameter.requires_grad for parameter in teacher.parameters())
    assert all(name.startswith("module.") for name in teacher.state_dict())
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_restart_is_an_exact_copy_again(student: nn.Sequential) -> None:
    teacher = MovingAverage(student, 0.9)
    change(student)
    teacher.restart()
    assert equal(teacher.module, student)


def test_runs_in_its_holder_s_mode(student: nn.Sequential) -> None:
    holder = nn.ModuleList([student, MovingAverage(student, 0.9)])
    assert not holder.eval()[1].module[1].training
    assert holder.train()[1].module[1].training


def test_a_copy_of_both_follows_the_copied_student(student: nn.Sequential) -> None:
    holder = copy.deepcopy(nn.ModuleList([student, MovingAverage(student, 0.0)]))
    change(holder[0])
    holder[1].update(1, 3)
    assert equal(holder[1].module, holder[0])
