"""Places where simple designs break, by number: state, and data beside the batch (4, 7, 8, 9, 11)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anyview.data.arrays import ArraySource
from anyview.data.source import Batch, Epoch
from anyview.encoders.mlp import MLP
from anyview.encoders.moving_average import MovingAverage
from anyview.encoders.norm import BatchNorm
from anyview.errors import UserError
from anyview.objectives.byol import byol_loss
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import VICReg
from anyview.pretrainer import Pretrainer
from anyview.recipe import Stage, Task
from anyview.testing import tiny_batch, tiny_stage
from anyview.testing.tiny import sgd, tiny_draws
from anyview.training import pretrain
from anyview.views.draws import Draws
from anyview.views.maker import Gives
from anyview.views.noise import NoisePair
from anyview.views.view import View, ViewSet
from tests.breakages.parts import tiny_recipe, train

# 4: batch norm per view or over all views; the teacher's statistics


def test_04_each_view_has_statistics_of_its_own() -> None:
    encoder = MLP(12, hidden=8, dim=4, layers=2).train()
    a, b = View(torch.randn(10, 12)), View(torch.randn(10, 12) + 3)
    stage = Stage([Task(NoisePair(), VICReg(4, width=4))], encoder, epochs=1, optimizer=sgd)
    step = Step(ViewSet([a, b]), None, Draws.seeded(0, total=10), 0, 1, stage.encoder)
    each = torch.cat([step.encode(view).rows for view in step.views])
    joint = encoder(View(torch.cat([a.data, b.data]))).rows
    assert not torch.allclose(each, joint, atol=0.1)
    torch.testing.assert_close(each[10:], encoder(b).rows)


@pytest.mark.parametrize(("rule", "mean"), [("copy", 1.0), ("average", 0.1), ("own", 0.0)])
def test_04_a_teacher_s_statistics_follow_a_stated_rule(rule: str, mean: float) -> None:
    student = BatchNorm(1)
    teacher = MovingAverage(student, 0.9, buffers=rule)
    student.running_mean.fill_(1.0)
    teacher.update(1, 10)
    assert float(teacher.module.running_mean) == pytest.approx(mean)


# 7: the order in which state changes


class Ordered(Objective):
    """Notes what is true when its turn comes."""

    needs = Needs(views=2, teacher=True)
    momentum = 0.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.notes: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, step: Step) -> Losses:
        a, b = (step.encode(view, teacher=teacher).rows for view, teacher in zip(step.views, (False, True), strict=True))
        self.used = self.centre.clone()
        return Losses(distance=(a - b + self.centre).square().mean())

    def after_step(self, step: Step) -> None:
        keys = step.encode(step.views[1], teacher=True).rows
        self.centre.copy_(keys.mean(0))
        self.notes.append((step.encoder.last.weight.detach().clone(), step.teacher.module.last.weight.clone(), keys))


def test_07_teacher_follows_after_the_optimiser_and_state_after_its_use() -> None:
    stage = tiny_stage(Ordered)
    pretrainer = Pretrainer(stage).train()
    start = stage.encoder.last.weight.detach().clone()
    objective = stage.tasks[0].objective
    with torch.no_grad():
        views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
        keys_of_the_step = copy.deepcopy(stage.encoder)(views[1]).rows
    train(pretrainer, stage, tiny_batch(), 1)
    student, teacher, keys = objective.notes[0]
    assert not torch.equal(student, start)
    assert torch.equal(teacher, student)
    assert objective.used.abs().max() == 0
    torch.testing.assert_close(keys, keys_of_the_step)
    torch.testing.assert_close(objective.centre, keys_of_the_step.mean(0))


# 8: state of every sample


class Bank(Objective):
    needs = Needs(views=2, index=True)

    def __init__(self, dim: int, samples: int = 20) -> None:
        super().__init__()
        self.register_buffer("visits", torch.zeros(samples, dtype=torch.long))
        self.register_buffer("bank", torch.zeros(samples, dim))

    def forward(self, step: Step) -> Losses:
        return Losses(distance=(step.encode(step.views[0]).rows - self.bank[step.views[0].index]).square().mean())

    def after_step(self, step: Step) -> None:
        index = step.views[0].index
        self.visits.index_add_(0, index, torch.ones_like(index))
        self.bank[index] = step.encode(step.views[0]).rows.detach()


def test_08_state_of_samples_is_found_again_in_another_order_and_saved() -> None:
    source = ArraySource(torch.randn(20, 12))
    stage = tiny_stage(Bank)
    pretrainer = Pretrainer(stage).train()
    for number in range(3):
        for batch in source.batches(Epoch(number, batch_size=5)):
            train(pretrainer, stage, batch, 1)
    assert stage.tasks[0].objective.visits.tolist() == [3] * 20
    fresh = tiny_stage(Bank).tasks[0].objective
    fresh.load_state_dict(stage.tasks[0].objective.state_dict())
    assert torch.equal(fresh.bank, stage.tasks[0].objective.bank)
    with pytest.raises(RuntimeError, match="size mismatch"):
        Bank(8, samples=21).load_state_dict(fresh.state_dict())


# 9: a second loader


class WithPool(ArraySource):
    """Every batch brings three candidates, drawn by their own order."""

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        pool = ArraySource(self.x + 100, name="pool")
        candidates = (batch for number in range(1000) for batch in pool.batches(Epoch(number, epoch.seed + 1, 3)))
        for batch in super().batches(epoch):
            batch.extras["pool"] = next(candidates)
            yield batch


class PairAndPool(NoisePair):
    gives = Gives(views=2, extras=("pool",))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = super().__call__(batch, draws)
        views.extras["pool"] = View(batch.extras["pool"].data, role="clean")
        return views


class Mining(Objective):
    needs = Needs(views=2, extras=("pool",))

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        rows, pool = step.encode(step.views[0]).rows, step.encode(step.extras["pool"]).rows
        nearest = torch.cdist(rows, pool).argmin(1)
        return Losses(mined=byol_loss(rows, pool[nearest]), total_pool=pool.square().mean())


def test_09_a_second_stream_has_its_own_sampler_and_the_first_sets_the_length() -> None:
    source = WithPool(torch.randn(20, 12))
    batches = list(source.batches(Epoch(batch_size=4)))
    assert len(batches) == source.steps(4) == 5
    assert [batch.extras["pool"].rows for batch in batches] == [3] * 5
    assert not torch.equal(batches[0].extras["pool"].index, batches[0].index[:3])
    stage = tiny_stage(Mining, PairAndPool)
    train(Pretrainer(stage).train(), stage, batches[0].to("cpu"), 1)
    with pytest.raises(UserError, match="Mining needs extra views 'pool', which NoisePair does not give"):
        tiny_stage(Mining, NoisePair)


# 11: data that follow from the model


class Online(ArraySource):
    """Shows the half of the rows that the model in training encodes as longest."""

    def __init__(self) -> None:
        super().__init__(torch.randn(16, 12), name="online")
        self.models: list[nn.Module | None] = []

    def steps(self, batch_size: int | None) -> int:
        return 1

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        self.models.append(epoch.model)
        with torch.no_grad():
            index = epoch.model.encoder.eval()(View(self.x)).rows.norm(dim=1).topk(8).indices
        epoch.model.train()
        yield Batch(self.x[index], 8, index=index)


def test_11_a_source_may_read_the_model_in_training(tmp_path: Path) -> None:
    source = Online()
    pretrain(tiny_recipe(source, VICReg(8, width=8), epochs=3), tmp_path / "run")
    assert len(source.models) == 4  # one batch to prepare with, then three epochs
    assert all(isinstance(model, Pretrainer) for model in source.models)
