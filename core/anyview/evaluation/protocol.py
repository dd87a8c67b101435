"""The frame that every protocol runs in: seeds, controls, and the table that prints them beside each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from anyview.data.source import Predictor
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.embedding import require_finite
from anyview.evaluation.limits import Limits, check
from anyview.evaluation.protocol_data import (
    Labels,
    ProtocolData,
    labelled,
    majority_on_test,
    no_labels,
    prepare_labels,
    prepare_numbers,
    unseen_classes,
)
from anyview.evaluation.result import MAJORITY, RANDOM, RAW, TRAINED, Result, seed_words, table
from anyview.evaluation.subject import Subject

__all__ = ["MAJORITY", "RANDOM", "RAW", "TRAINED", "Declaration", "Result", "Scores", "evaluate_rows", "protocol", "table"]

Rows = np.ndarray | Callable[[int], np.ndarray]
"""(N, D) rows, or a function from a seed to them, such as a Subject."""

Scores = dict[str, float]
Protocol = Callable[..., Scores]
"""(data: ProtocolData, seed: int, *, options) -> scores and facts; its signature is its configuration."""

P = TypeVar("P", bound=Protocol)


def nothing_to_record(_data: ProtocolData, _seed: int, **_options: Any) -> dict[str, Any]:
    """What most protocols keep beside their scores."""
    return {}


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a protocol says about itself.

    headline: the score to compare encoders by. several: the one for several yes/no answers, None where the protocol takes one class per
    sample only. facts: numbers that it returns beside its scores (a chosen k or epoch). limits: what numbers its options take, by option.
    majority: scores of a constant answer, called as the protocol is; constant: what the table calls it. baselines: by name, scores of
    answers that need no rows, such as a spectral peak; called as the protocol is, with the encoder's data; left out with their sentence
    where they raise UserError, and without one where they return nothing. classifies: whether it is fitted to the training part and scored
    by `ProtocolData.scores`; the source's own baselines then stand beside it. units: of scores that are no shares of 1 ("bpm"), which are
    told as they are, not in percent; "" for none. smaller: whether a smaller headline is the better one, as of errors.

    needs: "rows" alone; the "source" they are of and what embeds others like it; or the "encoder" as well, to train it, which raw features
    have none of. labels: classes are "needed"; "used" where there are some; "unused", with the split of the data, by protocols that bring
    other data; "numbers" are needed, to be predicted; or the answers are the "source"'s own, and so is what its split counts.
    record: facts for the result that are the same for every encoder, such as which samples were used; called as the protocol is.
    """

    headline: str = "accuracy"
    several: str | None = None
    facts: tuple[str, ...] = ()
    majority: Callable[..., Scores] = majority_on_test
    needs: Literal["rows", "source", "encoder"] = "rows"
    labels: Literal["needed", "used", "unused", "numbers", "source"] = "needed"
    limits: Mapping[str, Limits] = field(default_factory=dict)
    record: Callable[..., dict[str, Any]] = nothing_to_record
    constant: str = MAJORITY
    baselines: Mapping[str, Callable[..., Scores]] = field(default_factory=dict)
    classifies: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    smaller: bool = False


def protocol(
    *,
    headline: str = "accuracy",
    several: str | None = None,
    facts: Sequence[str] = (),
    majority: Callable[..., Scores] = majority_on_test,
    needs: Literal["rows", "source", "encoder"] = "rows",
    labels: Literal["needed", "used", "unused", "numbers", "source"] = "needed",
    limits: Mapping[str, Limits] | None = None,
    record: Callable[..., dict[str, Any]] = nothing_to_record,
    constant: str = MAJORITY,
    baselines: Mapping[str, Callable[..., Scores]] | None = None,
    classifies: bool = False,
    units: Mapping[str, str] | None = None,
    smaller: bool = False,
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
        how = {"constant": constant, "baselines": baselines or {}, "classifies": classifies, "units": units or {}, "smaller": smaller}
        plain = (headline, several, tuple(facts), majority, needs, labels, limits or {}, record)
        function.declaration = Declaration(*plain, **how)  # type: ignore[attr-defined, arg-type]
        return function

    return declare


def declaration(function: Protocol) -> Declaration:
    """What a protocol declared."""
    return function.declaration  # type: ignore[attr-defined]


def check_options(protocol: Protocol, given: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol's options as they apply, defaults included; raises UserError for unknown ones and for numbers out of range."""
    parameters = inspect.signature(protocol).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    for word in given:
        if word not in defaults:
            raise UserError(f"the protocol {protocol.__name__} has no option {word!r}; it takes {', '.join(defaults) or 'none'}")
    for word, limits in declaration(protocol).limits.items():
        check(protocol.__name__, word, given.get(word, defaults[word]), limits)
    return {**defaults, **given}


def evaluate_rows(
    rows_by_encoder: Mapping[str, Rows],
    source_labels: Tensor | np.ndarray | None,
    split_for_seed: Callable[[int], Split],
    protocol: Protocol,
    seeds: Sequence[int],
    options: Mapping[str, Any] | None = None,
    baselines: Mapping[str, Predictor] | None = None,
    beside: Collection[str] | None = None,
) -> Result:
    """Run a protocol on every encoder's rows, for every seed, with one split per seed, and add baselines and the best constant answer.

    rows_by_encoder: name -> (N, D) rows or seed -> rows; first the encoder that the result is about, then controls (RANDOM, RAW, ...).
    Protocols that need more than rows take a Subject, and leave out those that have no encoder where they need one.
    source_labels: (N,) integers, negative = unlabelled, or (N, L) zeros and ones. options: the protocol's, by name.
    baselines: the source's; those that cannot be had are left out with their sentence. beside: names of the baselines, the source's and
    the protocol's, that are taken; None for all.
    Raises UserError for missing or unfit labels, unknown options and baselines, numbers out of range, empty parts, fewer than two classes,
    rows that are not finite, and rows alone where more is needed.
    """
    name, declared = protocol.__name__, declaration(protocol)
    applied = check_options(protocol, options or {})
    columns = _columns(rows_by_encoder, name, declared)
    labels = _labels(source_labels, columns, name, declared, seeds[0])
    first = next(iter(columns.values()))
    if declared.labels == "source" and isinstance(first, Subject):
        split_for_seed = first.source.split
    splits = {seed: _split(split_for_seed, seed, labels, declared) for seed in seeds}
    others = _chosen(_baselines(declared, baselines or {}, labels), beside, name)
    values: dict[str, dict[str, list[float]]] = {encoder: {} for encoder in (*columns, *others, declared.constant)}
    records: dict[str, Any] = {}
    lacking: dict[str, str] = {}
    for seed, split in splits.items():
        shown = {}
        for encoder, rows in columns.items():
            origin = rows.origin(seed) if isinstance(rows, Subject) else None
            matrix = _matrix(rows, seed, encoder, len(labels.values))
            shown[encoder] = ProtocolData(matrix, labels.values, split, len(labels.names), origin, tuple(map(str, labels.names)))
            _append(values[encoder], protocol(shown[encoder], seed, **applied))
        data = next(iter(shown.values()))
        for baseline, score in others.items():
            try:
                _append(values[baseline], score(data, seed, **applied))
            except UserError as absent:
                lacking[baseline] = f"the baseline {baseline} is left out: {absent}"
        _append(values[declared.constant], declared.majority(data, seed, **applied))
        if record := declared.record(data, seed, **applied):
            records[str(seed)] = record
    parts = next(iter(splits.values()))
    return Result(
        protocol=name,
        headline=declared.several if declared.several and labels.values.ndim == 2 else declared.headline,
        options=applied,
        split=_split_name(splits),
        seeds=list(splits),
        values={encoder: found for encoder, found in values.items() if encoder not in lacking and (found or encoder not in others)},
        sizes={"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        facts=declared.facts,
        records=records,
        warnings=[*_unseen(splits, labels), *_missing_controls(rows_by_encoder, declared), *lacking.values()],
        constant=declared.constant,
        units=dict(declared.units),
    )


def _baselines(declared: Declaration, of_source: Mapping[str, Predictor], labels: Labels) -> dict[str, Callable[..., Scores]]:
    """The protocol's baselines, and those of the source where the protocol is one that they can stand beside."""
    if not declared.classifies or labels.values.ndim == 2:
        return dict(declared.baselines)

    def scored(predict: Predictor) -> Callable[..., Scores]:
        def score(data: ProtocolData, seed: int, **_options: Any) -> Scores:
            train = data.split.train
            return data.scores(predict(train, data.labels[train.numpy()], seed)[data.split.test.numpy()])

        return score

    return {**declared.baselines, **{name: scored(predict) for name, predict in of_source.items()}}


def _chosen(
    baselines: dict[str, Callable[..., Scores]], names: Collection[str] | None, protocol_name: str
) -> dict[str, Callable[..., Scores]]:
    """The baselines of some names, or all of them; raises UserError for a name that there is none of."""
    for name in names or ():
        if name not in baselines:
            there = f"choose from {', '.join(baselines)}" if baselines else "it has none"
            raise UserError(f"the protocol {protocol_name} has no baseline {name!r} on this data; {there}")
    return {name: score for name, score in baselines.items() if names is None or name in names}


def _append(columns: dict[str, list[float]], scores: Scores) -> None:
    for name, value in scores.items():
        columns.setdefault(name, []).append(float(value))


def _columns(given: Mapping[str, Rows], protocol: str, declared: Declaration) -> dict[str, Rows]:
    """The encoders and controls that the protocol can score."""
    if declared.needs == "rows":
        return dict(given)
    bare = [name for name, rows in given.items() if not isinstance(rows, Subject)]
    if bare:
        raise UserError(f"the protocol {protocol} needs the {declared.needs} of its rows, and rows alone were given for the {bare[0]}")
    needs_encoder = declared.needs == "encoder"
    return {name: rows for name, rows in given.items() if not needs_encoder or (isinstance(rows, Subject) and rows.trainable)}


def _labels(given: Tensor | np.ndarray | None, columns: Mapping[str, Rows], protocol: str, declared: Declaration, seed: int) -> Labels:
    if declared.labels in ("unused", "source") or (declared.labels == "used" and given is None):
        rows = next(iter(columns.values()))
        return no_labels(len(rows(seed) if callable(rows) else rows))
    if declared.labels == "numbers":
        return prepare_numbers(given, protocol)
    return prepare_labels(given, protocol, several=declared.several is not None)


def _split(split_for_seed: Callable[[int], Split], seed: int, labels: Labels, declared: Declaration) -> Split:
    if declared.labels == "unused":
        nothing = torch.empty(0, dtype=torch.long)
        return Split(nothing, nothing, nothing, name="of the other data")
    return labelled(split_for_seed(seed), labels) if labels.given else split_for_seed(seed)


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
        f"the test part has samples of class {classes}, which the training part lacks, and no probe can know them ({seed_words(seeds)})"
        for classes, seeds in seeds_of.items()
    ]


def _missing_controls(rows_by_encoder: Mapping[str, Rows], declared: Declaration) -> list[str]:
    controls = (RANDOM,) if declared.needs == "encoder" else (RANDOM, RAW)
    missing = [control for control in controls if control not in rows_by_encoder]
    return [f"the scores stand without these controls: {', '.join(missing)}"] if missing else []
