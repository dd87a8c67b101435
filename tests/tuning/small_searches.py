"""Small searches that tests of tuning share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import anyview
from anyview.data.arrays import ArraySource, digits
from anyview.data.splits import Split

SMALL: dict[str, Any] = {"hidden": 8, "dim": 4, "layers": 2, "epochs": 1, "batch_size": 64}
SOME = torch.from_numpy(digits().x.numpy()[:300])
LABELS = digits().labels[:300]  # type: ignore[index]


class Published(ArraySource):
    """Rows with a split of their own, so that labels of the test part decide nothing else."""

    def split(self, seed: int) -> Split:
        rows = torch.arange(len(self))
        return Split(rows[:180], rows[180:240], rows[240:], name="public")


def rows(labels: torch.Tensor | None = LABELS) -> Published:
    return Published(SOME, labels, name="some")


def tuned(out: Path, **more: Any) -> anyview.Tuned:
    given: dict[str, Any] = {"data": rows(), "trials": 3, "ranges": {"lr": "1e-2..1", "objective.redundancy": None}, **SMALL, **more}
    return anyview.tune("core/pair", out, **given)


def told(found: anyview.Tuned) -> list[tuple[int, Any, float | None, int | None]]:
    return [(one.trial.number, one.trial.setting, one.trial.score, one.trial.passes) for one in found.trials]
