"""Sixteen places where simple designs break, one test (or more) each."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import anyview
from anyview.combiners.mgda import MGDA
from anyview.data.arrays import ArraySource
from anyview.data.source import Batch, Epoch
from anyview.encoders.encoder import Encoder, Encoding, Streams, Wrapped
from anyview.encoders.mlp import MLP
from anyview.encoders.moving_average import MovingAverage
from anyview.encoders.norm import BatchNorm
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins, barlow_twins_loss
from anyview.objectives.byol import BYOL, byol_loss
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import VICReg, vicreg_loss
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe, Stage, Task, recipe
from anyview.testing import check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import TinyTokens, sgd, tiny_draws
from anyview.training import TrainingStoppedError, pretrain
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.mask import MaskRows, MaskTokens, hide_tokens
from anyview.views.mix import mix, partners
from anyview.views.noise import NoisePair
from anyview.views.view import Mask, View, ViewSet


def train(pretrainer: Pretrainer, stage: Stage, batch: Batch, steps: int) -> list[float]:
    optimizer = stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad])
    totals = []
    for step in range(steps):
        optimizer.zero_grad()
        total = pretrainer(StepInput(batch, tiny_draws(step, batch.rows), step, steps)).total
        total.backward()
        optimizer.step()
        pretrainer.after_step(step + 1, steps)
        totals.append(float(total.detach()))
    return totals


# 1: one graph is the whole batch


class Rebuild(Objective):
    """Guess the features of hidden rows from the encoder's."""

    needs = Needs(masks=True, targets=True)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.decode = nn.Linear(dim, 12)
        self.hidden: list[Tensor] = []

    def forward(self, step: Step) -> Losses:
        view = step.views[0]
        hidden = view.mask.hidden
        self.hidden.append(hidden)
        return Losses(error=(self.decode(step.encode(view).rows) - view.target)[hidden].square().sum() / hidden.sum().clamp_min(1))


def test_01_one_object_as_every_batch_is_seen_anew_each_step() -> None:
    """The loader gives the same rows in each step; masks are of rows, are drawn again, and no encoding is kept from the step before."""
    stage = tiny_stage(Rebuild, partial(MaskRows, 0.5))
    pretrainer = Pretrainer(stage).train()
    batch = tiny_batch()
    before = batch.data.clone()
    totals = train(pretrainer, stage, batch, 4)
    hidden = torch.stack(stage.tasks[0].objective.hidden)
    assert hidden.sum(1).tolist() == [6, 6, 6, 6]
    assert len(hidden.unique(dim=0)) > 1
    assert len(set(totals)) == 4
    assert torch.equal(batch.data, before)


# 2: masked reconstruction after tokens were dropped or replaced


def test_02_rebuilding_works_whether_hidden_tokens_are_dropped_or_replaced() -> None:
    view = MaskTokens(0.5)(tiny_batch(tokens=True), tiny_draws(0, 12)).views[0]
    mask, width = view.mask, view.target.shape[2]
    dropped = view.target.take_along_dim(mask.kept[..., None], 1)
    assert dropped.shape == (12, 3, width)
    token = torch.full((1, 1, width), 9.0)
    padded = torch.cat([dropped, token.expand(12, 3, width)], 1)
    rebuilt = padded.take_along_dim(mask.restore[..., None], 1)
    replaced = torch.where(mask.replaced[..., None], token, view.target)
    assert torch.equal(rebuilt, replaced)
    assert torch.equal(rebuilt[~mask.hidden], view.target[~mask.hidden])


# 3: views of different shape


class TwoStreams(ViewMaker):
    gives = Gives(views=2)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(batch.data, stream="time"), View(torch.fft.rfft(batch.data).abs(), stream="fourier")])


def two_encoders() -> Streams:
    return Streams({"time": Wrapped(nn.Linear(12, 8), 8), "fourier": Wrapped(nn.Linear(7, 8), 8)})


def test_03_views_of_different_shape_have_an_encoder_each() -> None:
    stage = tiny_stage(partial(VICReg, width=8), TwoStreams, two_encoders)
    train(Pretrainer(stage).train(), stage, tiny_batch(), 1)
    assert all(parameter.grad is not None for parameter in stage.encoder.parameters())


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


# 5: encodings that are more than a vector


@dataclass(slots=True)
class Capsules(Encoding):
    poses: Tensor | None = None


class CapsuleEncoder(Encoder):
    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.activation, self.pose = nn.Linear(12, 4), nn.Linear(12, 4 * 9)

    def forward(self, view: View) -> Capsules:
        return Capsules(self.activation(view.data).softmax(1), poses=self.pose(view.data).view(-1, 4, 3, 3))


class Poses(Objective):
    needs = Needs(views=2)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        a, b = (step.encode(view) for view in step.views)
        return Losses(activation=byol_loss(a.rows, b.rows), pose=(a.poses - b.poses).square().mean())


def test_05_an_encoder_s_own_fields_reach_the_objective() -> None:
    stage = tiny_stage(Poses, make_encoder=CapsuleEncoder)
    train(Pretrainer(stage).train(), stage, tiny_batch(), 1)
    assert float(stage.encoder.pose.weight.grad.abs().max()) > 0
    assert torch.allclose(stage.encoder(View(tiny_batch().data)).rows.sum(1), torch.ones(12))


# 6: sequences of views


class Walk(Objective):
    """Encode all T views of a walk in one pass, regroup, predict the last from the others and the actions between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.act, self.predict = nn.Linear(2, dim), nn.Linear(dim, dim)
        self.seen: list[Tensor] = []

    def forward(self, step: Step) -> Losses:
        walk = step.views[0]
        samples, length = walk.data.shape[:2]
        flat = step.encode(View(walk.data.flatten(0, 1), stream=walk.stream))
        rows = flat.rows.unflatten(0, (samples, length))
        self.seen.append(rows)
        actions = walk.params["actions"].unflatten(1, (length, 2)).clone()
        actions[:, -1] = 0
        context = (rows + self.act(actions))[:, :-1].mean(1)
        return Losses(distance=byol_loss(self.predict(context), rows[:, -1]))


class Walks(ViewMaker):
    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        walk = batch.data[:, None] + draws.normal(self.length, 12)
        return ViewSet([View(walk, params={"actions": draws.normal(2 * self.length)})])


@pytest.mark.parametrize("length", [2, 5])
def test_06_sequences_are_encoded_flat_and_regrouped(length: int) -> None:
    stage = tiny_stage(Walk, partial(Walks, length), partial(LinearRows, 12))
    totals = train(Pretrainer(stage).train(), stage, tiny_batch(), 1)
    stage = tiny_stage(Walk, partial(Walks, length), partial(LinearRows, 12))
    walk = Walks(length)(tiny_batch(), tiny_draws(0, 12)).views[0].data
    one_by_one = torch.stack([stage.encoder(View(walk[:, position])).rows for position in range(length)], 1)
    objective = stage.tasks[0].objective
    Pretrainer(stage).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1))
    torch.testing.assert_close(objective.seen[0], one_by_one)
    assert totals[0] > 0


class LinearRows(Wrapped):
    def __init__(self, features: int) -> None:
        super().__init__(nn.Linear(features, 8), 8)


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


def tiny_recipe(source: ArraySource, objective: Objective, epochs: int) -> Recipe:
    @recipe()
    def tiny() -> Recipe:
        torch.manual_seed(0)
        encoder = MLP(12, hidden=10, dim=8, layers=2)
        return Recipe(source, [Stage([Task(NoisePair(), objective)], encoder, epochs=epochs, optimizer=sgd)], encoder)

    return tiny()


def test_11_a_source_may_read_the_model_in_training(tmp_path: Path) -> None:
    source = Online()
    pretrain(tiny_recipe(source, VICReg(8, width=8), epochs=3), tmp_path / "run")
    assert len(source.models) == 3
    assert all(isinstance(model, Pretrainer) for model in source.models)


# 12: differential privacy


@pytest.mark.parametrize(("objective", "couples"), [(BarlowTwins(8, width=8), True), (VICReg(8, width=8), True), (Rebuild(8), False)])
def test_12_objectives_say_whether_a_sample_has_a_gradient_of_its_own(objective: Objective, couples: bool) -> None:
    views = MaskTokens() if objective.needs.masks else NoisePair()
    encoder = TinyTokens(12, 8)
    stage = Stage([Task(views, objective)], encoder, epochs=1, optimizer=sgd)
    assert Recipe(ArraySource(torch.zeros(2, 2)), [stage], encoder).couples_rows is couples


def test_12_batch_norm_is_known_by_its_class() -> None:
    assert any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in BYOL(8, hidden=8, width=4).modules())


# 13: objectives that encode views of their own making


class Mixing(Objective):
    needs = Needs(views=1, couples_rows=True)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        view = step.views[0]
        partner = partners(step.draws)
        mixed = View(mix(view.data, view.data[partner], 0.25), stream=view.stream)
        rows, between = step.encode(view).rows, step.encode(mixed).rows
        return Losses(line=(between - mix(rows, rows[partner], 0.25)).square().mean(), scale=(rows.norm(dim=1) - 1).square().mean())


def test_13_objectives_encode_what_they_mix() -> None:
    stage = tiny_stage(Mixing, make_encoder=partial(LinearRows, 12))
    losses = Pretrainer(stage).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1))
    assert float(losses["line"].detach()) < 1e-10  # a linear encoder keeps straight lines
    curved = tiny_stage(Mixing)
    losses = Pretrainer(curved).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1))
    assert float(losses["line"].detach()) > 1e-4
    losses["line"].backward()
    assert float(curved.encoder.last.weight.grad.abs().max()) > 0


# 14: one backward per term, heads with gradients of their own


def test_14_heads_keep_their_own_weighted_gradients() -> None:
    def stage_of(combiner: MGDA | None) -> Stage:
        torch.manual_seed(0)
        encoder = LinearRows(12)
        views = NoisePair(0.3)
        tasks = [Task(views, VICReg(8, width=6)), Task(views, BarlowTwins(8, width=6))]
        return Stage(tasks, encoder, epochs=1, optimizer=sgd, combiner=combiner or MGDA())

    def gradients(name: str | None) -> tuple[dict[str, Tensor], dict[str, float]]:
        stage = stage_of(MGDA())
        pretrainer = Pretrainer(stage).train()
        losses = pretrainer.by_task(pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1)))
        weights: dict[str, float] = {}
        if name is None:
            weights = stage.combiner.backward(losses, list(stage.encoder.parameters()), torch.Tensor.backward, torch.Generator())
        else:
            losses[name].backward()
        return {n: p.grad for n, p in pretrainer.named_parameters() if p.grad is not None}, weights

    combined, weights = gradients(None)
    assert set(weights) == {"VICReg", "BarlowTwins"}
    assert sum(weights.values()) == pytest.approx(1.0)
    each = {name: gradients(name)[0] for name in weights}
    for name, gradient in combined.items():
        parts = [weights[task] * each[task][name] for task in weights if name in each[task]]
        assert len(parts) == (2 if name.startswith("encoder") else 1)
        torch.testing.assert_close(gradient, torch.stack(parts).sum(0), rtol=1e-4, atol=1e-6)


# 15: degenerate inputs

LOSSES = {"barlow_twins": barlow_twins_loss, "vicreg": vicreg_loss, "byol": byol_loss}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", ["a constant column", "all rows equal", "duplicates", "all nought"])
def test_15_degenerate_rows_give_finite_losses_and_gradients(name: str, case: str) -> None:
    a, b = torch.randn(2, 6, 9)
    if case == "a constant column":
        a[:, 0], b[:, 0] = 3.0, 3.0
    if case == "all rows equal":
        a[:], b[:] = a[0], b[0]
    if case == "duplicates":
        a[3:], b[3:] = a[:3], b[:3]
    if case == "all nought":
        a[:], b[:] = 0.0, 0.0
    a.requires_grad_()
    loss = LOSSES[name](a, b)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(a.grad.isfinite().all())


def test_15_one_row_is_finite_or_a_clear_error() -> None:
    row = torch.randn(1, 4)
    assert float(barlow_twins_loss(row, row)) == 4.0
    assert float(byol_loss(row, row)) == pytest.approx(0.0, abs=1e-6)
    for refuse, phrase in ((lambda: vicreg_loss(row, row), "at least two rows"), (lambda: BatchNorm(4)(row), "more than one row")):
        with pytest.raises(ValueError, match=phrase):
            refuse()


@pytest.mark.parametrize(("rate", "hidden"), [(0.0, 0), (1.0, 12)])
def test_15_masks_that_hide_nothing_or_everything(rate: float, hidden: int) -> None:
    stage = tiny_stage(Rebuild, partial(MaskRows, rate))
    totals = train(Pretrainer(stage).train(), stage, tiny_batch(), 2)
    assert int(stage.tasks[0].objective.hidden[0].sum()) == hidden
    assert all(total == total for total in totals)
    mask = Mask(hide_tokens(tiny_draws(0, 3), 4, rate))
    assert mask.kept.shape == (3, 4 - round(rate * 4))
    assert mask.restore.tolist() == [[0, 1, 2, 3]] * 3


class Breaking(Objective):
    needs = Needs(views=2)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        rows = step.encode(step.views[0]).rows
        return Losses(calm=rows.square().mean(), wild=rows.mean() / (0.0 if step.number == 2 else 1.0))


def test_15_a_loss_that_leaves_the_finite_numbers_stops_the_run_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError, match=r"'wild' became .*inf at step 3"):
        pretrain(tiny_recipe(ArraySource(torch.randn(16, 12)), Breaking(8), epochs=5), tmp_path / "run")


# 16: several ranks


@pytest.mark.parametrize("make", [partial(BarlowTwins, width=20), partial(VICReg, width=20), partial(BYOL, hidden=12, width=6)])
def test_16_several_ranks_train_as_one(make: partial[Objective]) -> None:
    check_rank_exact(make, ranks=2, rows=10)


def test_16_one_process_needs_no_group() -> None:
    assert not torch.distributed.is_initialized()
    stage = tiny_stage(partial(BarlowTwins, width=8))
    assert len(train(Pretrainer(stage).train(), stage, tiny_batch(), 2)) == 2


def test_16_one_module_speaks_to_torch_distributed() -> None:
    """The checks that start processes and compare them are the only others."""
    package = Path(anyview.__file__).parent
    speakers = {
        path.relative_to(package)
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) torch\.distributed", path.read_text(), re.M)
    }
    assert speakers - {Path("testing/processes.py")} == {Path("distributed.py")}
