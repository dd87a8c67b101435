"""What a protocol is given: rows, labels and a split, checked; and the one place where predictions meet test labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from anyview.data.source import Source
from anyview.data.splits import Split, stratified_split
from anyview.errors import UserError
from anyview.evaluation.answers import of_classes, of_numbers

if TYPE_CHECKING:
    from anyview.evaluation.subject import Origin

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class ProtocolData:
    """Frozen rows with labels and a split, checked and ready to be scored.

    rows: (N, D) float32. labels: (N,) class numbers 0 .. C - 1 with -1 = unlabelled, (N, L) zeros and ones, or, for protocols of numbers,
    (N,) float32 with NaN = unlabelled. split: labelled rows only. classes: C or L, 0 for numbers. origin: where the rows come from; there
    for every protocol that declares to need it. names: (C,) the classes as the data calls them.
    """

    rows: np.ndarray
    labels: np.ndarray
    split: Split
    classes: int
    origin: Origin | None = None
    names: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether each sample has several yes/no answers instead of one class."""
        return self.labels.ndim == 2

    @property
    def measure(self) -> str:
        """What `score` returns: "accuracy", or "micro_f1" for several answers."""
        return "micro_f1" if self.several else "accuracy"

    def part(self, name: Part) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n, D) and labels (n,) or (n, L) of one part of the split."""
        index = getattr(self.split, name).numpy()
        return self.rows[index], self.labels[index]

    @property
    def source(self) -> Source:
        """The data that the rows are of."""
        return self.asked_origin.source

    @property
    def asked_origin(self) -> Origin:
        """Where the rows come from; raises UserError where rows alone were given."""
        if self.origin is None:
            raise UserError("a protocol asked where its rows come from, and rows alone were given; evaluate a run, or give a subject")
        return self.origin

    def embed(self, source: Source) -> np.ndarray:
        """Rows (n, D) float32 of other data, made as these were."""
        return np.asarray(self.asked_origin.embed(source), dtype=np.float32)

    def open(self, data: Any) -> list[Source]:
        """The data that an option names: a source, a name or a path, or several with commas.

        A value with a comma is one data set where it can be opened as one, such as a graph's edges.csv,features.csv.
        """
        if isinstance(data, list | tuple):
            return [self.asked_origin.open(one) for one in data]
        if not isinstance(data, str) or "," not in data:
            return [self.asked_origin.open(data)]
        try:
            return [self.asked_origin.open(data)]
        except UserError:
            return [self.asked_origin.open(part.strip()) for part in data.split(",") if part.strip()]

    def restricted(self, train: np.ndarray) -> ProtocolData:
        """The same data with the rows `train` (n,), of the split's own, as its training part."""
        split = Split(torch.from_numpy(train), self.split.validation, self.split.test, name=self.split.name)
        return replace(self, split=split)

    def with_validation(self, seed: int) -> ProtocolData:
        """The same data where it has a validation part; else a fifth of the training part is that, drawn by class, or in whole groups.

        The data as it is where that would leave nothing to choose on, or fewer than two classes to learn.
        """
        if len(self.split.validation):
            return self
        train, labels, groups = self.split.train, torch.from_numpy(self.labels), self._groups
        inner = stratified_split(labels[train], seed, shares=(0.8, 0.2, 0.0), groups=None if groups is None else groups[train])
        kept, held_out = train[inner.train], train[inner.validation]
        if not len(held_out) or (not self.several and len(labels[kept].unique()) < 2):
            return self
        return replace(self, split=Split(kept, held_out, self.split.test, name=self.split.name))

    @property
    def _groups(self) -> Tensor | None:
        """What no part of a split shares (subjects, trials), (N,), where the data says so."""
        return None if self.origin is None else self.origin.source.groups

    def compare(self, measured: Callable[..., Any], *answers: Any) -> Any:
        """What `measured` makes of the test labels and of answers for the test part; probes meet test labels here and nowhere else."""
        return measured(self.labels[self.split.test.numpy()], *answers)

    def score(self, predicted: np.ndarray) -> float:
        """Accuracy or micro-F1, 0 to 1, of predictions for the test part, (n,) or (n, L)."""
        return float(self.compare(lambda truth, answer: measure(answer, truth), predicted))

    def scores(self, predicted: np.ndarray, probabilities: np.ndarray | None = None) -> dict[str, float]:
        """All scores of predictions for the test part, (n,) or (n, L): accuracy and those of `answers.of_classes`, or micro-F1 alone.

        probabilities: (n, C), for the AUROCs.
        """
        found = {self.measure: self.score(predicted)}
        return found if self.several else {**found, **self.compare(of_classes, predicted, probabilities)}

    def errors(self, predicted: np.ndarray) -> dict[str, float]:
        """Errors and correlation of predicted numbers for the test part, (n,); see `answers.of_numbers`."""
        found: dict[str, float] = self.compare(of_numbers, predicted)
        return found


def measure(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Accuracy of classes (n,), or micro-F1 of yes/no answers (n, L), both 0 to 1.

    >>> measure(np.array([0, 1, 1]), np.array([0, 1, 1])), measure(np.array([[1, 0, 1]]), np.array([[1, 1, 0]]))
    (1.0, 0.5)
    """
    if truth.ndim == 1:
        return float(np.mean(predicted == truth))
    hits = float(np.sum((predicted > 0) & (truth > 0)))
    named = float(np.sum(predicted > 0) + np.sum(truth > 0))
    return 2 * hits / named if named else 0.0


def majority_on_test(data: ProtocolData, _seed: int = 0, **_options: Any) -> dict[str, float]:
    """The best that one answer for every test sample can score: share of the largest class, or micro-F1 of the best fixed set of answers.

    The answer is taken from the test labels themselves: no constant does better, whatever the shares of the training part. Nothing where
    there are no labels.
    """
    truth = data.labels[data.split.test.numpy()]
    if not data.several and not (truth >= 0).any():
        return {}
    if not data.several:
        return {"accuracy": float(np.bincount(truth).max() / len(truth))}
    counts = np.sort(truth.sum(0))[::-1]  # the best set of a given size holds the most frequent answers
    named = np.arange(1, len(counts) + 1) * len(truth) + counts.sum()
    return {"micro_f1": float(np.max(2 * np.cumsum(counts) / named))}


def mean_of_train(data: ProtocolData, _seed: int = 0, **_options: Any) -> dict[str, float]:
    """The errors of answering every test sample with the mean of the training part's numbers."""
    return data.errors(np.full(len(data.split.test), data.part("train")[1].mean(dtype=np.float64)))


@dataclass(frozen=True, slots=True)
class Labels:
    """values: as in ProtocolData. names: (C,) the classes as the data calls them, (L,) numbers of the answers; none for numbers."""

    values: np.ndarray
    names: np.ndarray

    @property
    def numeric(self) -> bool:
        """Whether the labels are numbers to be predicted, not classes."""
        return self.values.dtype.kind == "f"

    @property
    def given(self) -> bool:
        """Whether there are labels at all."""
        return self.numeric or len(self.names) > 0


def prepare_labels(labels: Tensor | np.ndarray | None, protocol: str, *, several: bool) -> Labels:
    """Check labels (N,) or (N, L) for a protocol, `several` = it takes (N, L), and number the classes from 0 in their order.

    Raises UserError when there are none, when they are of another kind than the protocol takes, or of fewer than two classes.

    >>> prepare_labels(np.array([3, 7, -1, 3]), "linear", several=True)
    Labels(values=array([ 0,  1, -1,  0]), names=array([3, 7]))
    """
    if labels is None:
        raise UserError(f"the protocol {protocol} needs labels, and the data has none; give labels, or use the label-free metrics")
    array = labels.numpy(force=True) if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim == 2:
        return _answers(array, protocol, several)
    if array.dtype.kind not in "iub":
        raise UserError(f"the protocol {protocol} needs classes, and the labels are of type {array.dtype}; give integers, one per sample")
    array = array.astype(np.int64)
    names = np.unique(array[array >= 0])
    if len(names) < 2:
        raise UserError(f"the protocol {protocol} needs at least 2 classes, and the labels hold {len(names)}; give labels that differ")
    return Labels(np.where(array < 0, -1, np.searchsorted(names, array)), names)


def prepare_numbers(labels: Tensor | np.ndarray | None, protocol: str) -> Labels:
    """Check labels (N,) that are to be predicted as numbers: floats, of which NaN is unlabelled, or whole numbers, negative = unlabelled.

    Raises UserError when there are none, when they are answers or infinite, or hold fewer than two numbers.

    >>> prepare_numbers(np.array([70, -1, 90]), "heart_rate").values
    array([70., nan, 90.], dtype=float32)
    """
    if labels is None:
        raise UserError(f"the protocol {protocol} needs labels, and the data has none; give a number for each sample")
    array = labels.numpy(force=True) if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iuf" or np.isinf(array).any():
        found = f"an array of {array.shape}, {array.dtype}"
        raise UserError(
            f"the protocol {protocol} predicts one finite number per sample, and the labels are {found}; give (samples,) numbers"
        )
    values = np.where(array < 0, np.nan, array) if array.dtype.kind in "iu" else array
    if len(np.unique(values[np.isfinite(values)])) < 2:
        raise UserError(f"the protocol {protocol} needs labels that differ, and all that are known are equal; give other labels")
    return Labels(values.astype(np.float32), np.empty(0, dtype=np.int64))


def no_labels(samples: int) -> Labels:
    """The labels of data without any."""
    return Labels(np.full(samples, -1), np.empty(0, dtype=np.int64))


def any_split(source: Source, seed: int) -> Split:
    """The source's split; where it has no labels, 60/20/20 % of its rows or groups, drawn with the seed."""
    if source.labels is not None:
        return source.split(seed)
    return stratified_split(torch.zeros(len(source)), seed, groups=source.groups)


def labelled(split: Split, labels: Labels) -> Split:
    """The split without unlabelled rows.

    Raises UserError when nothing is left to train or test on, or the training part holds a single class.
    """
    split = without_unlabelled(split, labels.values)
    for name, part in (("train", split.train), ("test", split.test)):
        if not len(part):
            raise UserError(f"the {name} part of the split {split.name!r} has no labelled rows; choose another split or label more rows")
    if not labels.numeric and labels.values.ndim == 1 and len(np.unique(labels.values[split.train.numpy()])) < 2:
        raise UserError(f"the train part of the split {split.name!r} holds one class, and a probe needs at least 2; choose another split")
    return split


def unseen_classes(split: Split, labels: Labels) -> list[str]:
    """Names of the classes that the test part has and the training part lacks."""
    if not labels.given or labels.numeric or labels.values.ndim == 2:
        return []
    unseen = np.setdiff1d(labels.values[split.test.numpy()], labels.values[split.train.numpy()])
    return [str(name) for name in labels.names[unseen]]


def _answers(array: np.ndarray, protocol: str, several: bool) -> Labels:
    if not several:
        raise UserError(f"the protocol {protocol} takes one class per sample, and the labels are {array.shape[1]} answers each; use linear")
    if not np.isin(array, (0, 1)).all():
        raise UserError(
            f"the protocol {protocol} takes {array.shape[1]} columns of 0 and 1, and found other values; give one class per sample instead"
        )
    return Labels(array.astype(np.int64), np.arange(array.shape[1]))


def without_unlabelled(split: Split, values: np.ndarray) -> Split:
    """The split without rows whose label, of (N,), is unknown; as it is where there are several answers, (N, L)."""
    if values.ndim == 2:
        return split
    known = torch.from_numpy(np.isfinite(values) if values.dtype.kind == "f" else values >= 0)
    train, validation, test = (part[known[part]] for part in (split.train, split.validation, split.test))
    return Split(train, validation, test, name=split.name)
