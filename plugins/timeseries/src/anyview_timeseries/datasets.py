"""Time series by name or path: what a user's `data` means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from anyview.data.roots import data_root
from anyview.data.source import Source
from anyview.errors import UserError, unknown
from anyview_timeseries.readers import READERS, Raw, read_archive, read_npz
from anyview_timeseries.recording import open_recording, streams
from anyview_timeseries.repair import Preparation
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.tables import SUFFIXES, Columns, read_folder, read_table
from anyview_timeseries.windows import prepare

Reading = dict[str, Any] | None
"""A recipe's parameter `reading`: options of `open_series`, given on a command line as `--reading.length 200`."""

ENDINGS = ("", ".npz", *READERS, *SUFFIXES, ".npy")
OF_FILES = ("channels_last", "stream")
OPTIONS = tuple(field.name for kind in (Preparation, Columns) for field in fields(kind)) + OF_FILES


def open_series(data: str | Path | Source | np.ndarray | Tensor, **options: Any) -> Source:
    """The windows of time series that a user's `data` means.

    data: a source (returned as it is); an array or tensor (N, C, T) or (N, T); the path of a .ts, .tsv, .arff, .npz, .csv, .parquet or .npy
    file or of a folder of tables; the name of such a file or folder under the data root; the name of a registered data set ("chirps",
    "ieee_spc12"). options: those of `Preparation` (length, step, rate, resample, channels, missing, lengths, constant, scale, target) and,
    for tables, of `Columns` (layout, id, time, label, subject, trial, channel, value). channels_last: a .npz file's X is (N, T, C).
    stream: read windows from disk when they are needed; by default where a file is a recording in .npy or parquet, or a large .csv.
    Raises UserError for what cannot be read, is refused by the preparation, and for unknown options.

    >>> open_series(np.random.default_rng(0).normal(size=(10, 2, 50))).shape
    {'channels': 2, 'length': 50}
    >>> open_series("chirps", scale="window").describe()["subjects"]
    12
    """
    if isinstance(data, Source):
        return data
    for word in options:
        if word not in OPTIONS:
            raise unknown(
                f"option of the data {str(data) if isinstance(data, str | Path) else 'array'!r}", word, OPTIONS, look="docs/timeseries.md"
            )
    if not isinstance(data, str | Path):
        return prepare(_of_array(data), "array", of(Preparation, options))
    path = find(data)
    if path is None:
        return _named(str(data), options)
    return read_path(path, options)


def of(kind: type, options: Mapping[str, Any]) -> Any:
    """The options that a dataclass has, as one."""
    return kind(**{field.name: options[field.name] for field in fields(kind) if options.get(field.name) is not None})


def _of_array(data: Any) -> Raw:
    try:
        array = data.numpy(force=True) if isinstance(data, Tensor) else np.asarray(data)
    except (TypeError, ValueError) as error:
        raise UserError(f"the series cannot be read as numbers ({error}); give an array (series, channels, time steps)") from error
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "iuf":
        found = f"an array of {array.shape}, {array.dtype}"
        raise UserError(f"the series are {found}; give numbers as (series, channels, time steps) or (series, time steps)")
    return Raw(list(array if array.ndim == 3 else array[:, None]))


def _named(name: str, options: dict[str, Any]) -> Source:
    from anyview.plugins import host

    load = host().find("datasets", name, prefer="timeseries").load()
    ours = load.__module__.startswith("anyview_timeseries")
    if options and not ours:
        raise UserError(f"the data set {name!r} takes no options, and {', '.join(options)} was given; leave them out")
    source = load(**options)
    if not {"channels", "length"} <= source.shape.keys():
        raise UserError(f"the data set {source.name!r} has {source.shape}, and time series were asked for; choose a set of time series")
    return source


def find(data: str | Path) -> Path | None:
    """The file or folder that a path or name means; None for the name of a registered data set, and for one that nobody knows."""
    from anyview.plugins import host

    if str(data) in {name for component in host().components("datasets") for name in (component.name, component.full_name)}:
        return None
    path = Path(data).expanduser()
    for place in (path, data_root() / path, data_root() / "timeseries" / path):
        for ending in ENDINGS:
            if (found := place.with_name(place.name + ending)).exists():
                return found
        for ending in READERS:
            if (found := place.with_name(f"{place.name}_TRAIN{ending}")).exists():
                return found
    if len(path.parts) > 1 or path.suffix:
        raise UserError(f"there is no file or folder {str(data)!r}, here or under the data root {str(data_root())!r}; check the path")
    return None


def read_path(path: Path, options: dict[str, Any]) -> SeriesSource:
    """The windows in a file or folder."""
    how, columns = of(Preparation, options), of(Columns, options)
    suffix, name = path.suffix.lower(), path.name.partition(".")[0]
    if path.is_dir():
        if halves := sorted(half for ending in READERS for half in path.glob(f"*_TRAIN{ending}")):
            return prepare(read_archive(halves[0]), name, how)
        return prepare(read_folder(path, columns, windowed=how.length is not None), name, how)
    if streams(path, columns, how, options.get("stream")):
        return open_recording(path, name, columns, how)
    if suffix in SUFFIXES:
        return prepare(read_table(path, columns, windowed=how.length is not None), name, how)
    if suffix in READERS:
        return prepare(read_archive(path), name.removesuffix("_TRAIN").removesuffix("_TEST"), how)
    if suffix == ".npz":
        return prepare(read_npz(path, channels_last=bool(options.get("channels_last"))), name, how)
    if suffix == ".npy":
        return prepare(_of_array(np.load(path, allow_pickle=False)), name, how)
    known = ", ".join(ending for ending in ENDINGS if ending)
    raise UserError(f"{str(path)!r} is no data of time series; give a file that ends in {known}, or a folder of tables")
