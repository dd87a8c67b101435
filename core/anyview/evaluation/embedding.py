"""From a frozen encoder to rows: evaluation mode, no augmentation, the input's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from anyview.data.source import Source
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.views.view import View


def embed(encoder: Encoder, source: Source, *, batch_size: int = 1024, device: str | torch.device = "cpu") -> np.ndarray:
    """The encoder's rows for every sample of a source, (N, D) float32, in the input's order.

    The encoder runs on `device` in evaluation mode (norm layers and dropout too) and without gradient; afterwards every one of its modules
    is back in the mode, and the encoder on the device, that it came with.
    """
    with _frozen(encoder, torch.device(device)):
        parts = [encoder(_moved(view, device)).rows.float().cpu() for view in source.clean(batch_size)]
    return torch.cat(parts).numpy()


def fresh_rows(
    build: Callable[[], Encoder], source: Source, *, batch_size: int = 1024, device: str | torch.device = "cpu"
) -> Callable[[int], np.ndarray]:
    """The rows of untrained encoders, seed -> (N, D): the control that shows what the architecture gives away.

    build: makes the encoder of the run, newly initialised from torch's global generator, which is seeded for it and put back afterwards.
    Rows are made once per seed and kept, so that several protocols share them.
    """

    @cache
    def rows(seed: int) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = build()
        return embed(encoder, source, batch_size=batch_size, device=device)

    return rows


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
def _frozen(encoder: Encoder, device: torch.device) -> Iterator[None]:
    modes = {module: module.training for module in encoder.modules()}
    home = next((parameter.device for parameter in encoder.parameters()), device)
    encoder.to(device).eval()
    try:
        with torch.no_grad():
            yield
    finally:
        encoder.to(home)
        for module, mode in modes.items():
            module.training = mode


def _moved(view: View, device: str | torch.device) -> View:
    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: move(item) for name, item in value.items()}
        return value.to(device) if hasattr(value, "to") else value

    return replace(view, **{name: move(getattr(view, name)) for name in ("data", "params", "index", "groups")})
