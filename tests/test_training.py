"""The loop: seeds, schedules, stages, combiners, and what stops it."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

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
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import VICReg
from anyview.recipe import Recipe, Stage, Task
from anyview.schedules import Cosine
from anyview.training import TrainingStoppedError, pretrain
from anyview.views.noise import NoisePair
from tests.small_runs import SGD, NaNAfter, assert_same_bits, recipe, rows, weights


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
        assert stage.steps(source) == 6
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


def test_a_recipe_that_needs_more_than_its_views_give_is_refused() -> None:
    class NeedsMasks(Objective):
        needs = Needs(views=3, masks=True)

    with pytest.raises(UserError, match=r"NeedsMasks needs 3 views .*masked views, which NoisePair does not give"):
        recipe(NeedsMasks())


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


def test_a_watcher_sees_the_encoder_after_each_pass_and_changes_nothing(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def watch(epoch: int, encoder: Encoder) -> None:
        assert not encoder.training
        assert not torch.is_grad_enabled()
        torch.rand(3)
        seen.append((epoch, float(next(encoder.parameters()).sum())))

    def made() -> Recipe:
        torch.manual_seed(0)
        return recipe(VICReg(8, width=16), epochs=4, accumulate=2)

    pretrain(made(), tmp_path / "plain")
    run = pretrain(made(), tmp_path / "watched", watch=watch)
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3, 4]
    assert len({weight for _, weight in seen}) == len(seen)
    assert seen[-1][1] == next(run.recipe.embedder.parameters()).sum().item()
    assert_same_bits(tmp_path / "plain", tmp_path / "watched")
