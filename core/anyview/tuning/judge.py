"""What trials are judged by: their own validation score, a protocol on the validation part, or a metric without labels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from anyview.early_stopping import EarlyStopping
from anyview.errors import UserError, unknown
from anyview.evaluation.collapse import CollapseAlarm
from anyview.evaluation.embedding import choose_device, frozen
from anyview.evaluation.metrics import METRICS
from anyview.evaluation.protocol import declaration
from anyview.evaluation.selection import metric_value
from anyview.evaluation.subject import TrainedEncoder
from anyview.evaluation.validation import validation_score
from anyview.plugins import host
from anyview.recipe import Recipe, Stage
from anyview.run import Run

OWN = "validation"
"""What `by` calls a recipe's own validation score."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A run's score, and after how many passes over the data it was reached, where that was looked for."""

    score: float
    passes: int | None = None


@dataclass(frozen=True)
class Judge(ABC):
    """Scores runs; it never sees a test part. name: what the score is called. device: that encoders run on."""

    name: str
    device: str = "auto"

    @abstractmethod
    def score(self, run: Run) -> float:
        """The score of a run's embedder as it is, trained or not."""

    def judged(self, run: Run) -> Judged:
        """The score of a finished run. Raises UserError for a run whose rows have collapsed, and for a score that is no number."""
        spreads = [line["standard_deviation"] for line in run.folder.metrics() if "standard_deviation" in line]
        if spreads and (collapse := CollapseAlarm().update(spreads[-1])):
            raise UserError(collapse)
        return Judged(_finite(self.score(run), self.name))

    def goodness(self, score: float) -> float:
        """A number that is larger the better."""
        return score


@dataclass(frozen=True)
class OwnValidation(Judge):
    """The best look of the recipe's early stopping, as the run recorded it."""

    def score(self, run: Run) -> float:
        stage, stopping = stopped_stage(run.recipe)
        with frozen(stage.embedder, choose_device(self.device)), torch.no_grad():
            return float(stopping.score(stage.embedder))

    def judged(self, run: Run) -> Judged:
        stage, stopping = stopped_stage(run.recipe)
        before = run.recipe.stages[: list(run.recipe.stages).index(stage)]
        offset = sum(one.steps(run.source) for one in before)
        looks = [line for line in run.folder.metrics() if stopping.name in line and line["stage"] == stage.name]
        looks = [line for line in looks if not math.isnan(line[stopping.name])]
        if not looks:
            raise UserError(f"its {self.name} was never a number")
        best = max(looks, key=lambda line: line[stopping.name])
        return Judged(_finite(best[stopping.name], self.name), stage.passes(run.source, best["step"] - offset))


@dataclass(frozen=True)
class ByProtocol(Judge):
    """A protocol's headline on the validation part. protocol: its full name. options: its own, over the recipe's probe settings."""

    protocol: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def score(self, run: Run) -> float:
        subject = TrainedEncoder(run.embedder, run.source, open=run.open, device=choose_device(self.device))
        component = host().find("evaluations", self.protocol)
        return validation_score(subject, component.load(), {**run.recipe.probe.get(component.name, {}), **self.options})

    def goodness(self, score: float) -> float:
        return -score if declaration(host().find("evaluations", self.protocol).load()).smaller else score


@dataclass(frozen=True)
class ByMetric(Judge):
    """A label-free metric of the rows of the training data."""

    def score(self, run: Run) -> float:
        return metric_value(run, self.name, device=self.device)

    def goodness(self, score: float) -> float:
        return float(METRICS[self.name].goodness(score))  # type: ignore[arg-type]


def make_judge(by: str | None, recipe: Recipe, options: Mapping[str, Mapping[str, Any]], device: str) -> Judge:
    """The judge of a name: "validation", a protocol or a label-free metric.

    None is the recipe's own validation score; without one the data's own protocol, or linear where there are labels. options: by protocol.
    Raises UserError for unknown names and where there is nothing to judge by.
    """
    own = any(stage.early_stopping for stage in recipe.stages)
    if by is None:
        by = OWN if own else _by_labels(recipe)
    strange = [name for name in options if host().find("evaluations", name).name != by.rpartition("/")[2]]
    if strange:
        raise UserError(f"options of the protocol {strange[0]!r} were given, and trials are judged by {by}; say --by {strange[0]}")
    if by == OWN:
        return OwnValidation(stopped_stage(recipe)[1].name, device)
    if by in METRICS:
        return ByMetric(by, device)
    known = [component for component in host().components("evaluations") if by in (component.full_name, component.name)]
    if not known:
        names = [OWN, *METRICS, *(component.name for component in host().components("evaluations"))]
        raise unknown("way to judge trials", by, names, look="anyview tune --help")
    component = host().find("evaluations", by)
    chosen = next((chosen for name, chosen in options.items()), {})
    return ByProtocol(f"{component.name} on validation", device, component.full_name, dict(chosen))


def stopped_stage(recipe: Recipe) -> tuple[Stage, EarlyStopping]:
    """The last stage that looks at a validation part; raises UserError where none does."""
    for stage in reversed(recipe.stages):
        if stage.early_stopping is not None:
            return stage, stage.early_stopping
    raise UserError(
        f"{recipe.name or 'the recipe'} takes no validation score of its own on {recipe.source.name!r}; keep a validation part, or choose "
        "by labels or without, as in --by linear or --by rankme"
    )


def _by_labels(recipe: Recipe) -> str:
    source = recipe.source
    if source.protocols:
        return source.protocols[0]
    if source.labels is None:
        asked = f"{recipe.name or 'the recipe'} takes no validation score on {source.name!r}"
        raise UserError(f"{asked}, which has no labels either; choose by a label-free metric, as in --by rankme")
    return "linear"


def _finite(score: float, name: str) -> float:
    if not math.isfinite(score):
        raise UserError(f"its {name} is {score:g}, which ranks nothing")
    return score
