"""What a run says about itself while it trains: losses, label-free metrics, the alarm when it collapses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.errors import MissingDependencyError, UserError
from anyview.evaluation.collapse import CollapseAlarm, DimensionAlarm, LineAlarm, dead_columns, mean_standard_deviation
from anyview.evaluation.spectra import entropy_rank_of, rankme_of, singular_values
from anyview.folder import RunFolder
from anyview.pretrainer import Pretrainer
from anyview.progress import ProgressLine
from anyview.schedules import as_schedule

METRIC_ROWS = 2048  # online metrics look at this many rows: enough for a trend, cheap beside a step


class Monitor:
    """Logs losses, collapse lines and label-free metrics of a stage, watches for collapse, moves the progress line.

    offset: steps of earlier stages. begin: the stage's first step now. every: steps between two lines of metrics; nothing is computed
    between them.
    """

    def __init__(
        self,
        fabric: Fabric,
        folder: RunFolder,
        name: str,
        pretrainer: Pretrainer,
        offset: int,
        begin: int,
        every: int,
        progress: ProgressLine,
    ) -> None:
        self.fabric, self.folder, self.name, self.pretrainer, self.progress = fabric, folder, name, pretrainer, progress
        self.offset, self.every = offset, every
        self.alarm, self.dimension_alarm = CollapseAlarm(), DimensionAlarm()
        self.line_alarms = {task.name: LineAlarm() for task in pretrainer.tasks}
        self.since, self.step = time.monotonic(), begin

    def after(self, step: int, steps: int, losses: dict[str, Tensor], weights: dict[str, float], lr: float) -> None:
        """Note a finished step."""
        if step % self.every and step not in (1, steps):
            return
        numbers = {name: float(loss.detach()) for name, loss in losses.items()}
        line = self._line(step, numbers, weights, lr)
        warnings: list[str] = []
        if self.pretrainer.rows is not None:
            rows = gather_rows(self.pretrainer.rows)  # every rank looks at the rows of all
            line |= self._collapse_lines(step, steps, numbers, lr, len(rows), warnings) | self._label_free(rows, warnings)
        for warning in warnings:
            self.progress.warn(warning)
        line |= {"collapse": 1.0} if warnings else {}
        now = time.monotonic()
        rate = (step - self.step) / max(now - self.since, 1e-9)
        self.since, self.step = now, step
        if self.fabric.is_global_zero:
            self.folder.append_metrics(line | {"steps_per_second": round(rate, 3)})
            self.fabric.log_dict({name: value for name, value in line.items() if name not in ("stage", "step")}, step=line["step"])
            self.progress.update(line["step"], name=self.name, rate=rate, loss=line["loss"], rankme=line.get("rankme"))

    def note(self, step: int, numbers: dict[str, float]) -> None:
        """Log numbers that something else than the loss gave after a step."""
        if self.fabric.is_global_zero:
            self.folder.append_metrics({"stage": self.name, "step": self.offset + step, **numbers})
            self.fabric.log_dict(numbers, step=self.offset + step)

    def _line(self, step: int, losses: dict[str, float], weights: dict[str, float], lr: float) -> dict[str, Any]:
        """What is logged of a step; terms and weights by name where there are several."""
        line: dict[str, Any] = {"stage": self.name, "step": self.offset + step, "loss": sum(losses.values()), "lr": lr}
        if len(losses) > 1:
            line |= {f"loss/{name}": loss for name, loss in losses.items()}
        if len(weights) > 1:
            line |= {f"weight/{name}": weight for name, weight in weights.items()}
        return line | {name: float(value) for name, value in self.pretrainer.monitors.items()}

    def _collapse_lines(
        self, step: int, steps: int, losses: dict[str, float], lr: float, rows: int, warnings: list[str]
    ) -> dict[str, float]:
        """Where the loss would be if all of `rows` rows were equal, weighted as it is; by task too where there are several.

        Sentences of the tasks' alarms are added to `warnings`.
        """
        tasks, epoch = self.pretrainer.tasks, steps / self.pretrainer.epochs
        lines: dict[str, float] = {}
        for task in tasks:
            line, weight = task.objective.collapse_line(rows), as_schedule(task.weight)(step - 1, steps)
            if line is None or weight == 0:
                continue
            lines[task.name] = weight * line
            loss = sum(value for name, value in losses.items() if len(tasks) == 1 or name.partition("/")[0] == task.name)
            warning = self.line_alarms[task.name].update(step, loss=loss, line=lines[task.name], lr=lr, epoch=epoch)
            warnings += [warning] if warning else []
        told = {f"collapse_line/{name}": line for name, line in lines.items()} if len(tasks) > 1 else {}
        return told | ({"collapse_line": sum(lines.values())} if len(lines) == len(tasks) else {})

    def _label_free(self, rows: Tensor, warnings: list[str]) -> dict[str, float]:
        """RankMe, entropy rank, spread and size of the student's rows (M, D); sentences of alarms are added to `warnings`."""
        rows = rows[:METRIC_ROWS].float().cpu()  # float64 spectra: not every device has them
        finite = rows[rows.isfinite().all(1)]
        broken = {"nan_rows": float(len(rows) - len(finite))}
        if len(finite) < 2:
            return broken
        z = finite.double()
        spread, rank = mean_standard_deviation(z), entropy_rank_of(singular_values(z, centred=True))
        judged = (self.alarm.update(spread), self.dimension_alarm.update(rank, samples=len(z), width=z.shape[1]))
        warnings += [warning for warning in judged if warning]
        return {
            "rankme": rankme_of(singular_values(z, centred=False)),
            "entropy_rank": rank,
            "standard_deviation": spread,
            "row_norm": float(z.norm(dim=1).mean()),
            "dead_columns": dead_columns(z),
            **broken,
        }


def make_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    """Fabric's loggers by name, csv or tensorboard, each in its own folder below `folder`."""
    made: list[Any] = []
    for name in names:
        if name == "csv":
            made.append(CSVLogger(root_dir=folder, name="csv"))
        elif name == "tensorboard":
            made.append(_tensorboard(folder))
        else:
            raise UserError(f"there is no logger {name!r}; choose csv or tensorboard")
    return made


def _tensorboard(folder: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(root_dir=folder, name="tensorboard")
    except ModuleNotFoundError as error:
        sentence = "--logger tensorboard needs a package that is not installed; pip install 'anyview[tensorboard]'"
        raise MissingDependencyError(sentence) from error
