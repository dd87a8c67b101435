"""The frame that every protocol runs in: seeds, controls, and the result that prints them beside each other."""

from __future__ import annotations

import inspect
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor

from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.embedding import require_finite
from anyview.evaluation.protocol_data import Labels, ProtocolData, labelled, majority_on_test, prepare_labels, unseen_classes

if TYPE_CHECKING:
    from rich.table import Table

TRAINED = "trained encoder"
RANDOM = "random encoder"
RAW = "raw features"
MAJORITY = "majority class"

Rows = np.ndarray | Callable[[int], np.ndarray]
"""(N, D) rows, or a function from a seed to them."""

Scores = dict[str, float]
Protocol = Callable[..., Scores]
"""(data: ProtocolData, seed: int, *, options) -> scores and facts; its signature is its configuration."""

P = TypeVar("P", bound=Protocol)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a protocol says about itself.

    headline: the score to compare encoders by. several: the one for several yes/no answers, None where the protocol takes one class per
    sample only. facts: numbers that it returns beside its scores (a chosen k or epoch). majority: scores of a constant answer.
    """

    headline: str
    several: str | None
    facts: tuple[str, ...]
    majority: Callable[[ProtocolData], Scores]


def protocol(
    *,
    headline: str = "accuracy",
    several: str | None = None,
    facts: Sequence[str] = (),
    majority: Callable[[ProtocolData], Scores] = majority_on_test,
) -> Callable[[P], P]:
    """Declare a plain function a protocol; it stays the function that it is. Arguments as in Declaration.

    >>> @protocol(headline="accuracy")
    ... def always_zero(data: ProtocolData, seed: int) -> Scores:
    ...     return {"accuracy": data.score(np.zeros(len(data.split.test)))}
    >>> labels, split = torch.tensor([0, 1, 0, 1]), Split(torch.tensor([0, 1]), torch.tensor([]).long(), torch.tensor([2, 3]))
    >>> evaluate_rows({TRAINED: np.eye(4)}, labels, lambda seed: split, always_zero, seeds=[0]).mean()
    0.5
    """

    def declare(function: P) -> P:
        function.declaration = Declaration(headline, several, tuple(facts), majority)  # type: ignore[attr-defined]
        return function

    return declare


def declaration(function: Protocol) -> Declaration:
    """What a protocol declared."""
    return function.declaration  # type: ignore[attr-defined]


@dataclass(slots=True)
class Result:
    """Scores of one protocol for the encoder and for every control.

    options: as they applied, defaults included. split: its name. values: encoder or control -> score or fact -> one number per seed, 0 to 1
    for scores. sizes: rows in each part, for the first seed. facts: which values are no scores. warnings: one sentence each.
    """

    protocol: str
    headline: str
    options: dict[str, Any]
    split: str
    seeds: list[int]
    values: dict[str, dict[str, list[float]]]
    sizes: dict[str, int]
    facts: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)

    @property
    def scores(self) -> list[str]:
        """Names of the scores, headline first."""
        names = dict.fromkeys(name for values in self.values.values() for name in values if name not in self.facts)
        return [self.headline, *(name for name in names if name != self.headline)]

    def mean(self, encoder: str = TRAINED, score: str | None = None) -> float:
        """Mean over seeds, of the headline score unless another is named."""
        return statistics.fmean(self.values[encoder][score or self.headline])

    def standard_deviation(self, encoder: str = TRAINED, score: str | None = None) -> float:
        """Standard deviation over seeds (of a sample: n - 1); NaN for a single seed."""
        values = self.values[encoder][score or self.headline]
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; a standard deviation that does not exist is None."""
        results = {encoder: {name: self._numbers(encoder, name) for name in values} for encoder, values in self.values.items()}
        plain = ("protocol", "headline", "options", "split", "sizes", "seeds", "warnings")
        return {**{name: getattr(self, name) for name in plain}, "facts": list(self.facts), "results": results}

    def settings(self) -> str:
        """Options in words; one that the protocol settled itself (k of None) as it was settled for the first encoder and seed."""
        first = next(iter(self.values.values()))
        settled = {name: first[name][0] for name in self.facts if name in self.options}
        applied = {**self.options, **settled}.items()
        words = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in applied)
        return ", ".join(words)

    def cell(self, encoder: str, score: str) -> str:
        """Mean and standard deviation in percent; empty where the encoder or control has no such score."""
        if score not in self.values.get(encoder, {}):
            return ""
        mean, spread = 100 * self.mean(encoder, score), 100 * self.standard_deviation(encoder, score)
        return f"{mean:.1f}" if math.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"

    def _numbers(self, encoder: str, name: str) -> dict[str, Any]:
        mean, spread = self.mean(encoder, name), self.standard_deviation(encoder, name)
        return {"values": self.values[encoder][name], "mean": mean, "standard_deviation": None if math.isnan(spread) else spread}


def evaluate_rows(
    rows_by_encoder: Mapping[str, Rows],
    source_labels: Tensor | np.ndarray | None,
    split_for_seed: Callable[[int], Split],
    protocol: Protocol,
    seeds: Sequence[int],
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Run a protocol on every encoder's rows, for every seed, with one split per seed, and add the majority class.

    rows_by_encoder: name -> (N, D) rows or seed -> rows; first the encoder that the result is about, then controls (RANDOM, RAW, ...).
    source_labels: (N,) integers, negative = unlabelled, or (N, L) zeros and ones. options: the protocol's, by name.
    Raises UserError for missing or unfit labels, unknown options, empty parts, fewer than two classes and rows that are not finite.
    """
    name, declared = protocol.__name__, declaration(protocol)
    applied = _options(protocol, options or {})
    labels = prepare_labels(source_labels, name, several=declared.several is not None)
    splits = {seed: labelled(split_for_seed(seed), labels) for seed in seeds}
    values: dict[str, dict[str, list[float]]] = {encoder: {} for encoder in (*rows_by_encoder, MAJORITY)}
    for seed, split in splits.items():
        for encoder, rows in rows_by_encoder.items():
            data = ProtocolData(_matrix(rows, seed, encoder, len(labels.values)), labels.values, split, len(labels.names))
            _append(values[encoder], protocol(data, seed, **applied))
        _append(values[MAJORITY], declared.majority(data))
    first = next(iter(splits.values()))
    return Result(
        protocol=name,
        headline=declared.several if declared.several and labels.values.ndim == 2 else declared.headline,
        options=applied,
        split=_split_name(splits),
        seeds=list(splits),
        values=values,
        sizes={"train": len(first.train), "validation": len(first.validation), "test": len(first.test)},
        facts=declared.facts,
        warnings=[*_unseen(splits, labels), *_missing_controls(rows_by_encoder)],
    )


def table(results: Sequence[Result]) -> Table:
    """A rich table of results: a line per score, the encoder and its controls side by side, in percent, with spread over seeds.

    The caption tells settings, split and seeds of each protocol, then warnings, one a line.
    """
    from rich.table import Table

    encoders = list(dict.fromkeys(encoder for result in results for encoder in result.values))
    told = [f"{result.protocol}: {result.settings()}; split {result.split}; {_seed_words(result.seeds)}" for result in results]
    warned = dict.fromkeys(f"warning: {warning}" for result in results for warning in result.warnings)
    drawn = Table("protocol", "score (%)", caption="\n".join([*told, *warned]), caption_justify="left")
    for encoder in encoders:
        drawn.add_column(encoder, justify="right")
    for result in results:
        for score in result.scores:
            cells = (result.cell(encoder, score) for encoder in encoders)
            drawn.add_row(result.protocol if score == result.headline else "", score.replace("_", " "), *cells)
        drawn.add_section()
    return drawn


def _append(columns: dict[str, list[float]], scores: Scores) -> None:
    for name, value in scores.items():
        columns.setdefault(name, []).append(float(value))


def _options(protocol: Protocol, given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(protocol).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    for word in given:
        if word not in defaults:
            raise UserError(f"the protocol {protocol.__name__} has no option {word!r}; it takes {', '.join(defaults) or 'none'}")
    return {**defaults, **given}


def _matrix(rows: Rows, seed: int, encoder: str, samples: int) -> np.ndarray:
    matrix = np.asarray(rows(seed) if callable(rows) else rows, dtype=np.float32)
    if len(matrix) != samples:
        raise UserError(f"there are {samples} labels, and {len(matrix)} rows of the {encoder}; give one row per label, in the same order")
    require_finite(matrix, f"rows of the {encoder}")
    return matrix


def _split_name(splits: Mapping[int, Split]) -> str:
    """One name for the splits of all seeds."""
    names = {split.name for split in splits.values()}
    if len(names) == 1:
        return names.pop()
    kinds = dict.fromkeys(split.name.removesuffix(f", seed {seed}") for seed, split in splits.items())
    return f"{' · '.join(kinds)}, one per seed"


def _unseen(splits: Mapping[int, Split], labels: Labels) -> list[str]:
    seeds_of: dict[str, list[int]] = {}
    for seed, split in splits.items():
        if classes := unseen_classes(split, labels):
            seeds_of.setdefault(", ".join(classes), []).append(seed)
    return [
        f"the test part has samples of class {classes}, which the training part lacks, and no probe can know them ({_seed_words(seeds)})"
        for classes, seeds in seeds_of.items()
    ]


def _missing_controls(rows_by_encoder: Mapping[str, Rows]) -> list[str]:
    missing = [control for control in (RANDOM, RAW) if control not in rows_by_encoder]
    return [f"the scores stand without these controls: {', '.join(missing)}"] if missing else []


def _seed_words(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
