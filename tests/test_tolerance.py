"""torchaudio with a native extension that does not load, in a fresh interpreter and without the real torchaudio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXTENSION = """
def fail_if_no_align(function):
    return function
def _check_cuda_version():
    return "13.0"
_IS_TORCHAUDIO_EXT_AVAILABLE = _IS_ALIGN_AVAILABLE = True
"""
PACKAGE = """
from torchaudio._extension import _IS_ALIGN_AVAILABLE, _IS_TORCHAUDIO_EXT_AVAILABLE, _check_cuda_version, fail_if_no_align
@fail_if_no_align
def forced_align(log_probabilities):
    return "aligned"
def resample(wave):
    return wave
"""


def interpret(folder: Path, code: str) -> str:
    """What a fresh interpreter prints that finds `folder` first."""
    program = f"import sys\nsys.path.insert(0, {str(folder)!r})\nfrom anyview.tolerance import extension_error, tolerate_torchaudio\n{code}"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def write_torchaudio(folder: Path, extension: str) -> Path:
    """A torchaudio whose extension module is `extension`, and a library that imports it as transformers does."""
    (folder / "torchaudio" / "_extension").mkdir(parents=True)
    (folder / "torchaudio" / "_extension" / "__init__.py").write_text(extension)
    (folder / "torchaudio" / "__init__.py").write_text(PACKAGE)
    (folder / "imports_torchaudio.py").write_text("import torchaudio\n")
    return folder


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return write_torchaudio(tmp_path, EXTENSION + "raise OSError('libcudart.so.13: cannot open shared object file')\n")


@pytest.mark.parametrize("first", ["torchaudio", "imports_torchaudio"])
def test_a_broken_extension_counts_as_absent(broken: Path, first: str) -> None:
    code = f"""
tolerate_torchaudio()
assert "torchaudio" not in sys.modules
import {first}, torchaudio
print(torchaudio._IS_TORCHAUDIO_EXT_AVAILABLE, torchaudio._IS_ALIGN_AVAILABLE, torchaudio._check_cuda_version(), torchaudio.resample(3))
print(type(extension_error()).__name__, extension_error())
try:
    torchaudio.forced_align(1)
except RuntimeError as error:
    print(error)
"""
    flags, cause, refusal = interpret(broken, code).splitlines()
    assert flags == "False False None 3"
    assert cause == "OSError libcudart.so.13: cannot open shared object file"
    assert refusal == (
        "torchaudio's forced_align needs its native extension, which does not load here (libcudart.so.13: cannot open shared object file)"
    )


@pytest.mark.parametrize("first", ["torchaudio", "imports_torchaudio"])
def test_an_import_that_failed_before_succeeds_after(broken: Path, first: str) -> None:
    code = f"""
try:
    import {first}
except OSError:
    print("failed")
tolerate_torchaudio()
import {first}
print(type(extension_error()).__name__)
"""
    assert interpret(broken, code).split() == ["failed", "OSError"]


def test_an_extension_that_loads_is_used(tmp_path: Path) -> None:
    code = (
        "tolerate_torchaudio()\nimport torchaudio\nprint(torchaudio.forced_align(1), torchaudio._check_cuda_version(), extension_error())"
    )
    assert interpret(write_torchaudio(tmp_path, EXTENSION), code) == "aligned 13.0 None"


def test_errors_of_another_kind_are_not_swallowed(tmp_path: Path) -> None:
    code = "tolerate_torchaudio()\ntry:\n    import torchaudio\nexcept RuntimeError as error:\n    print(error)"
    assert interpret(write_torchaudio(tmp_path, "raise RuntimeError('other versions')"), code) == "other versions"


def test_a_second_call_does_nothing(broken: Path) -> None:
    code = "before = len(sys.meta_path)\ntolerate_torchaudio()\ntolerate_torchaudio()\nprint(len(sys.meta_path) - before)"
    assert interpret(broken, code) == "1"


def test_nothing_changes_without_torchaudio(tmp_path: Path) -> None:
    code = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(lambda name, *rest: None if name == "torchaudio" else find(name, *rest))
before = list(sys.meta_path)
tolerate_torchaudio()
print(before == sys.meta_path, extension_error())
"""
    assert interpret(tmp_path, code) == "True None"


def test_the_tolerance_is_in_place_before_the_first_component_is_loaded(broken: Path) -> None:
    (broken / "sound_component.py").write_text("import imports_torchaudio\ndef recipe():\n    return 'made'\n")
    code = """
from anyview.plugins import Component
print(Component("recipes", "audio", "mert", "sound_component:recipe").load()(), extension_error() is not None)
"""
    assert interpret(broken, code) == "made True"
