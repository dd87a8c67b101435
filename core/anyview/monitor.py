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
from anyview.evaluation.label_free import CollapseAlarm, mean_standard_deviation, rankme
from anyview.folder import RunFolder
from anyview.pretrainer import Pretrainer
from anyview.progress import ProgressLine

METRIC_ROWS = 2048  # online metrics look at this many rows: enough for a trend, cheap beside a step


class Monitor:
    """Logs losses and label-free metrics of a stage, watches for collapse, moves the progress line.

    offset: steps of earlier stages. begin: the stage's first step now. every: steps between two lines of metrics.
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
        self.alarm = CollapseAlarm()
        self.since, self.step = time.monotonic(), begin

    def after(self, step: int, steps: int, losses: dict[str, Tensor], weights: dict[str, float], lr: float) -> None:
        """Note a finished step."""
        if step % self.every and step not in (1, steps):
            return
        line = self._line(step, {name: float(loss.detach()) for name, loss in losses.items()}, weights, lr) | self._label_free()
        now = time.monotonic()
        rate = (step - self.step) / max(now - self.since, 1e-9)
        self.since, self.step = now, step
        if self.fabric.is_global_zero:
            self.folder.append_metrics(line | {"steps_per_second": round(rate, 3)})
            self.fabric.log_dict({name: value for name, value in line.items() if name not in ("stage", "step")}, step=line["step"])
            self.progress.update(line["step"], name=self.name, rate=rate, loss=line["loss"], rankme=line.get("rankme"))

    def _line(self, step: int, losses: dict[str, float], weights: dict[str, float], lr: float) -> dict[str, Any]:
        """What is logged of a step; terms and weights by name where there are several."""
        line: dict[str, Any] = {"stage": self.name, "step": self.offset + step, "loss": sum(losses.values()), "lr": lr}
        if len(losses) > 1:
            line |= {f"loss/{name}": loss for name, loss in losses.items()}
        if len(weights) > 1:
            line |= {f"weight/{name}": weight for name, weight in weights.items()}
        return line | {name: float(value) for name, value in self.pretrainer.monitors.items()}

    def _label_free(self) -> dict[str, float]:
        """RankMe and spread of the student's rows; every rank looks at the rows of all."""
        rows = self.pretrainer.rows
        if rows is None or len(rows) < 2:
            return {}
        rows = gather_rows(rows)[:METRIC_ROWS].float().cpu()  # float64 spectra: not every device has them
        spread = mean_standard_deviation(rows)
        warning = self.alarm.update(spread)
        if warning:
            self.progress.warn(warning)
        return {"rankme": rankme(rows), "standard_deviation": spread} | ({"collapse": 1.0} if warning else {})


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
