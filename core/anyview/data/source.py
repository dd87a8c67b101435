"""Sources: where batches come from, and what stays the same about the data from one epoch to the next."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anyview.data.splits import Split, stratified_split
from anyview.errors import UserError

if TYPE_CHECKING:
    from anyview.views.view import View

Predictor = Callable[[Tensor, np.ndarray, int], np.ndarray]
"""(training rows (n,), their classes (n,) from 0, seed) -> classes (N,) for every sample: a classical method that reads the data itself."""


@dataclass(slots=True)
class Batch:
    """This rank's part of one global batch.

    data: what view makers read: a tensor (B, ...), a graph, a dictionary of tensors.
    rows: B, how many samples this part has; start, total: it holds samples start .. start + rows of a global batch of `total`.
    index: (B,) sample ids, stable across epochs. labels, groups: as in View and ViewSet.
    extras: parts of other sources' batches (a candidate pool, a labelled half), each with its own sampler.
    """

    data: Any
    rows: int
    start: int = 0
    total: int = 0
    index: Tensor | None = None
    labels: Any = None
    groups: dict[str, Tensor] | None = None
    extras: dict[str, Batch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.total = self.total or self.rows

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        """The same batch with every tensor on `device`."""

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: move(item) for name, item in value.items()}
            return value.to(device, **options) if hasattr(value, "to") else value

        moved = {name: move(getattr(self, name)) for name in ("data", "index", "labels", "groups", "extras")}
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Everything a source may know when it lays out one epoch.

    number: from 0. seed: the run's. batch_size: rows of the global batch, None = all. rank, ranks: this process among all.
    skip: batches that a resumed run has already seen. model: the module in training, for sources whose data follow from it.
    """

    number: int = 0
    seed: int = 0
    batch_size: int | None = None
    rank: int = 0
    ranks: int = 1
    skip: int = 0
    model: torch.nn.Module | None = None

    def own(self, rows: int) -> slice:
        """This rank's share of a global batch, consecutive rows, rank order = row order, sizes that differ by at most one."""
        return slice(rows * self.rank // self.ranks, rows * (self.rank + 1) // self.ranks)


class Source(ABC):
    """A data set as training and evaluation see it.

    name: how the user called it. place: absolute path of the file or folder that it was read from, several with commas; None where a name
    finds it again, or it was never in a file. shape: the numbers that an encoder is built from ({"features": 1433}); they are saved with a
    run, so that it can be loaded without its data. labels: (N,) classes, (N, L) several yes/no answers or None; never seen by training
    unless a recipe asks. train_rows: (n,) the samples that `batches` shows, None = all N; a published split keeps the others from it.
    ids: (N,) what the input calls its samples, None = 0 .. N - 1. divisible: whether several ranks can share a batch; a single graph is
    not. corruptions: names of the shifts that `corrupted` makes. protocols: what a run on this data is scored by where nobody says; None =
    the linear probe where there are labels. all_training: options of a recipe's `reading` with which the validation part is training too,
    for whoever has chosen and trains anew; None where there are none.
    """

    name: str = "data"
    place: str | None = None
    shape: dict[str, int]
    labels: Tensor | None = None
    train_rows: Tensor | None = None
    ids: Sequence[Any] | None = None
    groups: Tensor | None = None
    divisible: bool = True
    corruptions: tuple[str, ...] = ()
    protocols: tuple[str, ...] | None = None
    all_training: Mapping[str, Any] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples (rows that an embedding has)."""

    @abstractmethod
    def steps(self, batch_size: int | None) -> int:
        """Batches in one epoch."""

    @abstractmethod
    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        """This rank's parts of an epoch's batches, of `train_rows` alone; the order follows from the seed and the epoch's number alone."""

    @abstractmethod
    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        """Untouched views of everything, in the input's order, for embedding."""

    @abstractmethod
    def features(self) -> np.ndarray:
        """(N, F) the raw features, float: the control that every score stands beside."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash of the content: two runs on equal data have equal fingerprints."""

    def controls(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Further features (N, F) by name, such as a log spectrum, probed beside the encoder's rows as the raw ones are."""
        return {}

    def keeps(self) -> Mapping[str, np.ndarray]:
        """Arrays, none of objects, that a run keeps because it cannot be used without: ids to answer with, a graph's edges.

        The run is loaded with them in an `Outline`, so whatever a recipe builds on them needs no data.
        """
        return {}

    def baselines(self) -> Mapping[str, Predictor]:
        """Classical classifiers by name, whose accuracy stands beside that of every probe; one that lacks a package raises UserError."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Facts worth printing, in order: sizes, classes, where it came from."""
        return {"name": self.name, "samples": len(self), **self.shape}

    def split(self, seed: int) -> Split:
        """Train, validation and test rows: the published split where there is one, else drawn with `seed`."""
        if self.labels is None:
            asked = f"a split of {self.name!r} was asked for, and the data set has no labels"
            raise UserError(f"{asked}; give labels, or use the label-free metrics")
        return stratified_split(self.labels, seed, groups=self.groups)

    def corrupted(self, name: str, severity: int, seed: int) -> Source:
        """The same samples, in their order, after the shift `name` (one of `corruptions`) at severity 1 to 5; drawn from `seed` alone."""
        raise UserError(f"the data {self.name!r} has no shift {name!r}; it has {', '.join(self.corruptions) or 'none'}")


class Outline(Source):
    """Stands in for a source when a run is loaded without its data: knows the shape and what the run keeps, and nothing else."""

    def __init__(self, name: str, shape: dict[str, int], kept: Mapping[str, np.ndarray] | None = None) -> None:
        self.name, self.shape, self.kept = name, dict(shape), kept or {}

    def keeps(self) -> Mapping[str, np.ndarray]:
        return self.kept

    def _unread(self) -> UserError:
        return UserError(f"the run was loaded without its data {self.name!r}, and the data was asked for; pass data=...")

    def __len__(self) -> int:
        raise self._unread()

    def steps(self, batch_size: int | None) -> int:
        raise self._unread()

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        raise self._unread()

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        raise self._unread()

    def features(self) -> np.ndarray:
        raise self._unread()

    def fingerprint(self) -> str:
        raise self._unread()


def fingerprint(*arrays: np.ndarray | Tensor | None) -> str:
    """16 hexadecimal digits that change when any element, shape or type does.

    >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(3)) != fingerprint(np.zeros((3, 1)))
    True
    """
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        array = np.ascontiguousarray(array.numpy(force=True) if isinstance(array, Tensor) else array)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
