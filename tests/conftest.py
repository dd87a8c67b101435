"""Fixtures that all tests share."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real data sets, from $ANYVIEW_DATA or beside the repository; tests that need it are skipped without it."""
    root = Path(os.environ.get("ANYVIEW_DATA") or REPOSITORY.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("no real data: set ANYVIEW_DATA to a folder with the sets that the test names")
    return root


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., Any]]:
    """Calls a function with arguments in a process that serves this module alone, as a device that stays there must be."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test draws the same numbers, and prints tables of the same width, in whatever order and process it runs."""
    torch.manual_seed(0)
    monkeypatch.delenv("COLUMNS", raising=False)
