"""Tables of interactions: DataFrames, CSV, TSV and parquet files, with one row for each."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from anyview.errors import UserError, unknown
from anyview_recommenders.interactions import Interactions

Layout = Literal["table", "atomic", "lightgcn", "triples", "matrices"]
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
USUAL = {
    "user": ("user", "userid", "uid", "customer", "customerid", "visitor", "visitorid", "reviewerid", "session", "sessionid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "product", "productid", "artist", "artistid", "asin", "book", "bookid", "track"),
    "rating": ("rating", "score", "stars", "weight"),
    "time": ("time", "timestamp", "ts", "date", "datetime", "unixtime"),
    "behaviour": ("behaviour", "behavior", "event", "action"),
    "head": ("head", "headid", "subject"),
    "relation": ("relation", "relationid", "predicate"),
    "tail": ("tail", "tailid", "object"),
    "entity": ("entity", "entityid"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a file says what; None looks for the usual names, and finds out layout and separator.

    user, item, rating, time, behaviour_column: names of columns. separator: between the fields of a text file. layout: see `readers`.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    behaviour_column: str | None = None
    separator: str | None = None
    layout: Layout | None = None


class Coded(NamedTuple):
    """Positions (n,) int64 in distinct ids."""

    positions: np.ndarray
    ids: np.ndarray


def found_columns(names: Sequence[str], columns: Columns, what: str) -> dict[str, str]:
    """Names of the columns by their meaning; raises UserError for one that is asked for and missing, and without users or items."""
    asked = {"user": columns.user, "item": columns.item, "rating": columns.rating, "time": columns.time}
    asked["behaviour"] = columns.behaviour_column
    found: dict[str, str] = {}
    for meaning, name in asked.items():
        if name is not None and name not in names:
            raise unknown(f"column of {what}", name, names, look=", ".join(names))
        chosen = name or usual_column(meaning, names)
        if chosen is not None:
            found[meaning] = chosen
    for meaning in ("user", "item"):
        if meaning not in found:
            listed = ", ".join(map(repr, names))
            sentence = f"{what} has the columns {listed}, and none is called as {meaning}s usually are"
            raise UserError(f"{sentence}; name it with --reading.{meaning} NAME")
    return found


def usual_column(meaning: str, names: Sequence[str]) -> str | None:
    """The column that is called as users, items, ratings, or what else USUAL names usually are; None where there is none.

    >>> usual_column("item", ["title", "movieId"])
    'movieId'
    """
    return next((own for word in USUAL[meaning] for own in names if re.sub(r"[^a-z]", "", own.lower()) == word), None)


def read_csv(path: Path, columns: Columns) -> tuple[Interactions, str]:
    """The interactions of a text file with a header, and what separates its fields.

    Ids are strings, exactly as written, unless each of a column is an integer without leading zeros. Raises UserError that names the file,
    the line, what was expected and what was found.
    """
    separator = columns.separator or separator_of(path)
    names = found_columns(header_of(path, separator), columns, f"the file {str(path)!r}")
    table = _arrow(path, separator, names)
    user, item = (_coded(table[names[part]], part, path) for part in ("user", "item"))
    behaviour = _coded(table[names["behaviour"]], "behaviour", path) if "behaviour" in names else None
    numbers = {part: _numbers(table[names[part]], names[part], path) for part in ("time", "rating") if part in names}
    return interactions(user, item, behaviour, **numbers), SEPARATORS.get(separator, repr(separator))


def read_parquet(path: Path, columns: Columns) -> Interactions:
    """The interactions of a parquet file."""
    what = f"the file {str(path)!r}"
    try:
        names = found_columns(parquet.read_schema(path).names, columns, what)
        frame = parquet.read_table(path, columns=list(dict.fromkeys(names.values()))).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{what} cannot be read as parquet: {' '.join(str(error).split())}; write it again, or give a CSV") from error
    return of_frame(frame, columns, what)


def of_frame(frame: Any, columns: Columns, what: str) -> Interactions:
    """The interactions of a DataFrame, one a row.

    Ids are integers or strings, of one kind in a column. Raises UserError for missing and mixed ids, and for times and ratings that are
    no numbers; times may be datetimes, which become seconds.
    """
    if not isinstance(frame, pd.DataFrame):
        kind = type(frame).__name__
        raise UserError(f"interactions were asked for, and {what} is of type {kind}; give a DataFrame, a file or a name")
    names = found_columns([str(name) for name in frame.columns], columns, what)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    user, item = (coded(frame[names[part]], f"the column {names[part]!r} of {what}") for part in ("user", "item"))
    behaviour = None
    if "behaviour" in names:
        behaviour = coded(frame[names["behaviour"]], f"the column {names['behaviour']!r} of {what}")
    numbers = {
        part: _of_series(frame[names[part]], f"the column {names[part]!r} of {what}") for part in ("time", "rating") if part in names
    }
    return interactions(user, item, behaviour, **numbers)


def interactions(
    user: Coded, item: Coded, behaviour: Coded | None = None, *, time: np.ndarray | None = None, rating: np.ndarray | None = None
) -> Interactions:
    """Interactions from columns."""
    done = {} if behaviour is None else {"behaviour": behaviour.positions, "behaviours": tuple(map(str, behaviour.ids.tolist()))}
    return Interactions(user.positions, item.positions, user.ids, item.ids, time=time, rating=rating, **done)  # type: ignore[arg-type]


def coded(column: pd.Series, what: str) -> Coded:
    """A column of ids as positions in its distinct ids, in the order of their first appearance."""
    if bad := int(column.isna().sum()):
        row = int(np.flatnonzero(column.isna())[0])
        raise UserError(f"{what} has no id in {bad} of {len(column)} rows, the first is row {row}; leave those rows out, or fill them in")
    positions, ids = pd.factorize(np.asarray(column, dtype=object) if column.dtype.kind not in "iu" else column.to_numpy())
    return Coded(positions.astype(np.int64), of_one_kind(ids, what))


def of_one_kind(ids: np.ndarray, what: str) -> np.ndarray:
    """Distinct ids as int64, or as strings in an array of objects; raises UserError where they are mixed or something else."""
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64)
    kinds = {"integers": (int, np.integer), "strings": (str,)}
    examples = {
        name: next((one for one in ids if isinstance(one, kind) and not isinstance(one, bool)), None) for name, kind in kinds.items()
    }
    other = next((one for one in ids if isinstance(one, bool) or not isinstance(one, (int, np.integer, str))), None)
    if other is not None:
        sentence = f"{what} has ids such as {other!r} of type {type(other).__name__}, and ids are integers or strings"
        raise UserError(f"{sentence}; convert them, for numbers with .astype('int64')")
    if all(example is not None for example in examples.values()):
        mixed = f"{examples['strings']!r} and {examples['integers']!r}"
        raise UserError(f"{what} mixes strings and integers as ids, such as {mixed}; make them strings with .astype(str)")
    return ids.astype(np.int64) if examples["integers"] is not None else ids


def of_strings(ids: Sequence[str]) -> np.ndarray:
    """Distinct ids that a text gives: int64 where each is an integer without leading zeros, else the strings.

    >>> of_strings(["7", "10"]), of_strings(["7", "010"])
    (array([ 7, 10]), array(['7', '010'], dtype=object))
    """
    if ids and all(map(INTEGER.fullmatch, ids)):
        return np.array([int(one) for one in ids], dtype=np.int64)
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array


def _arrow(path: Path, separator: str, names: dict[str, str]) -> pa.Table:
    """The columns that are asked for, ids as dictionaries of strings."""
    wrong: list[Any] = []

    def refuse(row: Any) -> str:
        wrong.append(row)
        return "error"

    ids = pa.dictionary(pa.int32(), pa.string())
    types = {name: pa.string() if meaning in ("time", "rating") else ids for meaning, name in names.items()}
    parse = arrow_csv.ParseOptions(delimiter=separator, invalid_row_handler=refuse)
    convert = arrow_csv.ConvertOptions(column_types=types, include_columns=list(types), strings_can_be_null=False)
    try:
        return arrow_csv.read_csv(path, arrow_csv.ReadOptions(use_threads=False), parse, convert).unify_dictionaries()
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, UnicodeDecodeError) as error:
        if wrong:
            row = wrong[0]
            found = f"line {row.number} has {row.actual_columns} fields ({row.text[:60]!r}), and {row.expected_columns} were expected"
            raise UserError(f"{str(path)!r} cannot be read: {found}; correct the line, or name another --reading.separator") from None
        raise UserError(f"{str(path)!r} cannot be read: {' '.join(str(error).split())}; give a UTF-8 text with a header") from error


def _coded(column: pa.ChunkedArray, meaning: str, path: Path) -> Coded:
    whole = column.combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    positions, words = whole.indices.to_numpy(zero_copy_only=False).astype(np.int64), whole.dictionary.to_pylist()
    if "" in words:
        line = int(np.flatnonzero(positions == words.index(""))[0]) + 2
        raise UserError(f"{str(path)!r} cannot be read: line {line} has no {meaning}, and one was expected; correct or delete the line")
    return Coded(positions, of_strings(words))


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    """A column of numbers (n,) float64."""
    try:
        values: np.ndarray = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        place, word = next((place, word) for place, word in enumerate(column.to_pylist()) if not _is_number(word))
        found = f"line {place + 2} has {word!r} in the column {name!r}, and a number was expected"
        raise UserError(f"{str(path)!r} cannot be read: {found}; write times in seconds, or choose another column") from None
    if not np.isfinite(values).all():
        line = int(np.flatnonzero(~np.isfinite(values))[0]) + 2
        raise UserError(
            f"{str(path)!r} cannot be read: line {line} has no finite number in the column {name!r}; correct or delete the line"
        )
    return values


def _of_series(column: pd.Series, what: str) -> np.ndarray:
    if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
        values = (column.astype("datetime64[ns, UTC]") if column.dt.tz is not None else column.astype("datetime64[ns]")).astype(
            "int64"
        ) / 1e9
        values[column.isna()] = np.nan
    else:
        values = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(~np.isfinite(values.to_numpy(dtype=np.float64)))
    if len(bad):
        found = f"{column.iloc[bad[0]]!r} in row {int(bad[0])}"
        raise UserError(f"{what} has to hold numbers, and there is {found}; write times in seconds or as datetimes, or name another column")
    return values.to_numpy(dtype=np.float64)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def first_line(path: Path) -> str:
    """The first line of a text, without its end; raises UserError for a file that is empty or no UTF-8 text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}; give a UTF-8 text") from error
    if not line:
        raise UserError(f"{str(path)!r} cannot be read: its first line is empty, and a header was expected; add one")
    return line


def separator_of(path: Path) -> str:
    """What separates the fields of a text with a header: the sign that its first line has most of."""
    line = first_line(path)
    return max(SEPARATORS, key=line.count) if any(map(line.count, SEPARATORS)) else ","


def header_of(path: Path, separator: str) -> list[str]:
    """The names of the columns of a text."""
    return next(csv.reader([first_line(path)], delimiter=separator))
