"""A torchaudio whose native extension does not load counts as a torchaudio without one.

The public Linux wheel of torchaudio is linked to CUDA; beside a CPU-only torch its import raises OSError, and with it every import of
transformers, which imports torchaudio wherever it is installed. Most of torchaudio needs no native code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

EXTENSION = "torchaudio._extension"


def tolerate_torchaudio() -> None:
    """From now on, let torchaudio import where its native extension fails to load; does nothing without torchaudio, or a second time.

    torchaudio itself is not imported. Call it before the first import of torchaudio or transformers; after a failed import of
    theirs, the next import succeeds. Extensions that load are used as ever.
    """
    if not any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path) and PathFinder.find_spec("torchaudio") is not None:
        sys.meta_path.insert(0, _ExtensionFinder())


def extension_error() -> OSError | None:
    """Why torchaudio runs without its native extension; None where it has it, or was not imported yet."""
    return getattr(sys.modules.get(EXTENSION), "load_error", None)


class _ExtensionFinder(MetaPathFinder):
    """Answers for torchaudio's extension module alone."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != EXTENSION:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _GuardedLoader(spec.loader)
        return spec


class _GuardedLoader(Loader):
    """Loads the real module, and replaces what it could not define."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.loader.exec_module(module)
        except OSError as error:
            _go_without(module, error)


def _go_without(module: ModuleType, error: OSError) -> None:
    """Give the module the names that the rest of torchaudio reads from it."""
    vars(module).update(
        load_error=error,
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=lambda function: _unavailable(function, error),
    )


def _unavailable(function: Callable, error: OSError) -> Callable:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"torchaudio's {function.__name__} needs its native extension, which does not load here ({error})")

    return refuse
