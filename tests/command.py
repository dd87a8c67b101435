"""Runs `anyview` as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SMALL = ("--hidden", "32", "--dim", "8", "--batch-size", "256", "--objective.width", "16")
"""Flags that make core/pair quick."""


def anyview(
    *arguments: str | Path, folder: Path, environment: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """The finished process; it ran in `folder` on one thread."""
    return subprocess.run(command(*arguments), cwd=folder, env=settings(environment), capture_output=True, text=True, timeout=timeout)


def start(*arguments: str | Path, folder: Path) -> subprocess.Popen[str]:
    """The process, running, in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=settings(None),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def command(*arguments: str | Path) -> list[str]:
    """The words that start `anyview`."""
    return [sys.executable, "-m", "anyview", *map(str, arguments)]


def settings(more: Mapping[str, str] | None) -> dict[str, str]:
    """An environment in which runs repeat bit for bit."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **(more or {})}
