"""`anyview recommend RUN --user ID [--user ID] [--k N]`, or `--users FILE --out F.parquet` for many."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anyview.config import parse_command
from anyview.console import make_console, make_table, print_json
from anyview.errors import UserError

PROG = "anyview recommend RUN"
GROUP_USERS = 4096
"""The users whose lists a .parquet file keeps together."""


def options(
    folder: str,
    *,
    user: str | None = None,
    users: str | None = None,
    k: int = 20,
    new_items: str | None = None,
    out: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """The items that a run would show to users, who are not known to have them; original ids in, original ids out.

    Args:
        folder: the run
        user: an id as the data has it; may be given several times
        users: a text file with an id on each line, or all
        k: how many items each
        new_items: a table of features of items that the run does not know, to be recommended too
        out: a .parquet file for user, rank, item and score, instead of a table
        device: that scores are made on: cpu, cuda, mps or auto, which is cuda where it can be had, else cpu
        overwrite: replace an existing file
        json: print JSON instead of a table
    """


def run(arguments: list[str]) -> int:
    """Recommend."""
    named, rest = _named_users(arguments)
    chosen = parse_command(options, rest, PROG)
    asked = _asked(named, chosen["users"])
    path = _checked_out(chosen["out"], overwrite=chosen["overwrite"])
    from anyview.run import load
    from anyview_recommenders.recommender import Recommender

    recommender = Recommender(load(chosen["folder"]), device=chosen["device"], new_items=chosen["new_items"])
    found = recommender.recommend(asked, chosen["k"])
    if path is not None:
        count = _write(path, found)
        print(f"{count:,} recommendations are in {chosen['out']}")
    elif chosen["json"]:
        print_json([line for part in found for line in _lines(part)])
    else:
        _show(found)
    return 0


def _named_users(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The ids of `--user ID` and `--user=ID`, and the other words."""
    named: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--user":
            named.append(next(words, ""))
        elif word.startswith("--user="):
            named.append(word.partition("=")[2])
        else:
            rest.append(word)
    return named, rest


def _asked(named: list[str], users: str | None) -> list[str] | None:
    """Original ids, None for all users."""
    if bool(named) == bool(users):
        found = "both" if named else "neither"
        raise UserError(f"recommend takes --user ID or --users FILE, and {found} was given; give one of them")
    if users is None:
        return named
    if users == "all":
        return None
    try:
        return Path(users).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the users cannot be read from {users!r}: {error}; give a UTF-8 text with an id on each line, or all") from error


def _checked_out(out: str | None, *, overwrite: bool) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.suffix != ".parquet":
        raise UserError(
            f"--out {out!r} ends in {path.suffix or 'nothing'!r}, and recommendations are written as .parquet; name such a file"
        )
    if path.exists() and not overwrite:
        raise UserError(f"the file {out!r} exists; choose another --out, or replace it with --overwrite")
    return path


def _lines(part: Any) -> Iterator[dict[str, Any]]:
    for user, items, scores, cold in zip(part.users, part.items, part.scores, part.cold, strict=True):
        listed = [{"item": item, "score": score} for item, score in zip(items, scores, strict=True)]
        yield {"user": user, "by": "popularity" if cold else "model", "items": listed}


def _show(found: Iterator[Any]) -> None:
    table = make_table("user", "rank", "item", "score")
    cold: list[Any] = []
    for part in found:
        for line in _lines(part):
            cold += [line["user"]] if line["by"] == "popularity" else []
            for rank, entry in enumerate(line["items"], 1):
                table.add_row(str(line["user"]) if rank == 1 else "", str(rank), str(entry["item"]), f"{entry['score']:.4g}")
    make_console().print(table)
    _tell(cold)


def _tell(cold: list[Any]) -> None:
    """Say who is given what is popular."""
    if cold:
        named = ", ".join(map(repr, cold[:3])) + (f" and {len(cold) - 3:,} more" if len(cold) > 3 else "")
        print(f"anyview: no training interactions of {named}: their list is what is popular", file=sys.stderr)


def _write(path: Path, found: Iterator[Any]) -> int:
    """A row for each recommendation; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from anyview.folder import atomic

    writer, count, cold = None, 0, []
    with atomic(path) as file:
        try:
            for parts in _groups(found):
                rows = [row for part in parts for row in _rows(part)]
                columns = dict(zip(("user", "rank", "item", "score"), map(list, zip(*rows, strict=True)), strict=True))
                table = pa.table(columns)
                writer = writer or parquet.ParquetWriter(file, table.schema)
                writer.write_table(table)
                count += len(rows)
                cold += [user for part in parts for user, is_cold in zip(part.users, part.cold, strict=True) if is_cold]
        finally:
            if writer is not None:
                writer.close()
    _tell(cold)
    return count


def _rows(part: Any) -> Iterator[tuple[Any, int, Any, float]]:
    for user, items, scores in zip(part.users, part.items, part.scores, strict=True):
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1):
            yield user, rank, item, score


def _groups(found: Iterator[Any]) -> Iterator[list[Any]]:
    """Parts in groups of GROUP_USERS users and more, which a file keeps together; the last may have fewer."""
    held: list[Any] = []
    for part in found:
        held.append(part)
        if sum(len(one.users) for one in held) >= GROUP_USERS:
            yield held
            held = []
    if held:
        yield held
