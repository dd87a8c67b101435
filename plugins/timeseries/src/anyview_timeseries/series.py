"""Windows of time series as a source: channels first, with what each belongs to, and a split that keeps subjects apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyview.data.source import Batch, Epoch, Predictor, Source, fingerprint
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.views.draws import derive_seed
from anyview.views.view import View
from anyview_timeseries.rocket import minirocket
from anyview_timeseries.shifts import SHIFTS
from anyview_timeseries.spectra import log_spectrum, statistics, tapered_spectrum

CLEAN_NUMBERS = 2**22
"""Most numbers that one clean view holds: a wavelet map or the first feature maps of a network take fifty times as much memory."""
SHORTEST_SPECTRUM = 8
MOST_FOR_ROCKET = 30_000
APART = ("subject", "trial", "series", "block")
"""What splits keep apart: the first of these that there are three of at least; blocks are stretches of a long recording."""
FEWEST = 3


class SeriesSource(Source):
    """Windows (N, C, T) float32 in memory, channels first.

    windows: NaN where a value is missing and the user asked for a mask. labels: (N,) classes, as words or whole numbers (empty words and
    negative numbers are unlabelled), numbers to be predicted (floats, NaN is unlabelled), or (N, L) yes/no answers. groups: by name
    ("subject", "trial", "series"), (N,) words or numbers, given to views as ids; splits keep the first of these apart that there are
    three of. ids: (N,) what the input calls its windows. published: the data's own split. train_rows: (n,) the windows that pre-training
    is shown, by default the training part of a published split, else all; clean views, labels and features are of all N. rate: samples a
    second (Hz). band: lowest and highest frequency (Hz) that say something of the labels, for spectral controls. labelled: batches carry
    labels. notes: facts for `describe`.

    `group_names` holds what the numbers of a group mean, `class_names` what those of words do, `scaling` the mean and deviation (C,) that
    channels were brought to 0 and 1 by, if they were.

    An epoch is a fresh order of the training windows in batches of equal size; what does not fill a last batch waits for the next epoch.
    Raises UserError for windows of another shape, infinite numbers, and labels, groups or ids of another length.

    >>> source = SeriesSource(torch.zeros(10, 2, 50), groups={"subject": list("aabbbccccc")}, rate=25.0)
    >>> source.shape, source.steps(4), next(source.batches(Epoch(batch_size=4))).data.shape
    ({'channels': 2, 'length': 50}, 2, torch.Size([4, 2, 50]))
    >>> source.groups.tolist(), source.group_names["subject"]
    ([0, 0, 1, 1, 1, 2, 2, 2, 2, 2], ['a', 'b', 'c'])
    """

    corruptions = tuple(SHIFTS)
    train_rows: Tensor
    kept_apart: str | None

    def __init__(
        self,
        windows: Tensor | np.ndarray,
        labels: Any = None,
        *,
        groups: Mapping[str, Any] | None = None,
        ids: Sequence[Any] | None = None,
        published: Split | None = None,
        train_rows: Tensor | None = None,
        name: str = "series",
        rate: float | None = None,
        band: tuple[float, float] | None = None,
        labelled: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.published, self.rate, self.band, self.labelled = name, published, rate, band, labelled
        self.notes = dict(notes or {})
        self._answered: dict[tuple[int, str], np.ndarray] = {}
        self.windows = checked_windows(windows, name)
        self._describe_samples(self.windows.shape[1], self.windows.shape[2], len(self.windows), labels, groups, ids)
        self.train_rows = self._default_rows() if train_rows is None else train_rows

    def _describe_samples(self, channels: int, length: int, count: int, labels: Any, groups: Mapping[str, Any] | None, ids: Any) -> None:
        self.shape = {"channels": channels, "length": length}
        self.labels, self.class_names = (None, []) if labels is None else label_numbers(labels, count, self.name)
        numbered = {key: group_numbers(values, count, f"{key}s of {self.name!r}") for key, values in (groups or {}).items()}
        self.members = {key: numbers for key, (numbers, _) in numbered.items()}
        self.group_names = {key: names for key, (_, names) in numbered.items()}
        apart = next((key for key in APART if len(self.group_names.get(key, ())) >= FEWEST), next(iter(self.members), None))
        self.groups, self.kept_apart = (None, None) if apart is None else (self.members[apart], apart)
        self.scaling: tuple[Tensor, Tensor] | None = None
        self.ids = None if ids is None else list(ids)
        if self.ids is not None and len(self.ids) != count:
            raise UserError(f"the ids of {self.name!r} are {len(self.ids)} and the windows {count}; give one for each window")

    def _default_rows(self) -> Tensor:
        return torch.arange(len(self)) if self.published is None else self.published.train

    @property
    def has_gaps(self) -> bool:
        """Whether values are missing (NaN), which encoders that know no mask cannot read."""
        return bool(self.windows.isnan().any())

    def take(self, index: Tensor) -> Tensor:
        """The windows of some rows, (n, C, T); index: (n,)."""
        return self.windows[index]

    def __len__(self) -> int:
        return len(self.windows)

    def steps(self, batch_size: int | None) -> int:
        return len(self.train_rows) // self._rows(batch_size)

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        total = self._rows(epoch.batch_size)
        if total < epoch.ranks:
            raise UserError(f"a batch of {total} windows cannot be shared by {epoch.ranks} ranks; make it larger or use fewer devices")
        order = torch.Generator().manual_seed(derive_seed(epoch.seed, "order", epoch.number))
        rows = self.train_rows[torch.randperm(len(self.train_rows), generator=order)]
        own = epoch.own(total)
        for step in range(epoch.skip, self.steps(total)):
            index = rows[step * total : (step + 1) * total][own]
            labels = self.labels[index] if self.labelled and self.labels is not None else None
            yield Batch(self.take(index), len(index), own.start, total, index=index, labels=labels, groups=self._of(index))

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        most = min(batch_size, max(1, CLEAN_NUMBERS // (self.shape["channels"] * self.shape["length"])))
        for index in torch.arange(len(self)).split(most):
            yield View(self.take(index), stream="time", role="clean", index=index, groups=self._of(index))

    def features(self) -> np.ndarray:
        """(N, C T) the values themselves; missing ones are 0."""
        return torch.cat([view.data.flatten(1).nan_to_num(0.0) for view in self.clean()]).numpy()

    def controls(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Spectra and statistics of each window, (N, F); none where windows are too short for a spectrum."""
        if self.shape["length"] < SHORTEST_SPECTRUM:
            return {}
        return {
            "log spectrum": lambda: self._over(lambda x: log_spectrum(x, self.rate, self.band)),
            "tapered spectrum": lambda: self._over(lambda x: tapered_spectrum(x, self.rate, self.band)),
            "statistics + spectrum": lambda: self._over(statistics),
        }

    def baselines(self) -> Mapping[str, Predictor]:
        """MiniRocket with ridge regression, where aeon is installed."""
        return {"MiniRocket": self._minirocket}

    def _minirocket(self, train: Tensor, labels: np.ndarray, seed: int) -> np.ndarray:
        if len(self) > MOST_FOR_ROCKET:
            raise UserError(f"MiniRocket holds 10,000 features of every window, which is too much for {len(self)}")
        key = (seed, fingerprint(train, labels))
        if key not in self._answered:
            self._answered[key] = minirocket(self.take(torch.arange(len(self))).numpy(), train, labels, seed)
        return self._answered[key]

    def _over(self, features: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.concatenate([features(view.data.numpy()) for view in self.clean()])

    def fingerprint(self) -> str:
        return fingerprint(self.windows, self.labels, self.train_rows, *self.members.values())

    def corrupted(self, name: str, severity: int, seed: int) -> Source:
        if name not in self.corruptions:
            return super().corrupted(name, severity, seed)
        if severity not in range(1, 6):
            raise UserError(f"shifts have the severities 1 to 5, and {severity} was asked for")
        generator = torch.Generator().manual_seed(derive_seed(seed, name, severity))
        parts = [SHIFTS[name](view.data, severity, generator) for view in self.clean()]
        other = copy.copy(self)
        other.windows, other.name = torch.cat(parts), f"{self.name}, {name} {severity}"
        return other

    def split(self, seed: int) -> Split:
        """The published split, else one drawn with the seed: by subject (trial, series) where there are any, else by class."""
        if self.published is not None:
            return self.published
        count = len(self.group_names[self.kept_apart]) if self.kept_apart else FEWEST
        if self.labels is not None and count < FEWEST:
            found = f"{self.name!r} has {count} {self.kept_apart}{'s' if count > 1 else ''}"
            raise UserError(f"{found}, and a split that keeps them apart needs {FEWEST}; give more, or cut windows with --reading.length")
        return super().split(seed)

    def describe(self) -> dict[str, Any]:
        facts = super().describe()
        if self.rate is not None:
            facts["rate"] = f"{self.rate:g} Hz"
        if self.labels is not None and self.labels.ndim == 1:
            facts |= _label_facts(self.labels)
        facts |= {f"{key}s" if key != "series" else key: len(names) for key, names in self.group_names.items() if key in told(self)}
        if self.published is not None:
            facts["split"] = self.published.name
        if len(self.train_rows) < len(self):
            facts["pre-trained on"] = f"{len(self.train_rows)} of {len(self)} windows"
        return {**facts, **self.notes}

    def _rows(self, batch_size: int | None) -> int:
        return min(batch_size or len(self.train_rows), len(self.train_rows))

    def _of(self, index: Tensor) -> dict[str, Tensor] | None:
        return {key: numbers[index] for key, numbers in self.members.items()} or None


def require_complete(source: Source, what: str) -> None:
    """Raise UserError where windows have missing values, for methods that know no mask; what: the method, as the sentence calls it."""
    if getattr(source, "has_gaps", False):
        todo = (
            "fill them with --reading.missing interpolate and --reading.lengths cut, or choose a method that masks them (timeseries/ts2vec)"
        )
        raise UserError(f"{what} reads windows without missing values, and those of {source.name!r} have some; {todo}")


def told(source: SeriesSource) -> list[str]:
    """Names of the groups that `describe` tells: blocks only where splits keep them apart."""
    return [key for key in source.members if key != "block" or source.kept_apart == "block"]


def checked_windows(windows: Tensor | np.ndarray, name: str) -> Tensor:
    """Windows as float32 (N, C, T); raises UserError for other shapes, empty ones, and numbers that are infinite."""
    tensor = torch.as_tensor(windows)
    if tensor.ndim != 3 or tensor.numel() == 0 or tensor.is_complex():
        found = f"an array of {tuple(tensor.shape)}, {tensor.dtype}"
        raise UserError(f"the series {name!r} are {found}; give real numbers as (windows, channels, time steps), none of them 0")
    tensor = tensor.to(torch.float32)
    if infinite := int(tensor.isinf().flatten(1).any(1).sum()):
        raise UserError(f"{infinite} of {len(tensor)} windows of {name!r} hold infinite numbers; mend or drop them")
    return tensor


def label_numbers(labels: Any, count: int, name: str) -> tuple[Tensor, list[str]]:
    """Labels as a tensor, and the names of the classes where the labels are words.

    Whole numbers and floats stay what they are, because a label may be a heart rate; words become numbers in their sorted order, -1 where
    empty.

    >>> label_numbers(["walk", "", "rest"], 3, "mine")
    (tensor([ 1, -1,  0]), ['rest', 'walk'])
    """
    array = labels.numpy(force=True) if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim not in (1, 2) or len(array) != count:
        raise UserError(f"the labels of {name!r} have the shape {array.shape}, and there are {count} windows; give one for each window")
    if array.dtype.kind in "iub":
        return torch.from_numpy(array.astype(np.int64)), []
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32)), []
    if array.dtype.kind not in "US" or array.ndim == 2:
        raise UserError(f"the labels of {name!r} are of type {array.dtype}; give words or numbers, one for each window")
    numbers, names = _numbered(array, array != "")
    return numbers, names


def group_numbers(values: Any, count: int, what: str) -> tuple[Tensor, list[str]]:
    """Ids 0 .. G - 1 of a group in the sorted order of its values, (N,), and what each means."""
    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or len(array) != count:
        raise UserError(f"the {what} have the shape {array.shape}, and there are {count} windows; give one for each window")
    if array.dtype.kind not in "iubUS":
        missing = np.array([value is None or value != value for value in array.tolist()], dtype=bool)
        if missing.any():
            raise UserError(f"{int(missing.sum())} of the {count} windows have no value among the {what}; give every one, or drop them")
        array = array if array.dtype.kind == "f" else array.astype(str)
    return _numbered(array, np.ones(count, dtype=bool))


def _numbered(array: np.ndarray, known: np.ndarray) -> tuple[Tensor, list[str]]:
    names, numbers = np.unique(array[known], return_inverse=True)
    found = np.full(len(array), -1, dtype=np.int64)
    found[known] = numbers
    return torch.from_numpy(found), [str(name) for name in names]


def _label_facts(labels: Tensor) -> dict[str, Any]:
    if labels.is_floating_point():
        known = labels[labels.isfinite()]
        return {"labels": f"numbers from {float(known.min()):g} to {float(known.max()):g}"} if len(known) else {"labels": "none known"}
    return {"classes": len(labels[labels >= 0].unique())}
