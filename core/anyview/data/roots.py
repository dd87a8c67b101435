"""Where data is read from (never written) and where what is derived goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def data_root() -> Path:
    """The folder that data sets are found under: $ANYVIEW_DATA, else the user's data folder. It is only ever read."""
    return Path(os.environ.get("ANYVIEW_DATA") or _user_folder("XDG_DATA_HOME", ".local/share") / "anyview")


def place_of(data: str | Path, *files: Path) -> str | None:
    """Where a source was read from, for `Source.place`: absolute paths with commas; None where `data` is found again under the data root.

    files: what was read for what the user called `data`.
    """
    root = data_root().resolve()
    named = all(root in file.resolve().parents for file in files) and not Path(data).expanduser().exists()
    return None if named else ",".join(str(file.resolve()) for file in files)


def cache_root() -> Path:
    """The folder for what is derived from data: $ANYVIEW_CACHE, else the user's cache folder."""
    return Path(os.environ.get("ANYVIEW_CACHE") or _user_folder("XDG_CACHE_HOME", ".cache") / "anyview")


def _user_folder(variable: str, fallback: str) -> Path:
    if sys.platform == "win32":
        return Path(os.environ["LOCALAPPDATA"])
    return Path(os.environ.get(variable) or Path.home() / fallback)
