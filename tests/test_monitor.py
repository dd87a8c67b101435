"""What a run says of itself: collapse lines beside the loss, three alarms, label-free metrics, at log steps alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anyview.data.arrays import ArraySource
from anyview.distributed import rank
from anyview.encoders.mlp import MLP
from anyview.evaluation.spectra import entropy_rank, rankme
from anyview.folder import RunFolder
from anyview.monitor import Monitor
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.pretrainer import Pretrainer
from anyview.progress import ProgressLine
from anyview.recipe import Recipe, Stage, Task
from anyview.schedules import Constant, Ramp, Schedule
from anyview.testing import run_on_ranks
from anyview.training import pretrain
from anyview.views.noise import NoisePair

ROWS, BATCH = 64, 16


class Still(Objective):
    """A loss that stays at a value, with a collapse line of rows / 16."""

    needs = Needs(views=1)

    def __init__(self, dim: int = 8, *, value: float = 1.0, line: float | None = 1.0) -> None:
        super().__init__()
        self.value, self.line = value, line

    def forward(self, step: Step) -> Losses:
        return Losses(still=0.0 * step.encode(step.views[0]).rows.sum() + self.value)

    def collapse_line(self, rows: int) -> float | None:
        return None if self.line is None else self.line * rows / BATCH


def recipe(*tasks: Task, epochs: int = 4, schedule: Schedule | None = None) -> Recipe:
    source = ArraySource(torch.randn(ROWS, 12, generator=torch.Generator().manual_seed(0)), name="rows")
    torch.manual_seed(0)
    encoder = MLP(12, hidden=16, dim=8, layers=2)
    optimizer = partial(torch.optim.SGD, lr=0.01)
    stage = Stage(list(tasks), encoder, epochs, optimizer, batch_size=BATCH, schedule=schedule or Constant())
    made = Recipe(source, [stage], encoder)
    made.values = {"data": source}
    return made


def lines_of(tmp_path: Path, made: Recipe, **options: Any) -> list[dict[str, Any]]:
    pretrain(made, tmp_path / "run", log_every=1, quiet=False, **options)
    return RunFolder(tmp_path / "run").metrics()


def task(**options: Any) -> Task:
    return Task(NoisePair(), Still(**options))


def test_the_collapse_line_stands_beside_the_loss(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, recipe(Task(NoisePair(), BarlowTwins(8, width=16))))
    assert all(line["collapse_line"] == 16.0 for line in lines)
    assert lines[-1]["loss"] < 16
    facts = {"rankme", "entropy_rank", "standard_deviation", "row_norm", "dead_columns", "nan_rows"}
    assert all(facts <= set(line) for line in lines)
    assert all(line["nan_rows"] == 0 and "collapse" not in line for line in lines)


def test_an_unknown_line_is_not_told(tmp_path: Path) -> None:
    assert not any("collapse_line" in line for line in lines_of(tmp_path, recipe(task(line=None))))


def test_an_epoch_at_the_line_is_an_alarm_and_one_away_from_it_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alarmed = [line["step"] for line in lines_of(tmp_path, recipe(task(value=1.005))) if "collapse" in line]
    assert alarmed == [5]  # four steps are an epoch, and the first log is step 1
    assert "within 1 % of 1, its value when all rows are equal" in capsys.readouterr().err
    assert not any("collapse" in line for line in lines_of(tmp_path / "away", recipe(task(value=1.02))))


def test_no_alarm_while_nothing_is_learnt(tmp_path: Path) -> None:
    assert not any("collapse" in line for line in lines_of(tmp_path, recipe(task(), schedule=Constant(0.0))))


def test_several_tasks_have_lines_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Task(NoisePair(), Still(value=1.0), weight=0.5, name="first")
    second = Task(NoisePair(), Still(value=7.0, line=3.0), weight=2.0, name="second")
    lines = lines_of(tmp_path, recipe(first, second))
    assert all((line["collapse_line/first"], line["collapse_line/second"], line["collapse_line"]) == (0.5, 6.0, 6.5) for line in lines)
    assert [line["step"] for line in lines if "collapse" in line] == [5]
    assert "within 1 % of 0.5" in capsys.readouterr().err
    unknown = Task(NoisePair(), Still(line=None), name="unknown")
    lines = lines_of(tmp_path / "two", recipe(Task(NoisePair(), Still(value=2.0), name="first"), unknown))
    assert all("collapse_line" not in line and line["collapse_line/first"] == 1.0 for line in lines)


def test_the_line_follows_the_tasks_weight_and_sleeps_at_none(tmp_path: Path) -> None:
    ramp = Ramp(2.0, begin=0.5, end=0.5)
    lines = lines_of(tmp_path, recipe(Task(NoisePair(), Still(), weight=ramp)))
    assert [line.get("collapse_line") for line in lines] == [None] * 8 + [2.0] * 8
    assert [line["step"] for line in lines if "collapse" in line] == [13]


class Recorder(ProgressLine):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(10, shown=False)
        self.said: list[str] = []

    def warn(self, sentence: str) -> None:
        self.said.append(sentence)


class OneProcess:
    """As much of Fabric as the monitor asks for."""

    is_global_zero = True

    def log_dict(self, numbers: dict[str, Any], step: int) -> None:
        assert all(isinstance(value, int | float) for value in numbers.values())


def monitor(tmp_path: Path, every: int = 1) -> Monitor:
    stage = recipe(task()).stages[0]
    tmp_path.mkdir(exist_ok=True)
    return Monitor(OneProcess(), RunFolder(tmp_path), "pretrain", Pretrainer(stage), 0, 0, every, Recorder())  # type: ignore[arg-type]


def feed(watched: Monitor, rows: Tensor | None, step: int, steps: int = 100) -> None:
    watched.pretrainer.rows = rows
    watched.after(step, steps, {"still": torch.tensor(7.0)}, {}, 0.1)


def test_each_alarm_speaks_once_per_fall(tmp_path: Path) -> None:
    watched = monitor(tmp_path)
    line = torch.randn(400, 1) @ torch.randn(1, 64)
    for step in range(1, 8):
        feed(watched, torch.randn(400, 64), step)
    for step in range(8, 20):
        feed(watched, line + 1e-4 * torch.randn(400, 64), step)
    for step in range(20, 30):
        feed(watched, torch.ones(400, 64) + 1e-4 * torch.randn(400, 64), step)
    said = watched.progress.said  # type: ignore[attr-defined]
    assert [sentence.split(":")[0] for sentence in said] == ["rows fill few directions", "rows have collapsed"]
    logged = RunFolder(tmp_path).metrics()
    assert [one["step"] for one in logged if "collapse" in one] == [10, 20]


def test_numbers_are_those_of_the_rows(tmp_path: Path) -> None:
    watched = monitor(tmp_path)
    rows = torch.randn(300, 16) * torch.linspace(1, 0.1, 16)
    rows[:, 3] = 0
    feed(watched, rows, 1)
    (line,) = RunFolder(tmp_path).metrics()
    assert line["rankme"] == pytest.approx(rankme(rows), rel=1e-6)
    assert line["entropy_rank"] == pytest.approx(entropy_rank(rows), rel=1e-6)
    assert line["row_norm"] == pytest.approx(float(rows.norm(dim=1).mean()), rel=1e-6)
    assert line["dead_columns"] == 1 / 16
    assert line["collapse_line"] == pytest.approx(300 / BATCH)


def test_rows_that_are_not_finite_are_counted_and_left_out(tmp_path: Path) -> None:
    watched = monitor(tmp_path)
    rows = torch.randn(50, 4)
    rows[3, 1], rows[7] = torch.nan, torch.inf
    feed(watched, rows, 1)
    feed(watched, torch.full((50, 4), torch.nan), 2)
    feed(watched, None, 3)
    first, second, third = RunFolder(tmp_path).metrics()
    assert (first["nan_rows"], second["nan_rows"]) == (2, 50)
    assert first["rankme"] > 1
    assert "rankme" not in second
    assert "nan_rows" not in third
    assert third["loss"] == 7.0


def test_nothing_is_computed_between_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = monitor(tmp_path, every=10)
    looked: list[int] = []
    monkeypatch.setattr("anyview.monitor.gather_rows", lambda rows: looked.append(len(rows)) or rows)
    for step in range(1, 31):
        feed(watched, torch.randn(20, 4), step, steps=30)
    assert len(looked) == 4
    assert [line["step"] for line in RunFolder(tmp_path).metrics()] == [1, 10, 20, 30]


def on_rank(folder: str) -> list[dict[str, Any]]:
    watched = monitor(Path(folder) / str(rank()))
    whole = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))
    feed(watched, whole[:16] if rank() == 0 else whole[16:], 1)
    return RunFolder(Path(folder) / str(rank())).metrics()


def test_every_rank_tells_the_numbers_of_the_global_batch(tmp_path: Path) -> None:
    watched = monitor(tmp_path / "whole")
    feed(watched, torch.randn(48, 4, generator=torch.Generator().manual_seed(0)), 1)
    (whole,) = RunFolder(tmp_path / "whole").metrics()
    assert whole["collapse_line"] == 48 / BATCH
    for (part,) in run_on_ranks(on_rank, 2, str(tmp_path)):
        assert {name: value for name, value in part.items() if name != "steps_per_second"} == {
            name: pytest.approx(value) if isinstance(value, float) else value for name, value in whole.items() if name != "steps_per_second"
        }
