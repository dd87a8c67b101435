"""Tables of what is known of users and items, with the ids of the log: files and DataFrames that become features.

A column of lists, or of texts with "|" between values, is a list; one of more than a few distinct numbers is a number; every other column
is a category. Options name those that are meant otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from anyview.data.roots import data_root
from anyview.errors import UserError, unknown
from anyview_recommenders.atomic import ENDINGS, read_atomic
from anyview_recommenders.features import UNKNOWN, Feature, Kind, SideFeatures, histories_of, ids_of
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.tables import Columns, of_one_kind, of_strings, separator_of, usual_column

Side = Literal["user", "item"]
SUFFIXES = (".csv", ".tsv", ".parquet", *ENDINGS)
FEW = 20
"""A column of numbers with no more distinct ones is a category."""


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """How features are read.

    features: whether a log has features at all; those that its data set brings are read where no table is named. item_features,
    user_features: a file (.csv, .tsv, .parquet, RecBole's .item and .user) or a DataFrame with a column of ids. categories, lists,
    numbers: columns that are of such a kind, "a,b" or a list; left_out: columns that are no features. between: what parts the values of a
    list. least: values of fewer users or items are left out. longest: values kept of a bag, the first, and of a history the last. buckets:
    quantiles that numbers are parted into. new_items: whether items of the table that no interaction has join the catalogue.
    """

    features: bool = False
    item_features: Any = None
    user_features: Any = None
    categories: str | Sequence[str] = ()
    lists: str | Sequence[str] = ()
    numbers: str | Sequence[str] = ()
    left_out: str | Sequence[str] = ()
    between: str = "|"
    least: int = 2
    longest: int = 50
    buckets: int = 10
    new_items: bool = False

    def __post_init__(self) -> None:
        for name, smallest in (("least", 1), ("longest", 1), ("buckets", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < smallest:
                raise UserError(f"the option {name} of features is a whole number of {smallest} or more, and {value!r} was given")

    @property
    def wanted(self) -> bool:
        """Whether there are to be features."""
        return self.features or self.item_features is not None or self.user_features is not None


class Table(NamedTuple):
    """What a table says: ids (R,) of its rows, and its other columns; what: its name in sentences."""

    ids: np.ndarray
    columns: pd.DataFrame
    what: str


def read_tables(options: FeatureOptions, own: Mapping[str, Any], columns: Columns, log_path: Path | None) -> dict[Side, Table]:
    """The tables that options name, and those that the data set brings where they name none.

    own: functions that make a DataFrame, by side. log_path: where the log lies, near which files are looked for too.
    """
    found: dict[Side, Table] = {}
    sides: tuple[tuple[Side, Any, str | None], ...] = (
        ("item", options.item_features, columns.item),
        ("user", options.user_features, columns.user),
    )
    for side, given, named in sides:
        data = own[side]() if given is None and side in own else given
        if data is not None:
            found[side] = read_table(data, side, named, log_path)
    _check_names(options, found)
    return found


def read_table(data: Any, side: Side, named: str | None = None, log_path: Path | None = None) -> Table:
    """A file or DataFrame with a row for each user or item; named: the column of ids, where it is not called as they usually are.

    Raises UserError for a file that is not there, a table without ids, and an id that has two rows.
    """
    what = f"the table {str(data)!r}" if isinstance(data, str | Path) else f"the table of {side} features"
    frame = frame_of(data, what, log_path)
    names = [str(name) for name in frame.columns]
    column = named if named in names else usual_column(side, names)
    if column is None:
        listed = ", ".join(map(repr, names))
        raise UserError(f"{what} has the columns {listed}, and none is called as {side}s usually are; name it with --reading.{side} NAME")
    frame = frame.set_axis(names, axis=1)
    raw = frame[column]
    if raw.isna().any() or (raw == "").any():
        raise UserError(f"{what} has a row without an id in the column {column!r}; delete or correct it")
    if raw.duplicated().any():
        raise UserError(f"{what} has two rows for the {side} {raw[raw.duplicated()].tolist()[0]!r}, and one was expected; delete one")
    texts = isinstance(data, str | Path) and Path(data).suffix.lower() != ".parquet"
    values = raw.astype(object).to_numpy() if raw.dtype.kind not in "iu" else raw.to_numpy()
    ids = of_strings(values.tolist()) if texts and raw.dtype.kind not in "iu" else of_one_kind(values, f"the column {column!r} of {what}")
    return Table(ids, frame.drop(columns=column), what)


def side_features(train: Interactions, tables: Mapping[Side, Table], options: FeatureOptions) -> tuple[SideFeatures, dict[str, Any]]:
    """The features of a log's users and items, ids and histories first, and what a user should know of them.

    train: the training part, over the whole catalogue; nothing of the other parts is read.
    """
    known = {
        "user": np.bincount(train.user, minlength=train.users) > 0,
        "item": np.bincount(train.item, minlength=train.items) > 0,
    }
    users, items = [ids_of(known["user"]), histories_of(train, options.longest)], [ids_of(known["item"])]
    notes: dict[str, Any] = {}
    sides: tuple[tuple[Side, list[Feature], np.ndarray], ...] = (("user", users, train.user_ids), ("item", items, train.item_ids))
    for side, features, ids in sides:
        if side in tables:
            table = tables[side]
            place = places_of(table.ids, ids)
            if lacking := len(ids) - int((place >= 0).sum()):
                notes[f"{side}s without a row of features"] = lacking
            taken = [name for name in table.columns if name not in _names(options.left_out)]
            features += [feature_of(table, name, place, known[side], options) for name in taken]
    return SideFeatures(tuple(users), tuple(items)), notes


def feature_of(table: Table, name: str, place: np.ndarray, known: np.ndarray, options: FeatureOptions) -> Feature:
    """One column of a table as a feature of n users or items; place: (R,) the position of each row's, -1 for none; known: (n,) bool."""
    column, what = table.columns[name], f"the column {name!r} of {table.what}"
    kind = kind_of(column, name, options)
    if kind == "number":
        numbers = np.full(len(known), np.nan)
        numbers[place[place >= 0]] = _numbers(column, what)[place >= 0]
        return _bucketised(name, numbers, known, options.buckets)
    rows, values = exploded(column, options.between if kind == "list" else None)
    there = place[rows] >= 0
    return _coded(name, kind, place[rows[there]], values[there], len(known), options)


def codes_of(feature: Feature, table: Table, options: FeatureOptions) -> Feature:
    """The same feature of the R rows of another table, in the codes that it has; values that it lacks count as not known.

    A table without such a column, and ids and histories, say nothing.
    """
    count = len(table.ids)
    if feature.kind in ("id", "history"):
        return _like(feature, np.zeros(count + 1, dtype=np.int64), np.empty(0, dtype=np.int64))
    if feature.name not in table.columns:
        return _like(feature, np.arange(count + 1), np.full(count, UNKNOWN))
    column, what = table.columns[feature.name], f"the column {feature.name!r} of {table.what}"
    if feature.kind == "number":
        return _like(feature, np.arange(count + 1), _buckets(_numbers(column, what), feature.edges))
    rows, values = exploded(column, options.between if feature.kind == "list" else None)
    codes = pd.Index(feature.values).get_indexer(pd.Index(values, dtype=object)) + 1
    return _like(feature, *_bags(rows[codes > 0], codes[codes > 0], count, feature.longest))


def kind_of(column: pd.Series, name: str, options: FeatureOptions) -> Kind:
    """What kind of feature a column is, by the options or as it looks."""
    named: tuple[tuple[Kind, str | Sequence[str]], ...] = (
        ("category", options.categories),
        ("list", options.lists),
        ("number", options.numbers),
    )
    for kind, names in named:
        if name in _names(names):
            return kind
    if column.dtype.kind == "b":
        return "category"
    if column.dtype.kind in "iufM":
        return "number" if column.nunique() > FEW else "category"
    present = column[~column.isna()]
    if any(isinstance(value, list | tuple | set | np.ndarray) for value in present):
        return "list"
    words = present.astype(str)[lambda texts: texts != ""]
    if words.str.contains(options.between, regex=False).any():
        return "list"
    numeric = len(words) and pd.to_numeric(words, errors="coerce").notna().all()
    return "number" if numeric and words.nunique() > FEW else "category"


def exploded(column: pd.Series, between: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The rows (m,) and values (m,), strings, of a column: several a row where something parts them; what is missing is left out."""
    values = column.reset_index(drop=True)
    if between is not None:
        texts = values.map(lambda value: isinstance(value, str))
        values = values.astype(object).where(~texts, values.where(texts, "").astype(str).str.split(between, regex=False))
        values = values.map(lambda value: sorted(value) if isinstance(value, set) else value).explode()
    values = values[~values.isna()].astype(str).str.strip()
    values = values[values != ""]
    return values.index.to_numpy(dtype=np.int64), values.to_numpy(dtype=object)


def places_of(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(R,) int64, where each of the ids (R,) stands among others (n,), -1 for nowhere; strings, where one of the two has strings."""
    if ids.dtype.kind != among.dtype.kind:
        ids, among = (np.array([str(one) for one in part.tolist()], dtype=object) for part in (ids, among))
    return pd.Index(among).get_indexer(pd.Index(ids)).astype(np.int64)


def only_new(table: Table, ids: np.ndarray) -> Table:
    """The rows of a table whose ids are not among others (n,); raises UserError where one has integers and the other strings."""
    new = places_of(table.ids, ids) < 0
    found = Table(table.ids[new], table.columns[new], table.what)
    if len(found.ids) and found.ids.dtype.kind != ids.dtype.kind:
        raise UserError(f"{table.what} and the log write ids differently, such as {found.ids[0]!r} and {ids[0]!r}; make them alike")
    return found


def _coded(name: str, kind: Kind, owners: np.ndarray, values: np.ndarray, count: int, options: FeatureOptions) -> Feature:
    """A feature of values (m,) and whose they are (m,), without the rare ones."""
    codes, distinct = pd.factorize(values)
    pairs = pd.DataFrame({"owner": owners, "code": codes}).drop_duplicates()
    common = np.bincount(pairs["code"], minlength=len(distinct)) >= options.least
    numbers = np.cumsum(common)
    kept = pairs[common[pairs["code"].to_numpy()]]
    bags = _bags(kept["owner"].to_numpy(), numbers[kept["code"].to_numpy()], count, options.longest)
    return Feature(name, kind, *bags, size=int(common.sum()) + 1, values=np.asarray(distinct, dtype=object)[common])


def _bags(owners: np.ndarray, codes: np.ndarray, count: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `count` bags begins, and their codes: the first `longest` of each, and UNKNOWN for a bag without any."""
    lacking = np.setdiff1d(np.arange(count), owners)
    owners, codes = np.concatenate([owners, lacking]), np.concatenate([codes, np.full(len(lacking), UNKNOWN)])
    order = np.argsort(owners, kind="stable")
    owners, codes = owners[order], codes[order].astype(np.int64)
    sizes = np.bincount(owners, minlength=count)
    kept = np.arange(len(owners)) - (np.cumsum(sizes) - sizes)[owners] < longest
    return np.concatenate([[0], np.cumsum(np.minimum(sizes, longest))]).astype(np.int64), codes[kept]


def _bucketised(name: str, numbers: np.ndarray, known: np.ndarray, buckets: int) -> Feature:
    """Numbers (n,) as quantile buckets, whose edges are those of what training knows (n,) bool."""
    trained = numbers[known & np.isfinite(numbers)]
    shares = np.arange(1, buckets) / buckets
    edges = np.unique(np.quantile(trained, shares)) if len(trained) else np.empty(0)
    return Feature(name, "number", np.arange(len(numbers) + 1), _buckets(numbers, edges), len(edges) + 2, edges=edges)


def _buckets(numbers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) int64 codes of numbers (n,): 1 below the first edge, and UNKNOWN for what is no finite number."""
    return np.where(np.isfinite(numbers), 1 + np.searchsorted(edges, numbers, side="right"), UNKNOWN).astype(np.int64)


def _like(feature: Feature, starts: np.ndarray, codes: np.ndarray) -> Feature:
    return Feature(feature.name, feature.kind, starts, codes, feature.size, feature.values, feature.edges)


def _numbers(column: pd.Series, what: str) -> np.ndarray:
    """(R,) float64, NaN for what is missing; raises UserError for what is no number."""
    if column.dtype.kind == "M":
        return np.where(column.isna(), np.nan, column.astype("int64") / 1e9)
    missing = column.isna() | (column == "")
    numbers = pd.to_numeric(column.where(~missing, np.nan), errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(np.isnan(numbers) & ~missing.to_numpy())
    if len(wrong):
        found = f"{column.iloc[wrong[0]]!r} in row {int(wrong[0])}"
        raise UserError(f"{what} has to hold numbers, and there is {found}; name it among --reading.categories")
    return numbers


def frame_of(data: Any, what: str, log_path: Path | None = None) -> pd.DataFrame:
    """A DataFrame, or that of a file with a header, whose fields are strings where the file is a text; what: it is called in sentences."""
    if isinstance(data, pd.DataFrame):
        return data
    if not isinstance(data, str | Path):
        raise UserError(f"{what} is of type {type(data).__name__}, and a DataFrame or a file was expected; give one of them")
    path = found_file(Path(data).expanduser(), log_path, "table of features")
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        if path.suffix.lower() in ENDINGS:
            return pd.DataFrame(read_atomic(path))
        return pd.read_csv(path, sep=separator_of(path), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{what} cannot be read: {reason}; give a file of {', '.join(SUFFIXES)}") from error


def found_file(path: Path, log_path: Path | None, what: str) -> Path:
    """A file as it is named, beside the log, or under the data root; what: it is called in the sentence of a missing one."""
    folders = [] if log_path is None else [log_path if log_path.is_dir() else log_path.parent]
    for place in (path, *(folder / path for folder in (*folders, data_root(), data_root() / "recommenders"))):
        if place.is_file():
            return place
    raise UserError(f"there is no {what} {str(path)!r}, here, beside the log or under {str(data_root())!r}; check the path")


def _names(given: str | Sequence[str]) -> list[str]:
    return [word.strip() for word in given.split(",")] if isinstance(given, str) else list(given)


def _check_names(options: FeatureOptions, tables: Mapping[Side, Table]) -> None:
    """Raise UserError for a column that options name and no table has."""
    there = [name for table in tables.values() for name in table.columns]
    for given in (options.categories, options.lists, options.numbers, options.left_out):
        for name in _names(given):
            if name not in there:
                raise unknown("column of features", name, there, look=", ".join(there) or "a table of features")
