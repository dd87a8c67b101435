"""Tables of time series: CSV and parquet files, wide or long, and folders of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anyview.errors import MissingDependencyError, UserError
from anyview_timeseries.readers import Raw, as_labels

Layout = Literal["auto", "windows", "recording", "long"]
TIMES = ("time", "timestamp", "t", "datetime", "seconds")
SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that are no channels; None looks for the usual name, and goes without.

    layout: "windows": a row is a window and a column a time step; "recording": a row is a time step and a column a channel; "long": a row
    is one value, with `channel` and `value` columns; "auto" takes "long" where there are these two, "recording" where there is a time or
    where windows are cut (`length`), else "windows".
    """

    layout: Layout = "auto"
    id: str | None = None
    time: str | None = None
    label: str | None = None
    subject: str | None = None
    trial: str | None = None
    channel: str | None = None
    value: str | None = None


USUAL = {"id": ("id", "series", "window"), "time": TIMES, "label": ("label", "y", "class"), "subject": ("subject",), "trial": ("trial",)}
USUAL |= {"channel": ("channel",), "value": ("value",)}


def tables() -> Any:
    """pandas, or the sentence that says what to install."""
    try:
        import pandas
        import pyarrow  # noqa: F401  (what pandas reads parquet with)
    except ModuleNotFoundError as error:
        sentence = f"tables of time series need the package {error.name!r}, which is not installed; pip install 'anyview[timeseries]'"
        raise MissingDependencyError(sentence) from error
    return pandas


def read_table(path: Path, columns: Columns, *, windowed: bool) -> Raw:
    """A .csv or .parquet file; windowed: whether windows will be cut from what it holds."""
    frame = _frame(path)
    names = found_columns(list(frame.columns), columns, path)
    layout = layout_of(names, columns.layout, windowed)
    if layout == "windows":
        return _windows(frame, names, path)
    raw = _recordings(_pivoted(frame, names, path) if layout == "long" else frame, names, path)
    return replace(raw, layout="long table" if layout == "long" else "one row for each time step, one column for each channel")


def read_folder(folder: Path, columns: Columns, *, windowed: bool) -> Raw:
    """All .csv and .parquet files of a folder and its sub-folders, each a recording.

    The sub-folder is the label, unless the files have a label column. Raises UserError for a folder without files, and for files whose
    channels differ.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise UserError(f"the folder {str(folder)!r} has no .csv or .parquet files; check the path")
    layout = "recording" if columns.layout == "auto" else columns.layout
    parts = [read_table(path, replace(columns, layout=layout), windowed=windowed) for path in paths]
    first = parts[0]
    for path, part in zip(paths, parts, strict=True):
        if list(part.channels) != list(first.channels):
            found = f"{', '.join(part.channels)} in {path.name!r} and {', '.join(first.channels)} in {paths[0].name!r}"
            raise UserError(f"the files of {str(folder)!r} have different channels, {found}; choose those of all with --reading.channels")
    counts = [len(part.series) for part in parts]
    places = [path.relative_to(folder) for path in paths]
    classes = [place.parts[0] if len(place.parts) > 1 else "" for place in places]
    labels = _chained([part.labels for part in parts]) if all(part.labels is not None for part in parts) else None
    if labels is None and any(classes):
        labels = np.repeat(classes, counts)
    return Raw(
        series=[each for part in parts for each in part.series],
        labels=labels,
        groups=_groups_of(parts),
        ids=_ids_of(parts, [place.as_posix() for place in places]),
        channels=first.channels,
        times=None if any(part.times is None for part in parts) else [each for part in parts for each in part.times or ()],
        step_labels=None
        if any(part.step_labels is None for part in parts)
        else [each for part in parts for each in part.step_labels or ()],
        layout=f"{len(paths)} files, {first.layout}",
    )


def _groups_of(parts: list[Raw]) -> dict[str, Any]:
    shared = set.intersection(*(set(part.groups) for part in parts))
    return {name: _chained([part.groups[name] for part in parts]) for name in sorted(shared)}


def _ids_of(parts: list[Raw], places: list[str]) -> list[str]:
    return [
        place if len(part.series) == 1 else f"{place}:{own}"
        for part, place in zip(parts, places, strict=True)
        for own in (part.ids if part.ids is not None else range(len(part.series)))
    ]


def _chained(values: list[Any]) -> Any:
    return np.concatenate([np.asarray(value) for value in values])


def _frame(path: Path) -> Any:
    pandas = tables()
    try:
        frame = pandas.read_parquet(path) if path.suffix.lower() == ".parquet" else pandas.read_csv(path, encoding="utf-8-sig")
    except (ValueError, OSError, UnicodeDecodeError, pandas.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{str(path)!r} cannot be read as a table ({reason}); save it with a header and one separator, a comma") from error
    if frame.empty:
        raise UserError(f"{str(path)!r} has no rows below its header; check the file")
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def found_columns(header: list[str], columns: Columns, path: Path) -> dict[str, str]:
    """The columns of a header that are no channels, by what they are; raises UserError for one that was named and is not there."""
    names = {}
    for what, usual in USUAL.items():
        asked = getattr(columns, what)
        if asked is not None and asked not in header:
            shown = ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")
            raise UserError(f"the {what} column {asked!r} was asked for, and {str(path)!r} has {shown}; name one of these")
        match = asked or next((name for name in header if name.lower() in usual), None)
        if match is not None:
            names[what] = match
    return names


def layout_of(names: dict[str, str], asked: Layout, windowed: bool) -> Layout:
    """How a table with these columns is to be understood."""
    if asked != "auto":
        return asked
    if {"channel", "value"} <= names.keys():
        return "long"
    return "recording" if windowed or "time" in names else "windows"


def _windows(frame: Any, names: dict[str, str], path: Path) -> Raw:
    special = {what: names[what] for what in ("label", "subject", "trial", "id") if what in names}
    values = numbers_of(frame.drop(columns=list(special.values())), path)
    labels = _words(frame[special["label"]]) if "label" in special else None
    groups: dict[str, Any] = {what: frame[special[what]].to_numpy() for what in ("subject", "trial") if what in special}
    ids = frame[special["id"]].tolist() if "id" in special else None
    return Raw(list(values[:, None]), labels, groups, ids=ids, layout="one row for each window, one column for each time step")


def numbers_of(frame: Any, path: Path) -> np.ndarray:
    """The table as float32; raises UserError that names the first column with words."""
    for name in frame.columns:
        if frame[name].dtype.kind not in "iufb":
            raise UserError(
                f"the column {name!r} of {str(path)!r} holds words; drop it, or say what it is with --reading.label or --reading.id"
            )
    return frame.to_numpy(dtype=np.float32, na_value=np.nan)


def _words(column: Any) -> Any:
    """Labels of a column: whole numbers and floats as they are, words with "" where there is none."""
    if column.dtype.kind in "iub":
        return column.to_numpy()
    if column.dtype.kind == "f":
        values = column.to_numpy()
        known = values[np.isfinite(values)]
        return np.where(np.isfinite(values), values, -1).astype(np.int64) if len(known) and (known == np.floor(known)).all() else values
    return as_labels(["" if missing else str(word) for word, missing in zip(column, column.isna(), strict=True)])


def _pivoted(frame: Any, names: dict[str, str], path: Path) -> Any:
    """A table of single values as one with a column for each channel."""
    for what in ("channel", "value", "time"):
        if what not in names:
            raise UserError(
                f"a long table has the columns channel, value and time, and {str(path)!r} lacks {what}; name it --reading.{what}"
            )
    keys = [names[what] for what in ("id", "subject", "trial", "label", "time") if what in names]
    if frame.duplicated([*keys, names["channel"]]).any():
        raise UserError(
            f"{str(path)!r} has several values of one channel at one time; name the column that tells series apart --reading.id"
        )
    wide = frame.pivot(index=keys, columns=names["channel"], values=names["value"]).reset_index()
    wide.columns = [str(name) for name in wide.columns]
    return wide


def _recordings(frame: Any, names: dict[str, str], path: Path) -> Raw:
    """Series of a table with a row for each time step, apart by subject, trial and id."""
    special = {what: names[what] for what in ("id", "time", "label", "subject", "trial") if what in names}
    channels = [name for name in frame.columns if name not in special.values()]
    if not channels:
        raise UserError(f"{str(path)!r} has no channels beside {', '.join(special.values())}; check the names of its columns")
    keys = [special[what] for what in ("subject", "trial", "id") if what in special]
    pieces = [(key, piece) for key, piece in frame.groupby(keys, sort=False, dropna=False)] if keys else [((), frame)]
    values = [numbers_of(piece[channels], path).T for _, piece in pieces]
    groups: dict[str, Any] = {
        what: [piece[special[what]].iloc[0] for _, piece in pieces] for what in ("subject", "trial") if what in special
    }
    steps = [np.asarray(_words(piece[special["label"]])) for _, piece in pieces] if "label" in special else None
    times = [seconds(piece[special["time"]], f"series {key or 0} of {str(path)!r}") for key, piece in pieces] if "time" in special else None
    raw = Raw(values, None, groups, channels=channels, times=times, step_labels=steps)
    if "id" in special:
        raw.ids = [piece[special["id"]].iloc[0] for _, piece in pieces]
    if steps is not None and all((each == each[0]).all() for each in steps):
        raw.labels, raw.step_labels = np.array([each[0] for each in steps]), None
    return raw


def dates(column: Any, where: str) -> Any:
    """A column of words as dates; raises UserError where they are none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pandas tells that dates have no common form
            return tables().to_datetime(column)
    except (ValueError, TypeError) as error:
        raise UserError(f"the times of {where} are neither numbers nor dates ({error}); give seconds or dates") from error


def seconds(column: Any, where: str) -> np.ndarray:
    """Times as seconds from the first, (T,) float64; raises UserError where they are no times or go back."""
    if column.dtype.kind not in "iufM":
        column = dates(column, where)
    if column.dtype.kind == "M":
        column = (column - column.iloc[0]).dt.total_seconds()
    values = column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{int((~np.isfinite(values)).sum())} times of {where} are missing; give every row one, or drop the rows")
    back = np.flatnonzero(np.diff(values) <= 0)
    if len(back):
        row = int(back[0]) + 1
        found = f"from {values[row - 1]:g} to {values[row]:g} s at its row {row + 1}"
        raise UserError(f"the times of {where} do not grow everywhere: {found}; sort the file by time and drop repeated rows")
    return values - values[0]
