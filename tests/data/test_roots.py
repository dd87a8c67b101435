from __future__ import annotations

from pathlib import Path

import pytest

from anyview.data.roots import cache_root, data_root


def test_environment_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ANYVIEW_CACHE", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "data"
    assert cache_root() == tmp_path / "cache"


def test_user_s_folders_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ANYVIEW_DATA", raising=False)
    monkeypatch.delenv("ANYVIEW_CACHE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root() == tmp_path / "share" / "anyview"
    assert cache_root() == tmp_path / "cache" / "anyview"
