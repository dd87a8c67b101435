"""Self-supervised learning for any data: views, encoders and objectives in one core, one plugin per modality.

>>> import anyview
>>> run = anyview.load("runs/cora")            # doctest: +SKIP
>>> rows = run.embed("cora")                   # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyview.errors import UserError
    from anyview.run import Run, build, load
    from anyview.training import pretrain
    from anyview.tuning.search import Tuned, tune

_PUBLIC = {
    "Run": "anyview.run",
    "Tuned": "anyview.tuning.search",
    "UserError": "anyview.errors",
    "build": "anyview.run",
    "load": "anyview.run",
    "pretrain": "anyview.training",
    "tune": "anyview.tuning.search",
}

__all__ = ["Run", "Tuned", "UserError", "build", "load", "pretrain", "tune"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'anyview' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
