"""`anyview doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from anyview.cli import doctor as command
from anyview.extras import Extra, Package
from tests.fake_plugins import FakePlugins, make_fake_plugins  # noqa: F401


def findings(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], dict[str, str]]:
    assert command.run(["--json"]) == 0
    return {(finding["topic"], finding["name"]): finding for finding in json.loads(capsys.readouterr().out)}


def test_it_names_versions_devices_folders_extras_and_clashes(capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys)
    for topic, name in [
        ("versions", "python"),
        ("versions", "torch"),
        ("versions", "lightning-fabric"),
        ("devices", "cpu"),
        ("devices", "cuda"),
        ("folders", "data root"),
        ("folders", "cache root"),
        ("extras", "graphs"),
        ("plugins", "core"),
        ("clashes", "torchaudio"),
        ("clashes", "torchvision"),
    ]:
        assert found[topic, name]["status"] in ("ok", "warn")
    assert found["versions", "python"]["found"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert all(finding["cure"] for finding in found.values() if finding["status"] == "warn")


def test_the_table_ends_with_a_count(fake_plugins: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    fake_plugins.add("ill", "1 / 0\n")
    assert command.run([]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120
    assert "ZeroDivisionError" in text
    assert "to look at" in text.splitlines()[-1]


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache" / "deep"
    monkeypatch.setenv("ANYVIEW_DATA", str(data))
    monkeypatch.setenv("ANYVIEW_CACHE", str(cache))
    root, derived = command.folders()
    assert not root.ok
    assert root.found == f"{data} does not exist"
    assert "$ANYVIEW_DATA" in root.cure
    assert derived.ok
    assert derived.found == f"{cache} (made when it is needed)"
    assert not cache.exists()
    data.mkdir()
    cache.parent.write_text("a file in the way")
    root, derived = command.folders()
    assert root.ok
    assert not derived.ok
    assert "$ANYVIEW_CACHE" in derived.cure


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not command.can_write(tmp_path / "new")


def test_extras_say_what_to_install_and_what_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Extra("anyview", "tables", (Package("pandas", ">=2", "3.0", True),))
    absent = Extra("anyview", "tensorboard", (Package("tensorboardX", ">=2", None, False),))
    monkeypatch.setattr(command, "extras", lambda: [whole, absent])
    tables, tensorboard = command.extra_packages()
    assert (tables.ok, tables.found, tables.cure) == (True, "pandas 3.0", "")
    assert (tensorboard.ok, tensorboard.found) == (False, "without tensorboardX")
    assert tensorboard.cure.startswith("pip install 'anyview[tensorboard]'; a run's metrics.jsonl has all metrics")


def torch_like(*, available: bool = False, build: str | None = None) -> SimpleNamespace:
    cuda = SimpleNamespace(is_available=lambda: available, device_count=lambda: 2, get_device_name=lambda device: f"GPU{device}")
    return SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda=build))


@pytest.mark.parametrize(
    ("torch", "driver", "ok", "words"),
    [
        (torch_like(), False, True, "everything runs on the CPU"),
        (torch_like(available=True, build="12.4"), True, True, "12.4: GPU0, GPU1"),
        (torch_like(), True, False, "built without CUDA"),
        (torch_like(build="12.4"), True, False, "too old for CUDA 12.4"),
    ],
)
def test_cuda(torch: SimpleNamespace, driver: bool, ok: bool, words: str) -> None:
    finding = command.cuda(torch, driver=driver)
    assert finding.ok is ok
    assert words in finding.found + finding.cure


def clash_in_fresh_process(folder: Path, name: str) -> dict[str, str]:
    """What the doctor says of a package in `folder`."""
    imports = f"import json, sys\nsys.path.insert(0, {str(folder)!r})\nfrom anyview.cli.doctor import {name}\n"
    code = f"{imports}print(json.dumps({name}().as_dict()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize(
    ("extension", "status", "words"),
    [
        ("", "ok", "9.9 with its native extension"),
        ("raise OSError('libcudart.so.13: not found')", "warn", "OSError: libcudart.so.13: not found"),
    ],
)
def test_torchaudio(tmp_path: Path, extension: str, status: str, words: str) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("__version__ = '9.9'\nimport torchaudio._extension\n")
    (tmp_path / "torchaudio" / "_extension.py").write_text(extension)
    finding = clash_in_fresh_process(tmp_path, "torchaudio")
    assert finding["status"] == status
    assert words in finding["found"]
    assert bool(finding["cure"]) == (status == "warn")


@pytest.mark.parametrize("name", ["torchaudio", "torchvision"])
def test_a_package_that_does_not_import_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    finding = clash_in_fresh_process(tmp_path, name)
    assert finding["status"] == "warn"
    assert "RuntimeError: operator torchvision::nms" in finding["found"]


def test_a_torch_that_does_not_import_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "attempt", lambda _: (None, "OSError: libtorch"))
    (finding,) = command.devices()
    assert not finding.ok
    assert "OSError: libtorch" in finding.found
