"""What objectives are told before they train: one batch in `prepare`, the whole data in `before_epoch`; and that resuming keeps both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anyview.data.arrays import ArraySource
from anyview.data.source import Batch, Epoch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.folder import RunFolder
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe, Stage, Task
from anyview.testing.tiny import tiny_batch, tiny_draws, tiny_stage
from anyview.training import pretrain
from anyview.views.draws import Draws
from anyview.views.noise import NoisePair
from anyview.views.view import View, ViewSet
from tests.small_runs import stop_at

ROWS, BATCH = 48, 16
STEPS = ROWS // BATCH


class KeepsIndex(Objective):
    """Keeps a row per sample."""

    needs = Needs(views=2, index=True)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def prepare(self, views: ViewSet, samples: int) -> None:
        self.register_buffer("bank", torch.zeros(samples, self.dim))

    def forward(self, step: Step) -> Losses:
        return Losses(size=step.encode(step.views[0]).rows.square().mean())


def shown(batch: Batch) -> StepInput:
    return StepInput(batch, tiny_draws(0, batch.rows), 0, 1)


class Forgetful(NoisePair):
    """Views that do not say which samples they show."""

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([replace(view, index=None) for view in super().__call__(batch, draws).views])


def test_state_of_samples_asks_for_their_ids() -> None:
    pretrainer = Pretrainer(tiny_stage(KeepsIndex))
    pretrainer.prepare(shown(tiny_batch()), samples=30)
    assert pretrainer.objectives["KeepsIndex"].bank.shape == (30, 8)  # type: ignore[union-attr]
    without = replace(tiny_batch(), index=None)
    for maker, batch, name in ((NoisePair, without, "NoisePair"), (Forgetful, tiny_batch(), "Forgetful")):
        with pytest.raises(UserError, match=f"KeepsIndex keeps something for each sample, and the views of {name} do not say"):
            Pretrainer(tiny_stage(KeepsIndex, maker)).prepare(shown(batch), samples=30)
    Pretrainer(tiny_stage(functools.partial(Counts, log=[]))).prepare(shown(without), samples=30)  # who needs none gets along


class Counts(Objective):
    """Notes when it is called."""

    needs = Needs(views=2)

    def __init__(self, dim: int, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def prepare(self, views: ViewSet, samples: int) -> None:
        self.log.append(f"prepare {len(views.views)} views of {len(views.views[0].data)}, {samples} samples")
        self.scale = nn.Parameter(torch.ones(()))

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        self.log.append(f"before epoch {epoch}")

    def forward(self, step: Step) -> Losses:
        self.log.append(f"step {step.number}")
        return Losses(size=self.scale * step.encode(step.views[0]).rows.square().mean())

    def after_step(self, step: Step) -> None:
        self.log.append("after step")


def test_the_order_of_calls_and_what_is_made_in_prepare_is_trained(tmp_path: Path) -> None:
    log: list[str] = []
    made = recipe(functools.partial(Counts, log=log), epochs=2)
    pretrain(made, tmp_path / "run")
    steps = [word for number in range(2 * STEPS) for word in (f"step {number}", "after step")]
    first, second = steps[: 2 * STEPS], steps[2 * STEPS :]
    assert log == [f"prepare 2 views of {BATCH}, {ROWS} samples", "before epoch 0", *first, "before epoch 1", *second]
    assert float(made.stages[0].tasks[0].objective.scale.detach()) != 1.0  # type: ignore[operator,union-attr]


class Looks(Objective):
    """Says what it is shown before an epoch."""

    needs = Needs(views=2)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seen: list[list[tuple[Tensor, Tensor]]] = []
        self.gradient: list[bool] = []

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        for _ in range(2):
            self.seen.append([(step.views[0].index, step.views[0].data) for step in look()])
        self.gradient += [step.encode(step.views[0]).rows.requires_grad for step in look()]

    def forward(self, step: Step) -> Losses:
        return Losses(size=step.encode(step.views[0]).rows.square().mean())


def test_a_look_shows_every_batch_of_the_epoch_anew_and_alike_each_time_it_is_taken(tmp_path: Path) -> None:
    made = recipe(Looks, epochs=2)
    pretrain(made, tmp_path / "run")
    objective = made.stages[0].tasks[0].objective
    assert isinstance(objective, Looks)
    first, again, other, _ = objective.seen
    assert torch.cat([index for index, _ in first]).sort().values.tolist() == list(range(ROWS))
    assert all(torch.equal(one, two) for pair in zip(first, again, strict=True) for one, two in zip(*pair, strict=True))
    assert not torch.equal(first[0][1], other[0][1])
    assert objective.gradient == [False] * (2 * STEPS)


class Dropping(Encoder):
    """Dropout and batch norm: both would tell whether looks and steps take the same random numbers after a resume."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Linear(12, dim), nn.BatchNorm1d(dim), nn.Dropout(0.5))

    def forward(self, view: View) -> Encoding:
        return Encoding(self.layers(view.data))


class Assigns(Objective):
    """Before each epoch, a bank of all rows and random centres among them; steps pull rows to their sample's centre."""

    needs = Needs(views=2, index=True)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def prepare(self, views: ViewSet, samples: int) -> None:
        self.project = nn.Linear(self.dim, 4)
        self.register_buffer("bank", torch.zeros(samples, 4))
        self.register_buffer("centres", torch.zeros(3, 4))
        self.register_buffer("labels", torch.zeros(samples, dtype=torch.long))

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        for step in look():
            self.bank[step.views[0].index] = self.project(step.encode(step.views[0]).rows)
        self.centres.copy_(self.bank[torch.randperm(len(self.bank))[:3]])
        self.labels.copy_(torch.cdist(self.bank, self.centres).argmin(1))

    def forward(self, step: Step) -> Losses:
        target = self.centres[self.labels[step.views[0].index]]
        return Losses(distance=(self.project(step.encode(step.views[0]).rows) - target).square().mean())

    def after_step(self, step: Step) -> None:
        with torch.no_grad():
            self.centres.mul_(0.9).add_(0.1 * self.project(step.encode(step.views[1]).rows).mean(0))


def recipe(make_objective: Callable[[int], Objective], *, epochs: int) -> Recipe:
    torch.manual_seed(0)
    source = ArraySource(torch.randn(ROWS, 12, generator=torch.Generator().manual_seed(1)), name="noise")
    encoder = Dropping()
    sgd = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    stage = Stage([Task(NoisePair(0.3), make_objective(8))], encoder, epochs=epochs, batch_size=BATCH, optimizer=sgd)
    return Recipe(source=source, stages=[stage], embedder=encoder)


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("whole") / "run"
    pretrain(recipe(Assigns, epochs=4), folder)
    return RunFolder(folder)


@pytest.mark.parametrize("stop", [1, STEPS, STEPS + 1, 3 * STEPS - 1, 3 * STEPS])
def test_a_run_resumes_to_the_same_bits_at_an_epoch_s_end_and_within_one(tmp_path: Path, never_stopped: RunFolder, stop: int) -> None:
    stop_at(recipe(Assigns, epochs=4), tmp_path / "run", stop)
    saved = RunFolder(tmp_path / "run").load_checkpoint()
    assert saved is not None
    assert saved["step"] == stop
    pretrain(recipe(Assigns, epochs=4), tmp_path / "run", resume=True)
    resumed = RunFolder(tmp_path / "run")
    assert resumed.encoder_file.read_bytes() == never_stopped.encoder_file.read_bytes()
    assert [line["loss"] for line in resumed.metrics()] == [line["loss"] for line in never_stopped.metrics()]
    ours, theirs = resumed.load_checkpoint(), never_stopped.load_checkpoint()
    assert ours is not None
    assert theirs is not None
    assert {"0.objectives.Assigns.bank", "0.objectives.Assigns.centres", "0.objectives.Assigns.project.weight"} <= ours["modules"].keys()
    for name, value in theirs["modules"].items():
        assert torch.equal(ours["modules"][name], value), name


def test_another_epoch_order_would_be_noticed() -> None:
    """The bank differs between epochs, so that the test above could fail."""
    source = ArraySource(torch.randn(ROWS, 12))
    orders = [torch.cat([batch.index for batch in source.batches(Epoch(number, batch_size=BATCH))]) for number in range(2)]
    assert not torch.equal(*orders)
