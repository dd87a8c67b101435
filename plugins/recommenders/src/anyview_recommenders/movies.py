"""MovieLens tables beside the ratings: what films are called, when they are from, their genres, and what users tagged them with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anyview.errors import UserError
from anyview_recommenders.knowledge import Knowledge
from anyview_recommenders.tables import of_strings

YEAR = re.compile(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
WORD = re.compile(r"[^\W_]+")
NO_GENRES = "(no genres listed)"


def read_movies(folder: Path) -> dict[str, np.ndarray]:
    """Columns of a folder's movies.csv, and of its tags.csv where there is one, (n,) each, with a row for each film.

    item: ids as in the ratings. title: strings, without the year. year: float64, NaN where the title names none. genres, tags: lists of
    strings, tags in lower case, each once, in their order. Raises UserError for a missing file or column, and for a row that is cut short.
    """
    films = _table(folder / "movies.csv", ("movieId", "title", "genres"))
    years = [YEAR.search(title) for title in films["title"]]
    tagged = _tags(folder / "tags.csv") if (folder / "tags.csv").is_file() else {}
    words = list(films["movieId"])
    _check_once(folder / "movies.csv", words)
    return {
        "item": of_strings(words),
        "title": np.array([YEAR.sub("", title).strip() for title in films["title"]], dtype=object),
        "year": np.array([np.nan if year is None else float(year.group(1)) for year in years]),
        "genres": _lists([[] if text == NO_GENRES else text.split("|") for text in films["genres"]]),
        "tags": _lists([tagged.get(film, []) for film in words]),
    }


def film_table(folder: Path) -> pd.DataFrame:
    """The films of a folder as a table of features: item, year, decade, genres, words of the title and tags, lists where there are several.

    Tags are those that users gave, whenever they did: they say that somebody saw the film, and not who. Raises UserError as `read_movies`.
    """
    films = read_movies(folder)
    years = films["year"]
    decades = [f"{int(year) // 10 * 10}s" if np.isfinite(year) else "" for year in years]
    words = [list(dict.fromkeys(WORD.findall(title.lower()))) for title in films["title"]]
    columns = {"item": films["item"], "year": years, "decade": decades, "genres": films["genres"], "words": words, "tags": films["tags"]}
    return pd.DataFrame(columns)


def film_knowledge(folder: Path) -> Knowledge:
    """The films of a folder as triples: each in "genre", "year" and "tag" to values such as "genre Comedy"; raises as `read_movies`."""
    films = read_movies(folder)
    years = [[str(int(year))] if np.isfinite(year) else [] for year in films["year"]]
    said: dict[str, Any] = {"genre": films["genres"], "year": years, "tag": films["tags"]}
    triples = [
        (str(film), relation, f"{relation} {value}")
        for relation, lists in said.items()
        for film, values in zip(films["item"], lists, strict=True)
        for value in values
    ]
    return Knowledge.from_ids(*np.array(triples, dtype=object).reshape(-1, 3).T)


def _tags(path: Path) -> dict[str, list[str]]:
    """The distinct tags of each film, as the ids are written."""
    table = _table(path, ("movieId", "tag"))
    found: dict[str, list[str]] = {}
    for film, tag in zip(table["movieId"], table["tag"], strict=True):
        own, word = found.setdefault(film, []), tag.strip().lower()
        if word and word not in own:
            own.append(word)
    return found


def _table(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """Columns of a CSV file as strings."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {' '.join(str(error).split())}; give a CSV with {', '.join(names)}") from error
    if missing := [name for name in names if name not in table]:
        listed = ", ".join(table.columns)
        raise UserError(f"{str(path)!r} cannot be read: {', '.join(missing)} was expected in its header, and found {listed}; name it so")
    return table


def _check_once(path: Path, words: list[str]) -> None:
    seen: set[str] = set()
    for line, word in enumerate(words, 2):
        if word in seen:
            found = f"line {line} has the film {word!r} again, and one line a film was expected"
            raise UserError(f"{str(path)!r} cannot be read: {found}; delete one")
        seen.add(word)


def _lists(values: list[list[str]]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
