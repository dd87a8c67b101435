"""What is done to series before windows are cut: channels, rate, missing values, channels that never vary; each step is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np

from anyview.errors import UserError
from anyview_timeseries.readers import Raw

Missing = Literal["refuse", "interpolate", "mask"]
Lengths = Literal["refuse", "cut", "pad"]
Constant = Literal["refuse", "drop", "keep"]
Scale = Literal["none", "window", "channel"]
JUMP = 1.5
"""A step of time this much longer than the usual one is a gap."""
MANY = 0.05
"""With a larger share of such steps a series has two rates."""
SAME_RATE = 0.01


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to series before they are windows.

    length, step: of the windows that every series is cut into, in time steps; step is length where it is None, and without a length a
    series is a window. rate: samples a second (Hz) of the data where its file does not say; resample: to that many. channels: names or
    numbers, with commas. missing: values that are not there are refused, interpolated along time, or left NaN for methods that mask.
    lengths: series of unequal length, or shorter than `length`, are refused, cut to the shortest (left out where shorter than `length`),
    or padded with NaN at their end. constant: channels that hold one value throughout are refused, left out or kept. scale: "window": each
    channel of each window to mean 0 and deviation 1; "channel": by mean and deviation of the channel over the training windows. target:
    the subject whose windows are the test part and unseen in pre-training.
    """

    length: int | None = None
    step: int | None = None
    rate: float | None = None
    resample: float | None = None
    channels: str | Sequence[Any] | None = None
    missing: Missing = "refuse"
    lengths: Lengths = "refuse"
    constant: Constant = "refuse"
    scale: Scale = "none"
    target: str | int | None = None


def check_preparation(how: Preparation, name: str) -> None:
    """Raise UserError for numbers and words that no preparation takes."""
    for word in ("length", "step", "rate", "resample"):
        value = getattr(how, word)
        if value is not None and (isinstance(value, bool | str) or not value > 0):
            raise UserError(f"the option {word} of {name!r} takes a number above 0, and was given {value!r}; choose another")
    for word, known in (("missing", Missing), ("lengths", Lengths), ("constant", Constant), ("scale", Scale)):
        if getattr(how, word) not in get_args(known):
            choices = ", ".join(get_args(known))
            raise UserError(f"the option {word} of {name!r} takes one of {choices}, and was given {getattr(how, word)!r}; choose one")
    if how.step is not None and how.length is None:
        raise UserError(f"the option step of {name!r} says how far windows are apart, and no length was given; add --reading.length STEPS")


def chosen_channels(raw: Raw, asked: str | Sequence[Any] | None, name: str) -> Raw:
    """The series with the channels that were asked for, by name or number from 0."""
    count, names = raw.series[0].shape[0], [str(channel) for channel in raw.channels]
    if asked is None:
        return raw
    words = [word.strip() for word in asked.split(",")] if isinstance(asked, str) else [str(word) for word in np.atleast_1d(asked)]
    index = []
    for word in words:
        if word not in names and not (word.isdigit() and int(word) < count):
            known = ", ".join(names) if names else f"numbers from 0 to {count - 1}"
            raise UserError(f"the channel {word!r} of {name!r} was asked for, and it has {known}; choose among these")
        index.append(names.index(word) if word in names else int(word))
    return replace(raw, series=[each[index] for each in raw.series], channels=[names[i] for i in index] if names else ())


def timed(raw: Raw, how: Preparation, name: str, notes: dict[str, Any]) -> Raw:
    """The series at one known rate, if anything says it; times that jump or differ are laid on a grid where a rate was asked for."""
    if raw.times is None:
        return replace(raw, rate=how.rate or raw.rate)
    steps = [float(np.median(np.diff(times))) if len(times) > 1 else np.nan for times in raw.times]
    usual = float(np.nanmedian(steps)) if np.isfinite(steps).any() else np.nan
    if not np.isfinite(usual):
        return replace(raw, rate=how.rate)
    if how.resample is None:
        _check_even(raw, steps, usual, name)
        return replace(raw, rate=how.rate or _rounded(1 / usual))
    laid = [_laid(each, times, how.resample) for each, times in zip(raw.series, raw.times, strict=True)]
    labels = raw.step_labels and [_nearest(*pair, how.resample) for pair in zip(raw.step_labels, raw.times, strict=True)]
    rates = sorted({f"{_rounded(1 / step):g}" for step in steps if np.isfinite(step)}, key=float)
    notes["resampled"] = f"from {', '.join(rates[:4])} Hz to {how.resample:g} Hz by the file's times"
    return replace(raw, series=laid, rate=how.resample, times=None, step_labels=labels)


def _check_even(raw: Raw, steps: Sequence[float], usual: float, name: str) -> None:
    for number, step in enumerate(steps):
        if np.isfinite(step) and abs(step - usual) > SAME_RATE * usual:
            found = f"most have {_rounded(1 / usual):g} Hz and series {number} has {_rounded(1 / step):g} Hz"
            raise UserError(f"the series of {name!r} have mixed sampling rates: {found}; bring all to one with --reading.resample HZ")
    for number, times in enumerate(raw.times or ()):
        jumps = np.flatnonzero(np.diff(times) > JUMP * usual)
        if len(jumps) > MANY * len(times):
            later = _rounded(1 / float(np.diff(times)[jumps[0]]))
            found = f"series {number} has {_rounded(1 / usual):g} Hz and, from its row {jumps[0] + 1}, {later:g} Hz"
            raise UserError(f"{name!r} has mixed sampling rates: {found}; bring it to one with --reading.resample HZ")
        if len(jumps):
            at = int(jumps[0])
            found = f"{times[at + 1] - times[at]:.3g} s pass after its row {at + 1}, where {usual:.3g} s are usual"
            todo = "lay it on a grid with --reading.resample HZ --reading.missing interpolate"
            raise UserError(f"the times of series {number} of {name!r} have {len(jumps)} gaps: {found}; {todo}")


def _rounded(rate: float) -> float:
    """A rate without the noise of its clock: whole where it is within a thousandth of that."""
    return float(round(rate)) if rate >= 1 and abs(rate - round(rate)) < 1e-3 * rate else float(f"{rate:.6g}")


def _laid(series: np.ndarray, times: np.ndarray, rate: float) -> np.ndarray:
    """A series (C, T) on an even grid, by lines between its values; NaN where none is within JUMP steps of the coarser of the two rates."""
    grid = np.arange(0, times[-1] + 1e-9, 1 / rate)
    reach = JUMP * max(1 / rate, float(np.median(np.diff(times))))
    after = np.clip(np.searchsorted(times, grid), 1, len(times) - 1)
    gap = (times[after] - times[after - 1] > reach) & (np.abs(times[after] - grid) > 1e-9) & (np.abs(times[after - 1] - grid) > 1e-9)
    found = np.full((len(series), len(grid)), np.nan, dtype=np.float32)
    for row, channel in zip(found, series, strict=True):
        there = np.isfinite(channel)
        if there.any():
            row[:] = np.interp(grid, times[there], channel[there])
        row[gap] = np.nan
    return found


def _nearest(labels: np.ndarray, times: np.ndarray, rate: float) -> np.ndarray:
    grid = np.arange(0, times[-1] + 1e-9, 1 / rate)
    return labels[np.clip(np.searchsorted(times, grid - 0.5 / rate), 0, len(times) - 1)]


def resampled(raw: Raw, how: Preparation, name: str, notes: dict[str, Any]) -> Raw:
    """The series at the rate that was asked for, by a filter that keeps what both rates can show."""
    if how.resample is None or raw.rate == how.resample:
        return raw
    if raw.rate is None:
        raise UserError(f"{name!r} was to be resampled to {how.resample:g} Hz, and nothing says its own rate; add --reading.rate HZ")
    if any(np.isnan(each).any() for each in raw.series):
        raise UserError(f"{name!r} was to be resampled, and has missing values; fill them with --reading.missing interpolate")
    from scipy.signal import resample_poly

    ratio = Fraction(how.resample / raw.rate).limit_denominator(1000)
    series = [resample_poly(each, ratio.numerator, ratio.denominator, axis=1, padtype="line").astype(np.float32) for each in raw.series]
    labels = raw.step_labels
    if labels is not None:
        labels = [own[(np.arange(each.shape[1]) * len(own)) // each.shape[1]] for own, each in zip(labels, series, strict=True)]
    notes["resampled"] = f"from {raw.rate:g} Hz to {how.resample:g} Hz"
    return replace(raw, series=series, rate=how.resample, step_labels=labels)


def trimmed(series: np.ndarray) -> np.ndarray:
    """A series without the steps at its end that no channel has: archives pad series to one length so."""
    there = np.flatnonzero(np.isfinite(series).any(0))
    return series[:, : there[-1] + 1] if len(there) else series


def without_gaps(raw: Raw, missing: Missing, name: str, notes: dict[str, Any]) -> Raw:
    """The series, their missing values refused, interpolated or left."""
    for number, each in enumerate(raw.series):
        if np.isinf(each).any():
            raise UserError(f"series {number} of {name!r} holds infinite numbers; mend or drop it")
    holes = [np.isnan(each) for each in raw.series]
    count, total = sum(int(hole.sum()) for hole in holes), sum(hole.size for hole in holes)
    if not count:
        return raw
    touched = [number for number, hole in enumerate(holes) if hole.any()]
    share = f"{count} of {total} values ({100 * count / total:.2g} %), in {len(touched)} of {len(holes)} series"
    if missing == "refuse":
        first = touched[0]
        channel, start = (int(value) for value in np.argwhere(holes[first])[0])
        place = f"first in series {first}, channel {raw.channels[channel] if raw.channels else channel}, step {start}"
        todo = "fill them with --reading.missing interpolate, or keep them with --reading.missing mask for a method that masks (ts2vec)"
        raise UserError(f"{name!r} has missing values: {share}, {place}; {todo}")
    notes["missing values"] = f"{share}: {'interpolated along time' if missing == 'interpolate' else 'kept as NaN'}"
    if missing == "mask":
        return raw
    return replace(raw, series=[interpolated(each, f"series {number} of {name!r}") for number, each in enumerate(raw.series)])


def interpolated(series: np.ndarray, where: str) -> np.ndarray:
    """A series (C, T) with lines in place of its gaps, and the nearest value at its ends; raises UserError for a channel without values.

    >>> interpolated(np.array([[np.nan, 1.0, np.nan, 3.0, np.nan]]), "walk").tolist()
    [[1.0, 1.0, 2.0, 3.0, 3.0]]
    """
    filled = series.copy()
    steps = np.arange(series.shape[1])
    for number, channel in enumerate(filled):
        there = np.isfinite(channel)
        if not there.any():
            raise UserError(f"channel {number} of {where} has no value at all to interpolate from; drop it with --reading.channels")
        if not there.all():
            channel[~there] = np.interp(steps[~there], steps[there], channel[there])
    return filled


def without_constant(raw: Raw, constant: Constant, name: str, notes: dict[str, Any]) -> Raw:
    """The series, their channels that hold one value throughout refused, dropped or kept."""
    least = np.min([np.nanmin(np.where(np.isnan(each), np.inf, each), 1) for each in raw.series], 0)
    most = np.max([np.nanmax(np.where(np.isnan(each), -np.inf, each), 1) for each in raw.series], 0)
    still = np.flatnonzero(least >= most)
    if not len(still):
        return raw
    names = ", ".join(str(raw.channels[i]) if raw.channels else str(i) for i in still[:8]) + (", ..." if len(still) > 8 else "")
    if len(still) == len(least):
        raise UserError(f"every channel of {name!r} holds one value throughout, so there is nothing to learn from; check the file")
    if constant == "refuse":
        todo = "leave them out with --reading.constant drop, or keep them with --reading.constant keep"
        raise UserError(f"{len(still)} of {len(least)} channels of {name!r} hold one value throughout ({names}); {todo}")
    notes["constant channels"] = f"{names}: {'left out' if constant == 'drop' else 'kept'}"
    return chosen_channels(raw, list(np.flatnonzero(least < most)), name) if constant == "drop" else raw
