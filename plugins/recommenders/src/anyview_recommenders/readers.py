"""Files of interactions in the layouts that people have, told apart by their names, endings and first lines.

A folder may hold a log in parts: train and test, and validation or valid, with an ending that is read; or ratings.csv beside movies.csv.
"table": CSV, TSV or parquet with a header, with an interaction or a user's list of items on each row. "atomic": RecBole's .inter.
"lightgcn": a user and all items a line. "triples": `user item [rating] [time]` without a header. "matrices": SSLRec's pickled matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from anyview.errors import UserError
from anyview_recommenders.atomic import read_inter
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.knowledge import Knowledge, read_knowledge
from anyview_recommenders.matrices import read_pairs
from anyview_recommenders.movies import film_knowledge, film_table
from anyview_recommenders.raw import Raw, assemble
from anyview_recommenders.tables import Columns, Layout, header_of, of_frame, read_csv, read_parquet, separator_of
from anyview_recommenders.text import is_lists, read_lists, read_sequences, read_triples

SUFFIXES = (".csv", ".tsv", ".parquet", ".inter", ".txt", ".dat", ".data", ".pkl", ".npz")
PARTS = (("train", "trn"), ("valid", "validation", "val"), ("test", "tst"))
SEQUENCES = {"items": "user", "item_id_list:token_seq": "session_id:token"}
"""Columns that hold a list of items, with that of the user beside each."""


def read_frame(frame: Any, columns: Columns, what: str) -> Raw:
    """A DataFrame."""
    return assemble("table", of_frame(frame, columns, what), what=what)


def read_path(path: Path, columns: Columns) -> Raw:
    """A file or folder; raises UserError where it holds no layout that is known.

    A folder's trust.csv is named, not read. Knowledge beside a log is made when it is asked for: of kg_final.txt, of the one .kg of a
    folder, of that of the same name as an .inter file, or of what movie tables say.
    """
    if not path.is_dir():
        log, layout = read_file(path, columns)
        beside = [path.with_suffix(".kg")] if path.suffix.lower() == ".inter" else []
        return replace(assemble(layout, log, what=f"the file {str(path)!r}"), knowledge=_knowledge(beside))
    raw, graphs = _read_folder(path, columns), [path / "kg_final.txt", *sorted(path.glob("*.kg"))[:2]]
    return replace(raw, trust=_part(path, ("trust",), None), knowledge=raw.knowledge or _knowledge(graphs))


def _knowledge(files: Sequence[Path]) -> Callable[[], Knowledge] | None:
    """What makes the triples of the one of some files that is there; None where there are none or several."""
    found = [file for file in files if file.is_file()]
    return partial(read_knowledge, found[0]) if len(found) == 1 else None


def _read_folder(path: Path, columns: Columns) -> Raw:
    files = [_part(path, names, columns.layout) for names in PARTS]
    if files[0] is not None:
        read = [None if file is None else read_file(file, columns) for file in files]
        layout = next(found[1] for found in read if found is not None)
        return assemble(layout, *(None if found is None else found[0] for found in read), what=f"the folder {str(path)!r}")
    if (path / "ratings.csv").is_file():
        log, layout = read_csv(path / "ratings.csv", columns)
        raw = assemble(f"movie tables, {layout}", log, what=f"the folder {str(path)!r}")
        if not (path / "movies.csv").is_file():
            return raw
        return replace(raw, tables={"item": partial(film_table, path)}, knowledge=partial(film_knowledge, path))
    inter = sorted(path.glob("*.inter"))
    if len(inter) == 1:
        return assemble("atomic file", read_inter(inter[0], columns), what=f"the folder {str(path)!r}")
    listed = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
    expected = "train and test files, ratings.csv or one .inter file"
    raise UserError(f"the folder {str(path)!r} holds {listed}, and {expected} were expected; name the file that holds the interactions")


def read_file(path: Path, columns: Columns) -> tuple[Interactions, str]:
    """One file, and what its layout is called."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{str(path)!r} ends in {suffix or 'nothing'!r}, and interactions are read from {', '.join(SUFFIXES)}; convert it")
    return READERS[columns.layout or LAYOUTS.get(suffix) or ("lightgcn" if is_lists(path) else "triples")](path, columns)


def _table(path: Path, columns: Columns) -> tuple[Interactions, str]:
    if path.suffix.lower() == ".parquet":
        return read_parquet(path, columns), "parquet table"
    separator = columns.separator or separator_of(path)
    names = header_of(path, separator)
    listed = next((name for name in SEQUENCES if name in names and columns.item in (None, name)), None)
    if listed is not None and (columns.user or SEQUENCES[listed]) in names:
        return read_sequences(path, columns.user or SEQUENCES[listed], listed, separator), "list of items a user"
    log, called = read_csv(path, replace(columns, separator=separator))
    return log, f"table with {called}s"


def _triples(path: Path, columns: Columns) -> tuple[Interactions, str]:
    log, called = read_triples(path, columns.separator)
    return log, f"triples with {called} between"


LAYOUTS = {".csv": "table", ".tsv": "table", ".parquet": "table", ".inter": "atomic", ".pkl": "matrices", ".npz": "matrices"}
READERS: dict[str, Callable[[Path, Columns], tuple[Interactions, str]]] = {
    "table": _table,
    "atomic": lambda path, columns: (read_inter(path, columns), "atomic file"),
    "lightgcn": lambda path, _columns: (read_lists(path), "a user and all items a line"),
    "triples": _triples,
    "matrices": lambda path, _columns: (read_pairs(path), "sparse matrix"),
}


def _part(folder: Path, names: tuple[str, ...], layout: Layout | None) -> Path | None:
    """The file of a part, of a layout where one is asked for: named train.csv, train_mat.pkl or anything.train.inter."""
    for suffix in (one for one in SUFFIXES if layout is None or LAYOUTS.get(one, layout) == layout):
        for name in names:
            for file in (folder / f"{name}{suffix}", folder / f"{name}_mat{suffix}", *sorted(folder.glob(f"*.{name}{suffix}"))):
                if file.is_file():
                    return file
    return None
