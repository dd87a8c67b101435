"""From a frozen encoder to rows: evaluation mode, no augmentation, the input's order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from anyview.data.source import Source
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.views.view import Mask, View

BATCH_SIZE = 1024


def embed(encoder: Encoder, source: Source, *, batch_size: int = BATCH_SIZE, device: str | torch.device = "cpu") -> np.ndarray:
    """The encoder's rows for every sample of a source, (N, D) float32, in the input's order; see `embed_in_parts`."""
    return np.concatenate(list(embed_in_parts(encoder, source, batch_size=batch_size, device=device)))


def embed_in_parts(
    encoder: Encoder, source: Source, *, batch_size: int = BATCH_SIZE, device: str | torch.device = "cpu"
) -> Iterator[np.ndarray]:
    """The encoder's rows for every sample of a source, in the input's order, (n, D) float32 at a time: memory holds one batch.

    The encoder runs on `device` in evaluation mode (norm layers and dropout too) and without gradient; after the last part every one of its
    modules is back in the mode, and the encoder on the device, that it came with.
    """
    with frozen(encoder, torch.device(device)):
        for view in source.clean(batch_size):
            with torch.no_grad():  # what happens between two parts is the caller's
                rows: np.ndarray = encoder(moved(view, device)).rows.float().cpu().numpy()
            yield rows


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device that a name means: "auto" is CUDA's where there is one, else the CPU. Raises UserError for one that is not there.

    Apple's GPUs are taken when they are asked for alone: they lack float64 and sparse matrices, which some recipes need.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"there is no device {str(name)!r} here; choose cpu, cuda, mps or auto") from error
    return device


def require_finite(rows: np.ndarray | torch.Tensor, what: str = "rows") -> None:
    """Raise UserError, naming how many rows hold NaN or infinity, unless none does.

    >>> require_finite(np.array([[1.0, np.nan], [0.0, 1.0]]))
    Traceback (most recent call last):
    anyview.errors.UserError: 1 of 2 rows hold NaN or infinity, and they cannot be scored; look for a diverged run or bad input features
    """
    finite = np.isfinite(rows) if isinstance(rows, np.ndarray) else rows.isfinite()
    bad = int((~finite.all(-1)).sum())
    if bad:
        raise UserError(
            f"{bad} of {len(rows)} {what} hold NaN or infinity, and they cannot be scored; look for a diverged run or bad input features"
        )


@contextmanager
def frozen(encoder: Encoder, device: torch.device) -> Iterator[None]:
    """The encoder on `device` and in evaluation mode; afterwards where and as it was."""
    modes = {module: module.training for module in encoder.modules()}
    home = next((parameter.device for parameter in encoder.parameters()), device)
    encoder.to(device).eval()
    try:
        yield
    finally:
        encoder.to(home)
        for module, mode in modes.items():
            module.training = mode


def moved(view: View, device: str | torch.device) -> View:
    """The view with everything that it holds on `device`."""

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: move(item) for name, item in value.items()}
        if isinstance(value, Mask):
            return replace(value, hidden=move(value.hidden), token=move(value.token))
        return value.to(device) if hasattr(value, "to") else value

    return replace(view, **{name: move(getattr(view, name)) for name in ("data", "mask", "target", "params", "index", "groups")})
