"""Distributions that exist for one test: a module, its metadata and its entry point in a temporary folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from anyview.plugins import host

HEADER = "from anyview.plugins import hookimpl\napi = 1\n"


class FakePlugins:
    """Writes distributions into a folder that is on sys.path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, source: str, *, module: str | None = None, distribution: str | None = None, header: str = HEADER) -> str:
        """A distribution "anyview-NAME" 1.0 whose module declares what `source` says; returns the module's name."""
        module, distribution = module or f"fake_{name}", distribution or f"anyview-{name}"
        (self.folder / f"{module}.py").write_text(header + dedent(source))
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[anyview]\n{name} = {module}\n")
        host.cache_clear()
        return module

    def declare(self, name: str, kind: str, names: dict[str, str], **options: str) -> str:
        """A distribution that declares components of one kind."""
        return self.add(name, f"@hookimpl\ndef {kind}():\n    return {names!r}\n", **options)

    def write(self, module: str, source: str) -> None:
        """A module that a target points at."""
        (self.folder / f"{module}.py").write_text(dedent(source))


@pytest.fixture(name="fake_plugins")
def make_fake_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlugins]:
    """An empty folder for distributions, on sys.path for one test; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    host.cache_clear()
    yield FakePlugins(folder)
    host.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
