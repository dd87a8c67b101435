"""Tables for people: on a terminal as wide as it is, in a pipe as wide as stays readable."""

from __future__ import annotations

import json
import os
from typing import Any

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 120


def make_console(pipe_width: int = PIPE_WIDTH) -> Console:
    """A console on standard output. pipe_width: columns where it is no terminal and $COLUMNS does not say."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = pipe_width
    return console


def make_table(*columns: str, title: str | None = None) -> Table:
    """An empty table without lines; cells that are too wide are folded."""
    table = Table(*columns, title=title, box=None, title_justify="left", header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    return table


def print_json(value: Any) -> None:
    """JSON on standard output, for other programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
