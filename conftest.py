"""Every example in docstrings, README and docs is run by the tests."""

from __future__ import annotations

import os
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path

import numpy as np
import pytest
import torch
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser
from torch import nn

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(1)  # small tensors: more threads only wait for each other, and pytest-xdist already fills the cores


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples that write do so in a folder of their own."""
    monkeypatch.chdir(tmp_path)


def _names(namespace: dict[str, object]) -> None:
    torch.manual_seed(0)
    namespace.update(torch=torch, nn=nn, np=np)


_docstrings = Sybil(
    parsers=[DocTestParser(optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)],
    patterns=["core/anyview/*.py", "core/anyview/**/*.py", "plugins/*/src/**/*.py"],
    document_types={".py": PythonDocStringDocument},
    setup=_names,
    fixtures=["empty_folder"],
)
_pages = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_names,
    fixtures=["empty_folder"],
)
_collect = [_docstrings.pytest(), _pages.pytest()]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect examples from whichever of the two takes the file."""
    for collect in _collect:
        if (found := collect(file_path, parent)) is not None:
            return found
    return None
