"""Tables and tensors as a source: in memory, from .npz or .csv files, or by name."""

from __future__ import annotations

import copy
import csv
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from anyview.data.roots import data_root, place_of
from anyview.data.shifts import ROW_SHIFTS, Shift, shifted
from anyview.data.source import Batch, Epoch, Source, fingerprint
from anyview.errors import UserError
from anyview.views.draws import derive_seed
from anyview.views.view import View

Array: TypeAlias = np.ndarray | Tensor | Sequence[Any]

AXES = {1: ("features",), 2: ("channels", "length"), 3: ("channels", "height", "width"), 4: ("channels", "depth", "height", "width")}


class ArraySource(Source):
    """The rows of a table, or of any tensor whose first axis counts samples, held in memory.

    x: (N, ...) numbers, kept as float32. labels: (N,) classes (numbers or words) or (N, L) yes/no answers. ids: (N,) what the input calls
    its rows. groups: (N,) what each row belongs to (numbers or words), kept together by splits and given to views as "group".
    labelled: batches carry the labels, for methods that learn from them. `shape` has "features" (numbers per sample) and, for more than
    one axis, "channels", "length", "height", "width". A subclass for other data than rows names shifts of its own in `shifts` and
    `corruptions`.

    An epoch is a fresh order, cut into batches of equal size; rows that do not fill a last batch wait for the next epoch's order, because
    the scale of a loss over row pairs changes with their number. Raises UserError for empty or non-finite data and for lengths that differ.

    >>> source = ArraySource(np.eye(10), name="eye")
    >>> source.steps(4), source.shape, [len(batch.data) for batch in source.batches(Epoch(batch_size=4))]
    (2, {'features': 10}, [4, 4])
    """

    shifts: Mapping[str, Shift] = ROW_SHIFTS
    corruptions = tuple(ROW_SHIFTS)

    def __init__(
        self,
        x: Array,
        labels: Array | None = None,
        *,
        ids: Sequence[Any] | None = None,
        groups: Array | None = None,
        name: str = "array",
        labelled: bool = False,
    ) -> None:
        self.name, self.labelled = name, labelled
        self.x = _numbers(x, name)
        self.shape = {"features": self.x[0].numel()}
        self.shape.update(zip(AXES.get(self.x.ndim - 1, ()), self.x.shape[1:], strict=False))
        self.labels = None if labels is None else _classes(labels, len(self), f"labels of {name!r}")
        self.groups = None if groups is None else _classes(groups, len(self), f"groups of {name!r}")
        self.ids = None if ids is None else _of_length(list(ids), len(self), f"ids of {name!r}")

    def __len__(self) -> int:
        return len(self.x)

    def steps(self, batch_size: int | None) -> int:
        return len(self) // self._rows(batch_size)

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        total = self._rows(epoch.batch_size)
        if total < epoch.ranks:
            raise UserError(f"a batch of {total} rows cannot be shared by {epoch.ranks} ranks; make the batch larger or use fewer devices")
        order = torch.Generator().manual_seed(derive_seed(epoch.seed, "order", epoch.number))
        rows = torch.randperm(len(self), generator=order)
        own = epoch.own(total)
        for step in range(epoch.skip, self.steps(total)):
            yield self._batch(rows[step * total : (step + 1) * total][own], own.start, total)

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        for start in range(0, len(self), batch_size):
            index = torch.arange(start, min(start + batch_size, len(self)))
            yield View(self.x[index], role="clean", index=index, groups=self._groups(index))

    def features(self) -> np.ndarray:
        return self.x.flatten(1).numpy()

    def fingerprint(self) -> str:
        return fingerprint(self.x, self.labels, self.groups)

    def corrupted(self, name: str, severity: int, seed: int) -> Source:
        if name not in self.corruptions:
            return super().corrupted(name, severity, seed)
        other = copy.copy(self)
        other.x = shifted(self.x, self.shifts, name, severity, derive_seed(seed, name, severity))
        other.name = f"{self.name}, {name} {severity}"
        return other

    def describe(self) -> dict[str, Any]:
        facts = super().describe()
        if self.labels is not None and self.labels.ndim == 1:
            facts["classes"] = len(self.labels[self.labels >= 0].unique())
        if self.groups is not None:
            facts["groups"] = len(self.groups.unique())
        return facts

    def _rows(self, batch_size: int | None) -> int:
        return len(self) if batch_size is None else min(batch_size, len(self))

    def _batch(self, index: Tensor, start: int, total: int) -> Batch:
        labels = self.labels[index] if self.labelled and self.labels is not None else None
        return Batch(self.x[index], len(index), start, total, index=index, labels=labels, groups=self._groups(index))

    def _groups(self, index: Tensor) -> dict[str, Tensor] | None:
        return None if self.groups is None else {"group": self.groups[index]}


def digits() -> ArraySource:
    """1797 handwritten digits of 8 x 8 pixels as rows of 64 numbers from 0 to 1, 10 classes; part of scikit-learn, no download."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return ArraySource(x / 16, y, name="digits")


def open_rows(data: str | Path | Source | Array, *, prefer: str = "core") -> Source:
    """The source that a user's `data` means.

    data: a source (returned as it is), an array or tensor (N, ...), the path of a .npz or .csv file, the name of such a file under the data
    root, or the name of a registered data set ("digits"); prefer: the plugin whose data set wins where names are shared.
    A .npz holds `x` and optionally `y`, `groups`, `ids`. A .csv has a header; columns called label, group and id are those, all
    others numbers. Raises UserError for what cannot be read.

    >>> len(open_rows(np.zeros((10, 4))))
    10
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, str | Path):
        return ArraySource(data)
    path = _find(data)
    if path is not None:
        read = _READERS[path.suffix.lower()](path)
        read.place = place_of(data, path)
        return read
    from anyview.plugins import host

    source = host().find("datasets", str(data), prefer=prefer).load()()
    assert isinstance(source, Source)
    return source


def _find(data: str | Path) -> Path | None:
    """The file that a path or name means; None for the name of a registered data set."""
    path = Path(data).expanduser()
    if path.suffix.lower() in _READERS or (len(path.parts) > 1 and path.suffix):
        if path.suffix.lower() not in _READERS:
            raise UserError(f"the data file {str(data)!r} has the ending {path.suffix!r}; give a .npz or .csv file")
        for place in (path, data_root() / path):
            if place.is_file():
                return place
        raise UserError(f"there is no data file {str(data)!r}, here or under the data root {str(data_root())!r}; check the path")
    found = [data_root() / f"{data}{ending}" for ending in _READERS]
    return next((place for place in found if place.is_file()), None)


def _read_npz(path: Path) -> ArraySource:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{str(path)!r} cannot be read as a .npz file of plain arrays ({error}); write it with numpy.savez") from error
    if "x" not in arrays:
        raise UserError(f"{str(path)!r} has the arrays {sorted(arrays)} and none called 'x'; save the data as x, labels as y")
    ids = arrays["ids"].tolist() if "ids" in arrays else None
    return ArraySource(arrays["x"], arrays.get("y"), ids=ids, groups=arrays.get("groups"), name=path.stem)


def _read_csv(path: Path) -> ArraySource:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line] or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read as a .csv file ({error}); save it as UTF-8 text with commas") from error
    if not header or all(is_number(cell) for cell in header):
        raise UserError(f"{str(path)!r} has no header; put the names of the columns on its first line")
    names = [cell.strip().lower() for cell in header]
    if repeated := sorted({name for name in ("label", "group", "id") if names.count(name) > 1}):
        raise UserError(f"the header of {str(path)!r} has {', '.join(repeated)} more than once; keep one column of that name")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(names):
            raise UserError(f"line {number} of {str(path)!r} has {len(line)} cells and the header {len(names)}; make them equal")
    special = {name: [line[names.index(name)] for line in lines] for name in ("label", "group", "id") if name in names}
    columns = [position for position, name in enumerate(names) if name not in special]
    x = np.array([[_cell(line, column, number, header, path) for column in columns] for number, line in enumerate(lines, start=2)])
    return ArraySource(x, special.get("label"), ids=special.get("id"), groups=special.get("group"), name=path.stem)


_READERS = {".npz": _read_npz, ".csv": _read_csv}


def _cell(line: list[str], column: int, number: int, header: list[str], path: Path) -> float:
    try:
        return float(line[column])
    except ValueError:
        where = f"line {number}, column {header[column]!r} of {str(path)!r}"
        raise UserError(f"{where} holds {line[column]!r}, which is no number; fill it in, or call the column label, group or id") from None


def is_number(cell: str) -> bool:
    """Whether a cell of a table can be read as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(x: Array, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(x if isinstance(x, Tensor) else np.asarray(x))
    except (TypeError, ValueError) as error:
        raise UserError(f"the data {name!r} cannot be read as numbers ({error}); give an array of numbers") from error
    if tensor.is_complex():
        raise UserError(f"the data {name!r} are complex numbers; give real ones, such as their parts side by side")
    tensor = tensor.to(torch.float32)
    if tensor.ndim < 2 or tensor.numel() == 0:
        raise UserError(
            f"the data {name!r} has the shape {tuple(tensor.shape)}; give at least one sample and one number, as (samples, ...)"
        )
    bad = (~tensor.isfinite()).flatten(1).any(1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise UserError(
            f"the data {name!r} has missing or infinite numbers in {int(bad.sum())} rows, first in row {first}; fill or drop them"
        )
    return tensor


def _classes(values: Array, rows: int, what: str) -> Tensor:
    """Numbers 0 .. classes - 1 in the sorted order of the values, (N,), -1 = unlabelled; several answers (N, L) as they are.

    Unlabelled are negative numbers and empty words.
    """
    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    _of_length(array, rows, what)
    if array.ndim > 1:
        return torch.as_tensor(array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"the {what} have gaps; give every row one, or leave them out")
    known = array != "" if array.dtype.kind in "US" else array >= 0
    numbers = np.full(rows, -1, dtype=np.int64)
    numbers[known] = np.unique(array[known], return_inverse=True)[1]
    return torch.from_numpy(numbers)


def _of_length(values: Any, rows: int, what: str) -> Any:
    if not np.ndim(values):
        raise UserError(f"the {what} are a single value; give one for each of {rows} rows")
    if len(values) != rows:
        raise UserError(f"the {what} are {len(values)} and the rows {rows}; give one for each row")
    return values
