"""Long recordings: windows are read from disk when they are needed, so that memory does not grow with the recording."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from anyview.data.source import Source, fingerprint
from anyview.errors import UserError
from anyview_timeseries.conversion import Flat, flat
from anyview_timeseries.readers import Raw
from anyview_timeseries.repair import Preparation, check_preparation, chosen_channels, interpolated
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.tables import SUFFIXES, Columns
from anyview_timeseries.windows import blocks, hold_out, window_ids

LARGE = 64 * 2**20
"""Bytes from which on a .csv file is not read as a whole."""
LONG = 16
"""A .npy table whose one side is so many times the other is a recording, not rows of windows."""
SCAN_STEPS = 2**18
MOST_FEATURES = 2**27
POOLED = 16
"""Steps that windows are averaged to for raw features, where those of all windows would not fit into memory."""


def streams(path: Path, columns: Columns, how: Preparation, asked: bool | None) -> bool:
    """Whether windows of a file are read from disk; raises UserError where that was asked for and cannot be."""
    suffix = path.suffix.lower()
    shape = _header(path).shape if suffix == ".npy" else ()
    able = suffix in SUFFIXES or len(shape) == 2
    if asked and (not able or columns.layout in ("windows", "long")):
        raise UserError(f"{str(path)!r} was to be read piece by piece, which takes a recording in a .npy (T, C), .csv or .parquet file")
    if suffix == ".npy" and not asked:
        long = able and asked is None and max(shape) > LONG * min(shape)
        if long and how.length is None:
            todo = "cut windows with --reading.length STEPS, or say that its rows are windows with --reading.stream false"
            raise UserError(f"{str(path)!r} is a recording of {max(shape)} steps and {min(shape)} channels; {todo}")
        return long
    large = suffix == ".parquet" or (suffix == ".csv" and path.stat().st_size > LARGE)
    windowed = how.length is not None and columns.layout in ("auto", "recording")
    return able and (bool(asked) or (asked is None and windowed and large))


def _header(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{str(path)!r} cannot be read as a .npy file of numbers ({error}); write it with numpy.save") from error


def open_recording(path: Path, name: str, columns: Columns, how: Preparation) -> RecordingSource:
    """A recording in a .npy file, (T, C) or (C, T), the longer axis being time, or in a .csv or .parquet table."""
    if path.suffix.lower() in SUFFIXES:
        return RecordingSource(flat(path, columns), name, how)
    array = _header(path)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise UserError(f"{str(path)!r} is an array of {array.shape}, {array.dtype}; give numbers as (time steps, channels)")
    array = array if array.shape[0] >= array.shape[1] else array.T
    return RecordingSource(Flat(array, [str(number) for number in range(array.shape[1])]), name, how)


class RecordingSource(SeriesSource):
    """Windows of recordings on disk, read when they are asked for.

    recording: the numbers; how: length (needed) and step in steps of the rate that windows have, rate, resample (each window by itself),
    channels, missing (refused, interpolated within the window or left), constant, scale. One pass over the recording finds its gaps, and
    mean and deviation of its channels. Labels are those that most steps of a window have. Windows begin every `step` steps of each series.
    A window's id is where it begins in seconds, where the rate is known, else in steps. Raises UserError as `prepare` does.

    >>> recording = Flat(np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32), ["x", "y"], rate=100.0)
    >>> source = RecordingSource(recording, "walk", Preparation(length=200, step=100))
    >>> len(source), source.shape, source.ids[:3], next(iter(source.clean())).data.shape
    (9, {'channels': 2, 'length': 200}, ['0', '1', '2'], torch.Size([9, 2, 200]))
    """

    corruptions = ()

    def __init__(self, recording: Flat, name: str, how: Preparation) -> None:
        check_preparation(how, name)
        if how.length is None:
            raise UserError(f"{name!r} is a recording of {len(recording.values)} steps; cut windows with --reading.length STEPS")
        self.name, self.published, self.band, self.labelled, self.how = name, None, None, False, how
        self.recording, self._answered = recording, {}
        own_rate = how.rate or recording.rate
        self.rate = how.resample or own_rate
        self.ratio = Fraction(1)
        if how.resample:
            if own_rate is None:
                asked = f"{name!r} was to be resampled to {how.resample:g} Hz"
                raise UserError(f"{asked}, and nothing says its own rate; add --reading.rate HZ")
            self.ratio = Fraction(how.resample / own_rate).limit_denominator(1000)
        self.notes = {"read as": f"{len(recording.values)} steps on disk", "windows": f"{how.length} steps, {how.step or how.length} apart"}
        if self.ratio != 1:
            self.notes["resampled"] = f"from {own_rate:g} Hz to {how.resample:g} Hz, each window by itself"
        self.length, self.span = int(how.length), -(-int(how.length) * self.ratio.denominator // self.ratio.numerator)
        self.starts, self.series = self._places()
        self.columns = self._columns(_scan(recording.values, name))
        self._describe_samples(len(self.columns), self.length, len(self.starts), self._labels(), self._members(), self._ids(own_rate))
        self.train_rows = torch.arange(len(self))
        if how.target is not None:
            hold_out(self, how.target)

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each window begins, in the recording's own steps, and in which series."""
        step = (self.how.step or self.length) / self.ratio
        ends = [*self.recording.begins[1:], len(self.recording.values)]
        sizes = np.subtract(ends, self.recording.begins)
        if sizes.max() < self.span:
            found = f"the longest series of {self.name!r} has {int(sizes.max() * self.ratio)}"
            raise UserError(f"windows of {self.length} steps were asked for, and {found}; choose a smaller --reading.length")
        if short := int((sizes < self.span).sum()):
            self.notes["short series"] = f"{short} of {len(sizes)} left out, shorter than {self.length} steps"
        begins = [_begins(int(size), self.span, float(step)) for size in sizes]
        starts = np.concatenate([own + first for own, first in zip(begins, self.recording.begins, strict=True)])
        return starts.astype(np.int64), np.repeat(np.arange(len(sizes)), [len(own) for own in begins])

    def _columns(self, scan: _Scan) -> np.ndarray:
        """The channels that windows have; what was found about all is noted or refused."""
        names = list(self.recording.channels)
        chosen = np.arange(len(names))
        if self.how.channels is not None:
            numbers = Raw([np.arange(len(names), dtype=np.float32)[:, None]], channels=names)
            chosen = chosen_channels(numbers, self.how.channels, self.name).series[0][:, 0].astype(np.int64)
        self._check_values(scan, chosen)
        still = [number for number in chosen if scan.least[number] >= scan.most[number]]
        if still:
            told = ", ".join(names[number] for number in still)
            if len(still) == len(chosen):
                raise UserError(
                    f"every channel of {self.name!r} holds one value throughout, so there is nothing to learn from; check the file"
                )
            if self.how.constant == "refuse":
                todo = "leave them out with --reading.constant drop, or keep them with --reading.constant keep"
                raise UserError(f"{len(still)} of {len(chosen)} channels of {self.name!r} hold one value throughout ({told}); {todo}")
            self.notes["constant channels"] = f"{told}: {'left out' if self.how.constant == 'drop' else 'kept'}"
            if self.how.constant == "drop":
                chosen = np.setdiff1d(chosen, still)
        self.mean, self.deviation = (torch.from_numpy(values[chosen]).float()[:, None] for values in (scan.mean, scan.deviation))
        return chosen

    def _check_values(self, scan: _Scan, chosen: np.ndarray) -> None:
        if scan.infinite[chosen].any():
            raise UserError(f"{int(scan.infinite[chosen].sum())} values of {self.name!r} are infinite; mend them")
        self.gaps = int(scan.missing[chosen].sum())
        if not self.gaps:
            return
        share = f"{self.gaps} of {scan.steps * len(chosen)} values ({100 * self.gaps / (scan.steps * len(chosen)):.2g} %)"
        if self.how.missing == "refuse":
            todo = "fill them with --reading.missing interpolate, or keep them with --reading.missing mask for a method that masks (ts2vec)"
            raise UserError(f"{self.name!r} has missing values: {share}; {todo}")
        if self.how.missing == "mask" and self.ratio != 1:
            raise UserError(f"{self.name!r} was to be resampled, and has missing values; fill them with --reading.missing interpolate")
        self.notes["missing values"] = share + (": interpolated in each window" if self.how.missing == "interpolate" else ": kept as NaN")

    def _labels(self) -> Any:
        if self.recording.labels is None:
            return None
        names = self.recording.label_names
        found = np.empty(len(self.starts), dtype=np.int64)
        for row, start in enumerate(self.starts):
            counts = np.bincount(self.recording.labels[start : start + self.span] + 1, minlength=len(names) + 1)
            found[row] = counts.argmax() - 1
        if all(isinstance(name, int) and name >= 0 for name in names):
            return np.where(found >= 0, np.array(names)[found], -1)
        return np.where(found >= 0, np.array([str(name) for name in names])[found], "")

    def _members(self) -> dict[str, Any]:
        groups = {what: np.asarray(values)[self.series] for what, values in self.recording.members.items() if what != "id"}
        return {**groups, "series": self.series, "block": blocks(self.series, self.starts)}

    def _ids(self, rate: float | None) -> list[str]:
        """Where windows begin, in seconds or steps; with the series where there are several."""
        begins = np.array(self.recording.begins)[self.series]
        within = self.starts - begins
        told = [f"{value:g}" if value == round(value, 6) else f"{value:.6f}" for value in (within / rate if rate else within).tolist()]
        if len(self.recording.begins) == 1:
            return told
        names = self.recording.members.get("id") or list(range(len(self.recording.begins)))
        return [str(each) for each in window_ids(names, self.series, np.array(told), -1) or ()]

    @property
    def has_gaps(self) -> bool:
        """Whether values are missing (NaN), which encoders that know no mask cannot read."""
        return self.gaps > 0 and self.how.missing == "mask"

    def take(self, index: Tensor) -> Tensor:
        """The windows of some rows, (n, C, T), read from disk; index: (n,)."""
        found = np.empty((len(index), len(self.columns), self.span), dtype=np.float32)
        for row, start in zip(found, self.starts[index.numpy()], strict=True):
            row[:] = np.asarray(self.recording.values[start : start + self.span]).T[self.columns]
        if self.gaps and self.how.missing == "interpolate":
            found = np.stack([self._filled(window) for window in found])
        if self.ratio != 1:
            from scipy.signal import resample_poly

            made = resample_poly(found, self.ratio.numerator, self.ratio.denominator, axis=2, padtype="line")
            found = np.ascontiguousarray(made[..., : self.length], dtype=np.float32)
        return self._scaled(torch.from_numpy(found))

    def _filled(self, window: np.ndarray) -> np.ndarray:
        """A window without gaps; a channel that has no value in it holds its mean over the recording."""
        empty = np.isnan(window).all(1)
        if empty.any():
            window = np.where(empty[:, None], self.mean.numpy(), window)
        return interpolated(window, self.name)

    def _scaled(self, x: Tensor) -> Tensor:
        if self.how.scale == "none":
            return x
        if self.how.scale == "channel":
            return (x - self.mean) / self.deviation.clamp_min(1e-8)
        mean = x.nanmean(2, keepdim=True)
        return (x - mean) / (x - mean).square().nanmean(2, keepdim=True).sqrt().clamp_min(1e-8)

    def __len__(self) -> int:
        return len(self.starts)

    def features(self) -> np.ndarray:
        """(N, C T) the values themselves, averaged to 16 steps where those of all windows would be more than half a gigabyte."""
        if len(self) * len(self.columns) * self.length <= MOST_FEATURES:
            return super().features()
        steps = min(POOLED, self.length)
        return torch.cat([adaptive_avg_pool1d(view.data.nan_to_num(0.0), steps).flatten(1) for view in self.clean()]).numpy()

    def corrupted(self, name: str, severity: int, seed: int) -> Source:
        raise UserError(f"the recording {self.name!r} stays on disk and has no shifts; read it whole with --reading.stream false")

    def fingerprint(self) -> str:
        values = self.recording.values
        parts = (np.asarray(values[start : start + SCAN_STEPS]) for start in range(0, len(values), SCAN_STEPS))
        told = "".join(fingerprint(part) for part in parts)
        return fingerprint(np.frombuffer(told.encode(), np.uint8), self.starts, self.columns, self.labels, *self.members.values())


def _begins(size: int, span: int, step: float) -> np.ndarray:
    """Steps at which windows of `span` begin in a series of `size`, `step` apart."""
    count = int((size - span) / step) + 1 if size >= span else 0
    return np.floor(np.arange(count) * step + 1e-9)


class _Scan:
    """One pass over a recording (T, C): what each channel holds, all (C,) float64."""

    def __init__(self, channels: int) -> None:
        self.steps = 0
        self.missing, self.infinite = np.zeros(channels), np.zeros(channels)
        self.least, self.most = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.sum, self.squares = np.zeros(channels), np.zeros(channels)

    def add(self, part: np.ndarray) -> None:
        """Count in some steps (n, C)."""
        there = np.isfinite(part)
        self.steps += len(part)
        self.missing += np.isnan(part).sum(0)
        self.infinite += np.isinf(part).sum(0)
        self.least = np.minimum(self.least, np.where(there, part, np.inf).min(0))
        self.most = np.maximum(self.most, np.where(there, part, -np.inf).max(0))
        known = np.where(there, part, 0).astype(np.float64)
        self.sum += known.sum(0)
        self.squares += np.square(known).sum(0)

    @property
    def mean(self) -> np.ndarray:
        """Of the values that are there."""
        return self.sum / np.maximum(self.steps - self.missing, 1)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of the values that are there."""
        return np.sqrt(np.maximum(self.squares / np.maximum(self.steps - self.missing, 1) - self.mean**2, 0))


def _scan(values: np.ndarray, name: str) -> _Scan:
    found = _Scan(values.shape[1])
    for start in range(0, len(values), SCAN_STEPS):
        found.add(np.asarray(values[start : start + SCAN_STEPS]))
    if (found.missing == found.steps).any():
        empty = int(np.flatnonzero(found.missing == found.steps)[0])
        raise UserError(f"channel {empty} of {name!r} has no value at all; drop it from the file")
    return found
