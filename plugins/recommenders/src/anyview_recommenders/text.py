"""Plain texts of interactions: a user and all items on a line, or one interaction on each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anyview.errors import UserError
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.tables import Coded, interactions, of_strings

BETWEEN = {"::": "::", "\t": "tab", ",": "comma", ";": "semicolon", " ": "space"}
"""Separators that are tried, in this order, with what they are called."""


def read_lists(path: Path) -> Interactions:
    """LightGCN's layout: on each line a user, then their items, separated by spaces; a line with only a user is one without items.

    Every user of the file has a position, those without items too. Raises UserError for a user with two lines.
    """
    users: list[str] = []
    lists: list[list[str]] = []
    seen: dict[str, int] = {}
    for number, words in _fields(path, None):
        if words[0] in seen:
            found = f"line {number} has the user {words[0]!r} of line {seen[words[0]]} again, and one line a user was expected"
            raise UserError(f"{str(path)!r} cannot be read: {found}; join the two, or say --reading.layout triples")
        seen[words[0]] = number
        users.append(words[0])
        lists.append(words[1:])
    positions = np.repeat(np.arange(len(users)), [len(items) for items in lists])
    return interactions(Coded(positions, of_strings(users)), _factorized(list(chain.from_iterable(lists))))


def read_triples(path: Path, separator: str | None) -> tuple[Interactions, str]:
    """`user item [weight] [time]` on each line, and what separates the fields, which is found out unless it is given.

    Four fields are user, item, rating and time; three are user, item and rating. A first line whose third field is no number is a header.
    """
    chosen = separator or _between(path)
    rows: list[list[str]] = []
    lines: list[int] = []
    for number, words in _fields(path, None if chosen == " " else chosen):
        if number == 1 and len(words) > 2 and not _number(words[2]):
            continue
        if not 2 <= len(words) <= 4 or (rows and len(words) != len(rows[0])):
            found = f"line {number} has {len(words)} fields, and {len(rows[0]) if rows else '2 to 4'} were expected"
            raise UserError(f"{str(path)!r} cannot be read: {found} with {_called(chosen)} between; correct it, or say --reading.separator")
        if not all(words[:2]):
            raise UserError(
                f"{str(path)!r} cannot be read: line {number} has no user or item, and both were expected; correct or delete it"
            )
        rows.append(words)
        lines.append(number)
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], []]
    numbers: dict[str, Any] = {
        name: _numbers(path, lines, words, name) for name, words in zip(("rating", "time"), columns[2:], strict=False)
    }
    return interactions(_factorized(columns[0]), _factorized(columns[1]), **numbers), _called(chosen)


def read_sequences(path: Path, user: str, items: str, separator: str) -> Interactions:
    """A table with a user and their items, oldest first and separated by blanks, on each line; the place in the list is the time."""
    options: dict[str, Any] = {"sep": separator, "dtype": str, "keep_default_na": False, "usecols": [user, items], "encoding": "utf-8-sig"}
    try:
        frame = pd.read_csv(path, **options)
    except ValueError as error:
        raise UserError(f"{str(path)!r} cannot be read: {' '.join(str(error).split())}; correct the line") from error
    lists = [text.split() for text in frame[items]]
    counts = [len(words) for words in lists]
    owners = _factorized(list(frame[user]))
    time = np.concatenate([np.arange(count, dtype=np.float64) for count in counts] or [np.empty(0)])
    repeated = Coded(np.repeat(owners.positions, counts), owners.ids)
    return interactions(repeated, _factorized(list(chain.from_iterable(lists))), time=time)


def read_words(path: Path, fields: Sequence[str]) -> list[list[str]]:
    """The columns of a text without a header whose lines have the fields that are named, strings; what separates them is found out.

    Raises UserError that names the line for another number of fields, and for a field with nothing in it.
    """
    chosen = _between(path)
    rows: list[list[str]] = []
    for number, words in _fields(path, None if chosen == " " else chosen):
        if len(words) != len(fields):
            found = f"line {number} has {len(words)} fields with {_called(chosen)} between, and {len(fields)} were expected"
            raise UserError(f"{str(path)!r} cannot be read: {found}: {', '.join(fields)}; correct the line")
        if not all(words):
            missing = fields[words.index("")]
            raise UserError(
                f"{str(path)!r} cannot be read: line {number} has no {missing}, and one was expected; correct or delete the line"
            )
        rows.append(words)
    return [list(column) for column in zip(*rows, strict=True)]


def is_lists(path: Path) -> bool:
    """Whether a text is of LightGCN's layout: integers with spaces between, and lines of different lengths or of more than four."""
    lengths = set()
    for _, words in islice(_fields(path, None), 100):
        if not all(word.isdecimal() for word in words):
            return False
        lengths.add(len(words))
    return len(lengths) > 1 or max(lengths, default=0) > 4


def _fields(path: Path, separator: str | None) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not blank, and its fields."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n").split(separator)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}; give a UTF-8 text") from error


def _between(path: Path) -> str:
    """What separates the fields of a text: the first separator that is in each of its first lines."""
    lines = [words[0] for _, words in islice(_fields(path, "\0"), 20)]
    found = next((one for one in BETWEEN if lines and all(one in line for line in lines)), None)
    if found is None:
        raise UserError(f"{str(path)!r} cannot be read: no separator is in each of its lines; name it with --reading.separator")
    return found


def _factorized(words: list[str]) -> Coded:
    positions, distinct = pd.factorize(np.array(words, dtype=object))
    return Coded(positions.astype(np.int64), of_strings(distinct.tolist()))


def _numbers(path: Path, lines: list[int], words: list[str], name: str) -> np.ndarray:
    """A column of numbers (n,) float64, which stood on these lines."""
    for line, word in zip(lines, words, strict=True):
        if not _number(word):
            found = f"line {line} has the {name} {word!r}, and a number was expected"
            raise UserError(f"{str(path)!r} cannot be read: {found}; write times in seconds, or leave the field out")
    return np.array(words, dtype=np.float64)


def _number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _called(separator: str) -> str:
    return BETWEEN.get(separator, repr(separator))
