"""`anyview embed DIR --data X --out F`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from anyview.config import parse_command
from anyview.errors import MissingDependencyError, UserError
from anyview.folder import atomic


def embed(
    folder: str, *, out: str, data: str | None = None, device: str = "auto", data_root: str | None = None, overwrite: bool = False
) -> None:
    """Rows for data, with a run's encoder, in the input's order and with the input's ids.

    Args:
        folder: the run
        out: a file that ends in .npy (rows alone), .npz (rows and ids) or .parquet (one column per feature, and ids)
        data: a name or path (default: the data that the run was trained on)
        device: that the encoder runs on: cpu, cuda, mps or auto, which is an accelerator where there is one
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
    rows = run.embed(source, device=device)
    ids = list(range(len(source))) if source.ids is None else list(source.ids)
    with atomic(path) as file:
        WRITERS[path.suffix](file, rows, ids)
    print(f"{rows.shape[0]} rows of {rows.shape[1]} numbers are in {out}")


def run(arguments: list[str]) -> int:
    """Embed data."""
    embed(**parse_command(embed, arguments, "anyview embed DIR"))
    return 0


def _write_npy(file: Any, rows: Any, _ids: list[Any]) -> None:
    import numpy as np

    np.save(file, rows)


def _write_npz(file: Any, rows: Any, ids: list[Any]) -> None:
    import numpy as np

    np.savez(file, rows=rows, ids=np.asarray(ids))


def _write_parquet(file: Any, rows: Any, ids: list[Any]) -> None:
    try:
        import pandas
        import pyarrow  # noqa: F401  (what pandas writes parquet with)
    except ModuleNotFoundError as error:
        sentence = f"a .parquet file needs the package {error.name!r}, which is not installed; pip install 'anyview[tables]'"
        raise MissingDependencyError(sentence) from error
    table = pandas.DataFrame(rows, columns=[f"feature_{column}" for column in range(rows.shape[1])])
    table.insert(0, "id", ids)
    table.to_parquet(file, index=False)


WRITERS = {".npy": _write_npy, ".npz": _write_npz, ".parquet": _write_parquet}
