"""`anyview embed DIR --data X --out F`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyview.config import parse_command
from anyview.errors import MissingDependencyError, UserError
from anyview.folder import atomic
from anyview.progress import counted

if TYPE_CHECKING:
    import numpy as np

GROUP_ROWS = 2**15
"""Rows that a .parquet file keeps together."""


def embed(
    folder: str, *, out: str, data: str | None = None, device: str = "auto", data_root: str | None = None, overwrite: bool = False
) -> None:
    """Rows for data, with a run's encoder, in the input's order and with the input's ids.

    Args:
        folder: the run
        out: a file that ends in .npy (rows alone), .npz (rows and ids) or .parquet (one column per feature, and ids)
        data: a name or path (default: the data that the run was trained on)
        device: that the encoder runs on: cpu, cuda, mps or auto, which is cuda where it can be had, else cpu
        data_root: folder that named data sets are found under (default: $ANYVIEW_DATA)
        overwrite: replace an existing file
    """
    path = Path(out)
    if path.suffix not in WRITERS:
        raise UserError(f"--out {out!r} ends in {path.suffix or 'nothing'!r}; name a file that ends in {', '.join(WRITERS)}")
    if path.exists() and not overwrite:
        raise UserError(f"the file {out!r} exists; choose another --out, or replace it with --overwrite")
    if data_root:
        os.environ["ANYVIEW_DATA"] = data_root
    from anyview.run import load

    run = load(folder)
    source = run.open(data)
    ids = list(range(len(source))) if source.ids is None else list(source.ids)
    parts = counted(run.embed_in_parts(source, device=device), len(source), "embed")
    with atomic(path) as file:
        rows, width = WRITERS[path.suffix](file, parts, ids)
    print(f"{rows} rows of {width} numbers are in {out}")


def run(arguments: list[str]) -> int:
    """Embed data."""
    embed(**parse_command(embed, arguments, "anyview embed DIR"))
    return 0


def _write_npy(file: Any, parts: Iterable[np.ndarray], ids: list[Any]) -> tuple[int, int]:
    """Rows alone, written as they come."""
    import numpy as np

    parts = iter(parts)
    first = next(parts)
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (len(ids), first.shape[1])}
    np.lib.format.write_array_header_1_0(file, header)
    for part in chain([first], parts):
        file.write(np.ascontiguousarray(part).tobytes())
    return len(ids), first.shape[1]


def _write_npz(file: Any, parts: Iterable[np.ndarray], ids: list[Any]) -> tuple[int, int]:
    import numpy as np

    rows = np.concatenate(list(parts))
    np.savez(file, rows=rows, ids=np.asarray(ids))
    return rows.shape


def _write_parquet(file: Any, parts: Iterable[np.ndarray], ids: list[Any]) -> tuple[int, int]:
    """A column for each feature and one for the ids, a group of rows at a time as they come."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        sentence = f"a .parquet file needs the package {error.name!r}, which is not installed; pip install 'anyview[tables]'"
        raise MissingDependencyError(sentence) from error
    writer, start = None, 0
    try:
        for rows in gathered(parts, GROUP_ROWS):
            columns = {"id": pyarrow.array(ids[start : start + len(rows)])}
            columns |= {f"feature_{number}": pyarrow.array(column) for number, column in enumerate(rows.T)}
            table = pyarrow.table(columns)
            writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
            start += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return start, rows.shape[1]


def gathered(parts: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Parts joined until they have `rows` rows at least; the last may have fewer.

    >>> [len(part) for part in gathered([np.zeros((2, 3))] * 5, rows=4)]
    [4, 4, 2]
    """
    import numpy as np

    held: list[np.ndarray] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) >= rows:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


WRITERS = {".npy": _write_npy, ".npz": _write_npz, ".parquet": _write_parquet}
