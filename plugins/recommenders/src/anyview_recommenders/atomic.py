"""RecBole's atomic files: tables with tabs, whose header says of each column what it holds, as `name:type`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anyview.errors import UserError
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.tables import Columns, found_columns, of_frame, of_strings

TYPES = ("token", "token_seq", "float", "float_seq")
ENDINGS = (".inter", ".item", ".user", ".kg", ".link")


def read_atomic(path: Path) -> dict[str, np.ndarray]:
    """The columns of an atomic file by name: token int64 or strings, float float64, token_seq and float_seq arrays of lists.

    Raises UserError that names file, line, the expected and the found, for a header without types too.
    """
    types = _types(path)
    columns: list[list[str]] = [[] for _ in types]
    with path.open(encoding="utf-8-sig") as file:
        next(file)
        for number, line in enumerate(file, 2):
            words = line.rstrip("\r\n").split("\t")
            if words == [""]:
                continue
            if len(words) != len(types):
                found = f"line {number} has {len(words)} fields, and the {len(types)} of the header were expected"
                raise UserError(f"{str(path)!r} cannot be read: {found}, with tabs between; correct the line")
            for column, word in zip(columns, words, strict=True):
                column.append(word)
    return {name: _converted(path, name, kind, words) for (name, kind), words in zip(types.items(), columns, strict=True)}


def read_inter(path: Path, columns: Columns) -> Interactions:
    """The interactions of an .inter file."""
    import pandas as pd

    table = read_atomic(path)
    names = found_columns(list(table), columns, f"the file {str(path)!r}")
    return of_frame(pd.DataFrame({name: table[name] for name in names.values()}), columns, f"the file {str(path)!r}")


def _types(path: Path) -> dict[str, str]:
    """The columns' types by name, from the header."""
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline().rstrip("\r\n")
    types: dict[str, str] = {}
    for field in header.split("\t"):
        name, _, kind = field.rpartition(":")
        if not name or ":" in name or kind not in TYPES:
            expected = f"name:type with a type of {', '.join(TYPES)}"
            tabs = "" if "\t" in header else ", and there is no tab in it"
            raise UserError(
                f"{str(path)!r} cannot be read: line 1 has the field {field!r}, and {expected} was expected{tabs}; correct the header"
            )
        types[name] = kind
    return types


def _converted(path: Path, name: str, kind: str, words: list[str]) -> np.ndarray:
    if kind == "token":
        distinct = of_strings(list(dict.fromkeys(words)))
        return np.array(words, dtype=np.int64 if distinct.dtype.kind == "i" else object)
    array = np.empty(len(words), dtype=object if kind.endswith("_seq") else np.float64)
    for place, word in enumerate(words):
        array[place] = _value(path, place + 2, name, kind, word)
    return array


def _value(path: Path, line: int, name: str, kind: str, word: str) -> Any:
    if kind == "token_seq":
        return word.split()
    try:
        return [float(one) for one in word.split()] if kind == "float_seq" else float(word)
    except ValueError:
        found = f"line {line} has {word!r} in the column {name!r}, and a number was expected"
        raise UserError(f"{str(path)!r} cannot be read: {found}; correct it, or say token in the header") from None
