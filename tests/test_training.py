"""The loop: exact resuming, exact ranks, stops, schedules, stages, combiners."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from anyview.combiners.mgda import MGDA
from anyview.combiners.pcgrad import PCGrad
from anyview.combiners.weighted_sum import WeightedSum
from anyview.data.arrays import ArraySource
from anyview.encoders.encoder import Encoder
from anyview.encoders.mlp import MLP
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError
from anyview.folder import RunFolder
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.byol import BYOL
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import VICReg
from anyview.recipe import Recipe, Stage, Task
from anyview.run import build
from anyview.schedules import Cosine
from anyview.training import TrainingStoppedError, pretrain, steps_of
from anyview.views.noise import NoisePair
from tests.command import SMALL, anyview, settings, start

SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def rows(count: int = 96, features: int = 12) -> ArraySource:
    return ArraySource(torch.randn(count, features, generator=torch.Generator().manual_seed(3)), name="noise")


def recipe(*objectives: Objective, epochs: int = 3, source: ArraySource | None = None, **stage: object) -> Recipe:
    """Objectives on noisy pairs of rows, over one small MLP."""
    source = source or rows()
    encoder = MLP(source.shape["features"], hidden=16, dim=8, layers=2)
    views = NoisePair(0.3)
    tasks = [Task(views, objective, name=f"task{number}" if len(objectives) > 1 else "") for number, objective in enumerate(objectives)]
    options = {"batch_size": 32, "optimizer": SGD, **stage}
    return Recipe(source=source, stages=[Stage(tasks=tasks, encoder=encoder, epochs=epochs, **options)], embedder=encoder)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "encoder.safetensors")


def assert_same_bits(first: Path, second: Path) -> None:
    assert (first / "encoder.safetensors").read_bytes() == (second / "encoder.safetensors").read_bytes()


class NaNAfter(Objective):
    """A loss that is NaN from a step on."""

    needs = Needs(views=2)

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, step: Step) -> Losses:
        loss = step.encode(step.views[0]).rows.square().mean()
        return Losses(broken=loss * (float("nan") if step.number >= self.step else 1.0))


BYOL_FLAGS = ["core/pair", *SMALL, "--objective", "core/byol", "--epochs", "30", "--checkpoint-every", "5", "--log-every", "1"]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a teacher, batch norm and momentum, from its first step to its last."""
    folder = tmp_path_factory.mktemp("whole")
    done = anyview("pretrain", *BYOL_FLAGS, "--out", "whole", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "whole"


@pytest.mark.parametrize("trial", range(3))
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, never_stopped: Path, trial: int) -> None:
    process = start("pretrain", *BYOL_FLAGS, "--out", "killed", folder=tmp_path)
    stop_after = random.Random(trial + int(time.time())).randint(1, 150)
    kill_at_step(process.pid, tmp_path / "killed", stop_after)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "encoder.safetensors").exists()
    resumed = anyview("pretrain", "--resume", "--out", "killed", "--log-every", "1", folder=tmp_path)
    assert resumed.returncode == 0, f"killed after step {stop_after}: {resumed.stderr}"
    assert_same_bits(never_stopped, tmp_path / "killed")
    losses = [[(line["step"], line["loss"]) for line in RunFolder(folder).metrics()] for folder in (never_stopped, tmp_path / "killed")]
    assert losses[0] == losses[1]


def kill_at_step(process: int, folder: Path, step: int) -> None:
    """kill -9 as soon as the metrics have reached `step`."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        logged = RunFolder(folder).metrics()
        if logged and logged[-1]["step"] >= step:
            os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.002)
    raise AssertionError("the run did not reach the step")


def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    """The command line's own digits recipe, its default objective and precision, 21 steps."""
    for out, devices in (("one", "1"), ("two", "2")):
        done = anyview("pretrain", "core/pair", "--data", "digits", "--epochs", "3", "--devices", devices, "--out", out, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert json.loads((tmp_path / "one" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 21
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5)
    logged = [RunFolder(tmp_path / out).metrics()[-1] for out in ("one", "two")]
    assert logged[0]["rankme"] == pytest.approx(logged[1]["rankme"], rel=1e-4)


def test_a_seed_decides_everything(tmp_path: Path) -> None:
    for out, seed in (("first", 1), ("again", 1), ("other", 2)):
        pretrain("core/pair", tmp_path / out, seed=seed, epochs=1, hidden=16, dim=8)
    assert_same_bits(tmp_path / "first", tmp_path / "again")
    assert not torch.equal(weights(tmp_path / "first")["last.weight"], weights(tmp_path / "other")["last.weight"])


def test_training_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain("core/pair", tmp_path / "run", epochs=1, hidden=16, dim=8)
    assert torch.equal(torch.rand(3), expected)


def test_nan_stops_the_run_names_the_term_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError, match=r"'broken' became nan at step 6; the checkpoint '.*step-000000004.pt' is kept"):
        pretrain(recipe(NaNAfter(5)), tmp_path / "run", checkpoint_every=2)
    folder = RunFolder(tmp_path / "run")
    saved = folder.load_checkpoint()
    assert saved is not None
    assert saved["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved["modules"].values() if value.is_floating_point())
    assert not folder.encoder_file.exists()


def test_nan_is_one_sentence_also_from_two_processes(tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError, match="'broken' became nan at step 2"):
        pretrain(recipe(NaNAfter(1)), tmp_path / "run", devices=2, accelerator="cpu")


@pytest.mark.parametrize("devices", ["1", "2"])
def test_sigterm_finishes_the_step_saves_and_leaves(tmp_path: Path, devices: str) -> None:
    flags = ["core/pair", *SMALL, "--epochs", "40", "--devices", devices]
    process = start("pretrain", *flags, "--out", "stopped", folder=tmp_path)
    while len(RunFolder(tmp_path / "stopped").metrics()) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    _, error = process.communicate()
    assert process.returncode == 130
    assert "go on with --resume" in error
    assert anyview("pretrain", "--resume", "--out", "stopped", "--devices", devices, folder=tmp_path).returncode == 0
    assert anyview("pretrain", *flags, "--out", "whole", folder=tmp_path).returncode == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


def test_a_collapse_is_warned_of_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Shrink(Objective):
        needs = Needs(views=2)

        def forward(self, step: Step) -> Losses:
            rows = step.encode(step.views[0]).rows
            return Losses(distance=(rows - 1.0).square().mean())

    pretrain(recipe(Shrink(), epochs=60), tmp_path / "run", quiet=False)
    assert any(line.get("collapse") for line in RunFolder(tmp_path / "run").metrics())
    assert "collaps" in capsys.readouterr().err


def test_learning_rate_follows_the_schedule_and_survives_resuming(tmp_path: Path) -> None:
    made = recipe(BarlowTwins(8, width=16), epochs=4, schedule=Cosine(warmup=4))
    pretrain(made, tmp_path / "run", log_every=1)
    schedule = Cosine(warmup=4)
    expected = [0.05 * schedule(step, 12) for step in range(12)]
    assert [line["lr"] for line in RunFolder(tmp_path / "run").metrics()] == pytest.approx(expected)


def test_accumulation_of_an_uncoupled_loss_is_the_larger_batch(tmp_path: Path) -> None:
    class Distance(Objective):
        needs = Needs(views=2)

        def forward(self, step: Step) -> Losses:
            first, second = (step.encode(view).rows for view in step.views)
            return Losses(distance=(first - second.detach() - 1.0).square().mean())

    class Linear(Encoder):
        dim = 4

        def __init__(self) -> None:
            super().__init__()
            self.map = torch.nn.Linear(12, 4)

        def forward(self, view):  # type: ignore[no-untyped-def]
            from anyview.encoders.encoder import Encoding

            return Encoding(self.map(view.data))

    class Fixed(ArraySource):
        """The same rows in the same order at every epoch, so that two small batches hold what a large one holds."""

        def batches(self, epoch):  # type: ignore[no-untyped-def]
            size = epoch.batch_size
            for number in range(epoch.skip, self.steps(size)):
                yield self._batch(torch.arange(number * size, (number + 1) * size), 0, size)

    source = Fixed(rows().x)
    finals = []
    for batch_size, accumulate in ((32, 1), (16, 2)):
        torch.manual_seed(0)
        encoder = Linear()
        stage = Stage(
            tasks=[Task(NoisePair(0.0), Distance())],
            encoder=encoder,
            epochs=2,
            batch_size=batch_size,
            accumulate=accumulate,
            optimizer=SGD,
        )
        assert steps_of(stage, source) == 6
        pretrain(Recipe(source=source, stages=[stage], embedder=encoder), tmp_path / f"run{accumulate}")
        finals.append(encoder.map.weight.detach().clone())
    torch.testing.assert_close(finals[0], finals[1])


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    made = recipe(BarlowTwins(8, width=16), epochs=1, clip=1e-3, optimizer=functools.partial(torch.optim.SGD, lr=1.0), batch_size=96)
    before = {name: value.clone() for name, value in made.embedder.named_parameters()}
    pretrain(made, tmp_path / "run")
    moved = sum(float((value - before[name]).square().sum()) for name, value in made.embedder.named_parameters()) ** 0.5
    assert 0 < moved <= 1e-3 * 1.001


@pytest.mark.parametrize("combiner", [WeightedSum(), MGDA(), PCGrad()])
def test_combiners_train_two_tasks_and_log_their_weights(tmp_path: Path, combiner: object) -> None:
    made = recipe(BarlowTwins(8, width=16), VICReg(8, width=16), combiner=combiner)
    before = made.embedder.last.weight.clone()  # type: ignore[union-attr,operator]
    pretrain(made, tmp_path / "run", log_every=1)
    line = RunFolder(tmp_path / "run").metrics()[-1]
    assert {"loss/task0/barlow_twins", "loss/task1/variance", "weight/task0", "weight/task1"} <= set(line)
    if isinstance(combiner, MGDA):
        assert line["weight/task0"] + line["weight/task1"] == pytest.approx(1.0)
    assert not torch.equal(made.embedder.last.weight, before)  # type: ignore[arg-type]


def test_stages_follow_each_other_and_frozen_modules_stay(tmp_path: Path) -> None:
    source = rows()
    torch.manual_seed(0)
    encoder = MLP(12, hidden=16, dim=8, layers=2)
    first = Stage([Task(NoisePair(0.3), BarlowTwins(8, width=16))], encoder, epochs=2, batch_size=32, optimizer=SGD, name="encoder")
    head = BarlowTwins(8, width=16)
    second = Stage([Task(NoisePair(0.3), head)], encoder, epochs=2, batch_size=32, optimizer=SGD, frozen=[encoder], name="head")
    made = Recipe(source=source, stages=[first, second], embedder=encoder)
    before = head.project[0].weight.clone()  # type: ignore[union-attr,operator,index]
    untrained = encoder.last.weight.clone()
    pretrain(made, tmp_path / "run", log_every=1)
    lines = RunFolder(tmp_path / "run").metrics()
    assert [line["stage"] for line in lines] == ["encoder"] * 6 + ["head"] * 6
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert not torch.equal(head.project[0].weight, before)  # type: ignore[union-attr,arg-type,index]
    saved = torch.load(sorted((tmp_path / "run" / "checkpoint").iterdir())[0], weights_only=True)
    after_first = {name.removeprefix("0.encoder."): value for name, value in saved["modules"].items() if name.startswith("0.encoder.")}
    assert saved["stage"] == 0
    assert not torch.equal(after_first["last.weight"], untrained)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, after_first[name])


def test_a_run_killed_between_stages_resumes(tmp_path: Path) -> None:
    def made() -> Recipe:
        torch.manual_seed(0)
        encoder = MLP(12, hidden=16, dim=8, layers=2)
        stages = [
            Stage([Task(NoisePair(0.3), BarlowTwins(8, width=16))], encoder, epochs=2, batch_size=32, optimizer=SGD, name="first"),
            Stage([Task(NoisePair(0.3), BYOL(8, hidden=16, width=8))], encoder, epochs=2, batch_size=32, optimizer=SGD, name="second"),
        ]
        return Recipe(source=rows(), stages=stages, embedder=encoder)

    pretrain(made(), tmp_path / "whole")
    for step in (6, 8):  # the first stage's last step, and the second's second
        stop_at(made(), tmp_path / f"part{step}", step)
        pretrain(made(), tmp_path / f"part{step}", resume=True)
        assert_same_bits(tmp_path / "whole", tmp_path / f"part{step}")


def stop_at(recipe: Recipe, folder: Path, step: int) -> None:
    """Train with a checkpoint at every step, and end after `step` as a stop signal would."""
    original = RunFolder.save_checkpoint

    def save(self: RunFolder, state: dict[str, object], number: int) -> None:
        original(self, state, number)
        if number == step:
            raise UserError("stopped here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", save)
        with pytest.raises(UserError, match="stopped here"):
            pretrain(recipe, folder, checkpoint_every=1)


def test_a_recipe_that_needs_more_than_its_views_give_is_refused() -> None:
    class NeedsMasks(Objective):
        needs = Needs(views=3, masks=True)

    with pytest.raises(UserError, match=r"NeedsMasks needs 3 views .*masked views, which NoisePair does not give"):
        recipe(NeedsMasks())


def test_loggers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    pretrain(build("core/pair", {"epochs": 1, "hidden": 16, "dim": 8}), tmp_path / "run", loggers=("csv", "tensorboard"), log_every=2)
    assert "rankme" in next((tmp_path / "run" / "logs" / "csv").rglob("metrics.csv")).read_text()
    assert list((tmp_path / "run" / "logs" / "tensorboard").rglob("events.out.tfevents*"))
    with pytest.raises(UserError, match="no logger 'excel'"):
        pretrain(build("core/pair", {"epochs": 1}), tmp_path / "other", loggers=("excel",))


def test_mixed_precision_trains(tmp_path: Path) -> None:
    run = pretrain("core/pair", tmp_path / "run", epochs=1, hidden=16, dim=8, precision="bf16-mixed")
    assert all(torch.isfinite(value).all() for value in weights(run.folder.path).values())


def test_the_run_in_memory_is_the_run_on_disk_after_several_processes(tmp_path: Path) -> None:
    run = pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run", devices=2, accelerator="cpu")
    for name, value in run.embedder.state_dict().items():
        assert torch.equal(value, weights(tmp_path / "run")[name])


@pytest.mark.parametrize("combiner", [MGDA(), PCGrad()])
def test_combiners_work_in_mixed_precision(tmp_path: Path, combiner: object) -> None:
    made = recipe(BarlowTwins(8, width=16), VICReg(8, width=16), combiner=combiner)
    pretrain(made, tmp_path / "run", precision="bf16-mixed")
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_a_nan_gradient_is_not_saved(tmp_path: Path) -> None:
    class BadGradient(Objective):
        needs = Needs(views=2)

        def forward(self, step: Step) -> Losses:
            rows = step.encode(step.views[0]).rows
            return Losses(root=(rows - rows.detach()).square().sum().sqrt() + rows.mean())

    for clip in (None, 1.0):
        with pytest.raises(TrainingStoppedError, match=r"NaN or infinite by step 1, .*no checkpoint had been written|became nan"):
            pretrain(recipe(BadGradient(), clip=clip), tmp_path / f"run{clip}", checkpoint_every=1)
        assert not RunFolder(tmp_path / f"run{clip}").checkpoints()


def test_a_frozen_teacher_stays_as_it_is(tmp_path: Path) -> None:
    class Distil(Objective):
        needs = Needs(views=2)

        def forward(self, step: Step) -> Losses:
            seen, target = step.encode(step.views[0]).rows, step.encode(step.views[1], teacher=True).rows
            return Losses(distance=(seen - target).square().mean())

    source = rows()
    encoder = MLP(12, hidden=16, dim=8, layers=2)
    teacher = MovingAverage(MLP(12, hidden=16, dim=8, layers=2))
    before = teacher.module.last.weight.clone()  # type: ignore[union-attr,operator]
    stage = Stage([Task(NoisePair(0.1), Distil(), teacher=teacher)], encoder, epochs=1, batch_size=32, optimizer=SGD)
    pretrain(Recipe(source=source, stages=[stage], embedder=encoder), tmp_path / "run")
    assert torch.equal(teacher.module.last.weight, before)  # type: ignore[union-attr,arg-type]


def test_what_cannot_be_carried_out_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run")
    before = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    for wrong in ({"devices": 0}, {"checkpoint_every": 0}, {"log_every": -1}, {"seed": -1}, {"precision": "8"}, {"accelerator": "abacus"}):
        with pytest.raises(UserError):
            pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run", overwrite=True, **wrong)  # type: ignore[arg-type]
    bad_rate = functools.partial(torch.optim.SGD, lr=-1.0)
    with pytest.raises(UserError, match="refuses its settings"):
        pretrain(recipe(BarlowTwins(8, width=16), optimizer=bad_rate), tmp_path / "run", overwrite=True)
    with pytest.raises(UserError, match="compares or normalises over rows"):
        pretrain(recipe(BarlowTwins(8, width=16), batch_size=1), tmp_path / "run", overwrite=True)
    with pytest.raises(UserError, match="takes no epochs"):
        pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run", overwrite=True, epochs=3)
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == before


def test_torchrun(tmp_path: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "anyview", "pretrain", "core/pair"]
    flags = ["--data", "digits", "--epochs", "1", "--accelerator", "cpu"]
    done = subprocess.run(
        [sys.executable, *words, *flags, "--out", "two"], cwd=tmp_path, env=settings(None), capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert anyview("pretrain", "core/pair", *flags, "--out", "one", folder=tmp_path).returncode == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5)
    assert len(RunFolder(tmp_path / "two").metrics()) == 7
