"""Plain texts of interactions: a user and all items on a line, or one interaction on each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

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
    width = 0
    for number, words in _fields(path, None if chosen == " " else chosen):
        width = width or len(words)
        if len(words) != width or not 2 <= width <= 4:
            found = f"line {number} has {len(words)} fields, and {width if rows else '2 to 4'} were expected"
            raise UserError(f"{str(path)!r} cannot be read: {found} with {_called(chosen)} between; correct it, or say --reading.separator")
        if not rows and width > 2 and not _number(words[2]):
            width = len(words)
            continue
        rows.append(words)
    columns = list(zip(*rows, strict=True)) or [(), ()]
    numbers = {}
    for name, values in zip(("rating", "time"), columns[2:], strict=False):
        numbers[name] = np.array([_checked(path, place, value, name) for place, value in enumerate(values)], dtype=np.float64)
    user, item = (_factorized(list(column)) for column in columns[:2])
    return interactions(user, item, **numbers), _called(chosen)


def read_sequences(path: Path, user: str, items: str, separator: str) -> Interactions:
    """A table with a user and their items, oldest first and separated by blanks, on each line; the place in the list is the time."""
    frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, usecols=[user, items], encoding="utf-8-sig")
    lists = [text.split() for text in frame[items]]
    counts = [len(words) for words in lists]
    owners = _factorized(list(frame[user]))
    time = np.concatenate([np.arange(count, dtype=np.float64) for count in counts] or [np.empty(0)])
    repeated = Coded(np.repeat(owners.positions, counts), owners.ids)
    return interactions(repeated, _factorized(list(chain.from_iterable(lists))), time=time)


def is_lists(path: Path) -> bool:
    """Whether a text is of LightGCN's layout: integers with spaces between, and lines of different lengths or of more than four."""
    lengths = set()
    for (number, words), _ in zip(_fields(path, None), repeat(None, 100), strict=False):
        if not all(word.isdecimal() for word in words):
            return False
        lengths.add(len(words))
        if number > 100:
            break
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
    lines = [" ".join(words) if len(words) == 1 else "" for (_, words), _ in zip(_fields(path, "\0"), repeat(None, 20), strict=False)]
    found = next((one for one in BETWEEN if lines and all(one in line for line in lines)), None)
    if found is None:
        raise UserError(f"{str(path)!r} cannot be read: no separator is in each of its lines; name it with --reading.separator")
    return found


def _factorized(words: list[str]) -> Coded:
    positions, distinct = pd.factorize(np.array([*words, None], dtype=object)[:-1])
    return Coded(positions.astype(np.int64), of_strings(distinct.tolist()))


def _checked(path: Path, place: int, word: str, name: str) -> float:
    if not _number(word):
        found = f"interaction {place + 1} has the {name} {word!r}, and a number was expected"
        raise UserError(f"{str(path)!r} cannot be read: {found}; write times in seconds, or leave the field out")
    return float(word)


def _number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _called(separator: str) -> str:
    return BETWEEN.get(separator, repr(separator))
