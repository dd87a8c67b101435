"""Long tables as flat numbers on disk: a CSV or parquet recording is read once, batch by batch, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anyview.data.roots import cache_root
from anyview.errors import UserError
from anyview_timeseries.repair import JUMP, SAME_RATE
from anyview_timeseries.tables import Columns, dates, found_columns, tables

BLOCK_BYTES = 2**24
BATCH_ROWS = 2**17


@dataclass(slots=True)
class Flat:
    """A recording on disk.

    values: (T, C) float32, memory-mapped. channels: their names. rate: Hz by the times, None without times. labels: (T,) int32 places in
    `label_names`, -1 = none. begins: step at which each series begins; members: by "subject", "trial" and "id", one value for each series.
    """

    values: np.ndarray
    channels: list[str]
    rate: float | None = None
    labels: np.ndarray | None = None
    label_names: list[Any] = field(default_factory=list)
    begins: list[int] = field(default_factory=lambda: [0])
    members: dict[str, list[Any]] = field(default_factory=dict)


def flat(path: Path, columns: Columns) -> Flat:
    """A CSV or parquet recording, a row for each time step, as flat numbers; converted on first use, in bounded memory.

    Raises UserError for a column that was named and is not there, words among the values, and times that go back, jump or change their
    rate.
    """
    folder = cache_root() / "recordings" / _key(path, columns)
    if not (folder / "facts.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _Writer(path, columns, made).run()
            os.chmod(made, 0o755)
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                if not (folder / "facts.json").is_file():
                    raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    facts = json.loads((folder / "facts.json").read_text())
    values = np.memmap(folder / "values.bin", np.float32, "r").reshape(-1, len(facts["channels"]))
    labels = np.memmap(folder / "labels.bin", np.int32, "r") if facts["label_names"] else None
    return Flat(values, labels=labels, **{key: facts[key] for key in ("channels", "rate", "label_names", "begins", "members")})


def _key(path: Path, columns: Columns) -> str:
    state = path.stat()
    told = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {columns}"
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


class _Writer:
    """One pass over a table."""

    def __init__(self, path: Path, columns: Columns, folder: Path) -> None:
        self.path, self.folder = path, folder
        tables()
        self.header, self.batches = _batches(path)
        self.names = found_columns(self.header, columns, path)
        self.channels = [name for name in self.header if name not in self.names.values()]
        if not self.channels:
            raise UserError(f"{str(path)!r} has no channels beside {', '.join(self.names.values())}; check the names of its columns")
        self.rows = 0
        self.begins: list[int] = []
        self.members: dict[str, list[Any]] = {what: [] for what in ("subject", "trial", "id") if what in self.names}
        self.codes: dict[Any, int] = {}
        self.last: tuple[Any, ...] | None = None
        self.time: float | None = None
        self.usual: float | None = None

    def run(self) -> None:
        """Write values.bin, labels.bin and facts.json."""
        with (self.folder / "values.bin").open("wb") as values, (self.folder / "labels.bin").open("wb") as labels:
            for frame in self.batches:
                if not len(frame):
                    continue
                frame.columns = [str(name).strip() for name in frame.columns]
                starts = self._series(frame)
                if "time" in self.names:
                    self._times(frame[self.names["time"]], starts)
                _numbers(frame[self.channels], self.path).tofile(values)
                if "label" in self.names:
                    self._labels(frame[self.names["label"]]).tofile(labels)
                self.rows += len(frame)
        if not self.rows:
            raise UserError(f"{str(self.path)!r} has no rows below its header; check the file")
        facts = {
            "channels": self.channels,
            "rate": None if self.usual is None else float(f"{1 / self.usual:.6g}"),
            "label_names": [_plain(name) for name in self.codes],
            "begins": self.begins,
            "members": {what: [_plain(value) for value in values] for what, values in self.members.items()},
        }
        (self.folder / "facts.json").write_text(json.dumps(facts))

    def _series(self, frame: Any) -> np.ndarray:
        """Rows of this batch at which a series begins."""
        keys = [self.names[what] for what in self.members]
        if not keys:
            starts = np.array([0] if self.last is None else [], dtype=np.int64)
            self.last = ()
        else:
            part = frame[keys].astype(str)
            changed = (part != part.shift()).any(axis=1).to_numpy(copy=True)
            changed[0] = self.last is None or tuple(part.iloc[0]) != self.last
            starts = np.flatnonzero(changed)
            self.last = tuple(part.iloc[-1])
            for what in self.members:
                self.members[what] += frame[self.names[what]].iloc[starts].tolist()
        self.begins += (self.rows + starts).tolist()
        return starts

    def _times(self, column: Any, starts: np.ndarray) -> None:
        """Check that time goes on evenly within each series."""
        values = _stamps(column, self.path)
        before = values[0] if self.time is None else self.time
        steps = np.diff(values, prepend=before)
        within = np.ones(len(values), dtype=bool)
        within[starts] = False
        if self.usual is None and within.any():
            self.usual = float(np.median(steps[within]))
        if self.usual is not None:
            self._check(values, steps, within, self.usual)
        self.time = float(values[-1])

    def _check(self, values: np.ndarray, steps: np.ndarray, within: np.ndarray, usual: float) -> None:
        back = np.flatnonzero(within & (steps <= 0))
        if len(back):
            found = f"to {values[back[0]]:g} s at its row {self.rows + int(back[0]) + 1}"
            raise UserError(
                f"the times of {str(self.path)!r} do not grow everywhere: {found}; sort the file by time and drop repeated rows"
            )
        jumps = np.flatnonzero(within & (steps > JUMP * usual))
        if len(jumps):
            found = f"{steps[jumps[0]]:.3g} s pass before its row {self.rows + int(jumps[0]) + 1}, where {usual:.3g} s are usual"
            raise UserError(
                f"the times of {str(self.path)!r} have gaps: {found}; give stretches a series of their own (--reading.id COLUMN)"
            )
        here = float(np.median(steps[within])) if within.any() else usual
        if abs(here - usual) > SAME_RATE * usual:
            found = f"{1 / usual:.4g} Hz first and {1 / here:.4g} Hz from about row {self.rows + 1}"
            raise UserError(f"{str(self.path)!r} has mixed sampling rates: {found}; bring it to one rate before it is read")

    def _labels(self, column: Any) -> np.ndarray:
        missing = column.isna().to_numpy()
        found = np.full(len(column), -1, dtype=np.int32)
        names, numbers = np.unique(column[~missing].to_numpy(), return_inverse=True)
        found[~missing] = np.array([self.codes.setdefault(name, len(self.codes)) for name in names.tolist()], dtype=np.int32)[numbers]
        return found


def _batches(path: Path) -> tuple[list[str], Iterator[Any]]:
    """The header, and parts of the table as pandas tables."""
    import pyarrow

    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(path)
            return list(file.schema_arrow.names), (batch.to_pandas() for batch in file.iter_batches(BATCH_ROWS))
        import pyarrow.csv

        options = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
        reader = pyarrow.csv.open_csv(path, read_options=options)
        return [name.strip() for name in reader.schema.names], _guarded(reader, path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{str(path)!r} cannot be read as a table ({' '.join(str(error).split())}); check the file") from error


def _guarded(reader: Any, path: Path) -> Iterator[Any]:
    import pyarrow

    try:
        for batch in reader:
            yield batch.to_pandas()
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{str(path)!r} cannot be read to its end ({' '.join(str(error).split())}); mend that row") from error


def _numbers(frame: Any, path: Path) -> np.ndarray:
    for name in frame.columns:
        if frame[name].dtype.kind not in "iufb" and not frame[name].isna().all():
            raise UserError(
                f"the column {name!r} of {str(path)!r} holds words; drop it, or say what it is with --reading.label or --reading.id"
            )
    return np.ascontiguousarray(frame.to_numpy(dtype=np.float32, na_value=np.nan))


def _stamps(column: Any, path: Path) -> np.ndarray:
    """Times in seconds, (n,) float64, from any origin."""
    if column.dtype.kind not in "iufM":
        column = dates(column, repr(str(path)))
    values = column.astype("int64").to_numpy() / _per_second(column) if column.dtype.kind == "M" else column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"some times of {str(path)!r} are missing; give every row one, or drop the rows")
    return values


def _per_second(column: Any) -> float:
    unit = getattr(column.dtype, "unit", "ns")
    return {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
