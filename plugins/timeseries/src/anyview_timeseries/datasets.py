"""Time series by name or path: what a user's `data` means."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from anyview.data.roots import data_root
from anyview.data.source import Source
from anyview.errors import UserError, unknown
from anyview_timeseries.series import SeriesSource

Reading = dict[str, Any] | None
"""A recipe's parameter `reading`: options of `open_series`, given on a command line as `--reading.length 200`."""


def open_series(data: str | Path | Source | np.ndarray | Tensor, **options: Any) -> Source:
    """The windows of time series that a user's `data` means.

    data: a source (returned as it is); an array or tensor (N, C, T); the name of a registered data set ("chirps", "ieee_spc12").
    options: how it is read; see the data set. Raises UserError for what cannot be read and for options that the data does not take.

    >>> open_series(np.zeros((10, 2, 50))).shape
    {'channels': 2, 'length': 50}
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, str | Path):
        return SeriesSource(data, name="array", **options)
    from anyview.plugins import host

    loader = host().find("datasets", str(data), prefer="timeseries").load()
    source = loader(**checked(loader, options, str(data)))
    if not {"channels", "length"} <= source.shape.keys():
        raise UserError(f"the data set {source.name!r} has {source.shape}, and time series were asked for; choose a set of time series")
    return source


def checked(loader: Callable[..., Source], options: dict[str, Any], name: str) -> dict[str, Any]:
    """The options, all of which the loader takes; raises UserError for others."""
    known = list(inspect.signature(loader).parameters)
    for word in options:
        if word not in known:
            raise unknown(f"option of the data {name!r}", word, known, look="anyview list datasets")
    return options


def ieee_spc12(*, target: int | None = None) -> SeriesSource:
    """IEEE SPC12: wrist PPG of 12 subjects, 1768 windows of 8 s at 25 Hz, labels in bpm."""
    path = data_root() / "timeseries" / "ieee_spc12" / "ieee_spc12.npz"
    with np.load(path, allow_pickle=False) as file:
        x, bpm, subject = file["X"], file["y_bpm_class"].astype(np.int64) + 30, file["subject"]
    return SeriesSource(x, bpm, groups={"subject": subject}, name="ieee_spc12", rate=25.0, band=(0.25, 4.0))
