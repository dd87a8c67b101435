"""From series as they were recorded to windows of one shape, as a source that tells what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from anyview.data.splits import Split
from anyview.errors import UserError
from anyview_timeseries.readers import Raw
from anyview_timeseries.repair import (
    Lengths,
    Preparation,
    Scale,
    check_preparation,
    chosen_channels,
    resampled,
    timed,
    trimmed,
    without_constant,
    without_gaps,
)
from anyview_timeseries.series import SeriesSource

BLOCKS = 20
"""Stretches that one long recording is divided into, which splits keep apart."""


@dataclass(slots=True)
class _Made:
    """Windows on their way: values (N, C, T), the series (N,) and start (N,) of each."""

    values: np.ndarray
    series: np.ndarray
    starts: np.ndarray
    notes: dict[str, Any]


def prepare(raw: Raw, name: str, how: Preparation) -> SeriesSource:
    """Windows of one shape from what a reader found; raises UserError for what the preparation refuses.

    >>> walk = Raw(list(np.random.default_rng(0).normal(size=(4, 2, 100))), ["a", "b", "a", "b"], rate=20.0)
    >>> prepare(walk, "walk", Preparation(length=40, step=20)).describe()
    {'name': 'walk', 'samples': 16, 'channels': 2, 'length': 40, 'rate': '20 Hz', 'classes': 2, 'series': 4, ...}
    """
    check_preparation(how, name)
    raw = chosen_channels(replace(raw, series=[np.asarray(each, dtype=np.float32) for each in raw.series]), how.channels, name)
    notes: dict[str, Any] = {"read as": raw.layout} if raw.layout else {}
    raw = timed(raw, how, name, notes)
    raw = without_gaps(replace(raw, series=[trimmed(each) for each in raw.series]), how.missing, name, notes)
    raw = resampled(raw, how, name, notes)
    raw = without_constant(raw, how.constant, name, notes)
    made = cut(raw, how, name) if how.length is not None else whole(raw, how.lengths, name)
    return _source(raw, made, name, how, {**notes, **made.notes})


def cut(raw: Raw, how: Preparation, name: str) -> _Made:
    """Windows of `length` steps, `step` apart, of every series."""
    assert how.length is not None
    length, step = int(how.length), int(how.step or how.length)
    notes: dict[str, Any] = {"windows": f"{length} steps, {step} apart"}
    sizes = np.array([each.shape[1] for each in raw.series])
    short = np.flatnonzero(sizes < length)
    series = list(raw.series)
    if len(short) and how.lengths == "pad":
        notes["short series"] = f"{len(short)} of {len(series)} padded with NaN to {length} steps"
        series = [_padded(each, length) for each in series]
    elif len(short) == len(series) or (len(short) and how.lengths == "refuse"):
        found = f"{len(short)} of {len(series)} series of {name!r} are shorter, the longest of them {int(sizes[short].max())}"
        todo = f"choose a length of {int(sizes.min())} or less, or --reading.lengths {'pad' if len(short) == len(series) else 'cut or pad'}"
        raise UserError(f"windows of {length} steps were asked for, and {found}; {todo}")
    elif len(short):
        notes["short series"] = f"{len(short)} of {len(series)} left out, shorter than {length} steps"
    values, numbers, starts = [], [], []
    for number, each in enumerate(series):
        begins = np.arange(0, each.shape[1] - length + 1, step)
        values += [each[:, begin : begin + length] for begin in begins]
        numbers += [number] * len(begins)
        starts += begins.tolist()
    return _Made(np.stack(values), np.array(numbers), np.array(starts), notes)


def whole(raw: Raw, lengths: Lengths, name: str) -> _Made:
    """Every series as one window."""
    sizes = np.array([each.shape[1] for each in raw.series])
    notes: dict[str, Any] = {}
    series = list(raw.series)
    if sizes.min() != sizes.max():
        span = f"{int(sizes.min())} to {int(sizes.max())} steps"
        if lengths == "refuse":
            todo = "cut windows with --reading.length STEPS, or make them equal with --reading.lengths cut or pad"
            raise UserError(f"the series of {name!r} have unequal lengths, {span}; {todo}")
        size = int(sizes.min() if lengths == "cut" else sizes.max())
        series = [each[:, :size] if lengths == "cut" else _padded(each, size) for each in series]
        done = f"cut to {size}" if lengths == "cut" else f"padded with NaN to {size}"
        notes["unequal lengths"] = f"{span}: {done}"
    return _Made(np.stack(series), np.arange(len(series)), np.zeros(len(series), dtype=np.int64), notes)


def _padded(series: np.ndarray, length: int) -> np.ndarray:
    return np.pad(series, ((0, 0), (0, max(0, length - series.shape[1]))), constant_values=np.nan)


def _source(raw: Raw, made: _Made, name: str, how: Preparation, notes: dict[str, Any]) -> SeriesSource:
    groups: dict[str, Any] = {key: np.asarray(values)[made.series] for key, values in raw.groups.items()}
    if len(made.values) > len(raw.series):
        groups["series"] = made.series
        groups["block"] = blocks(made.series, made.starts)
    source = SeriesSource(
        torch.from_numpy(made.values),
        labels_of(raw, made.series, made.starts, made.values.shape[2]),
        groups=groups,
        ids=window_ids(raw.ids, made.series, made.starts, len(raw.series)),
        published=_published(raw, made),
        name=name,
        rate=raw.rate,
        notes=notes,
    )
    if how.target is not None:
        hold_out(source, how.target)
    scale(source, how.scale)
    return source


def blocks(series: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(N,) numbers of stretches of consecutive windows, BLOCKS in each series or as many as it has windows."""
    found = np.empty(len(series), dtype=np.int64)
    for number in np.unique(series):
        own = np.flatnonzero(series == number)
        found[own[np.argsort(starts[own], kind="stable")]] = number * BLOCKS + np.arange(len(own)) * min(BLOCKS, len(own)) // len(own)
    return found


def labels_of(raw: Raw, series: np.ndarray, starts: np.ndarray, length: int) -> Any:
    """A label for each window: its series', or the most frequent of its time steps (the mean, where labels are no whole numbers)."""
    if raw.step_labels is None:
        return None if raw.labels is None else np.asarray(raw.labels)[series]
    found = [_label(raw.step_labels[number][start : start + length]) for number, start in zip(series, starts, strict=True)]
    return np.array(found)


def _label(steps: np.ndarray) -> Any:
    if steps.dtype.kind == "f":
        return float(np.nanmean(steps)) if np.isfinite(steps).any() else np.nan
    names, counts = np.unique(steps, return_counts=True)
    return names[counts.argmax()]


def window_ids(ids: Sequence[Any] | None, series: np.ndarray, starts: np.ndarray, count: int) -> list[Any] | None:
    """What a window is called: as its series, or where it begins in it."""
    if len(series) == count:
        return None if ids is None else list(ids)
    names = list(ids) if ids is not None else list(range(count))
    return [f"{names[number]}@{start}" for number, start in zip(series, starts, strict=True)]


def _published(raw: Raw, made: _Made) -> Split | None:
    if raw.parts is None:
        return None
    parts = [np.flatnonzero(np.isin(made.series, list(raw.parts.get(part, ())))) for part in ("train", "validation", "test")]
    train, validation, test = (torch.from_numpy(part) for part in parts)
    return Split(train, validation, test, name="official")


def hold_out(source: SeriesSource, target: str | int, probe: Sequence[str | int] | None = None) -> None:
    """Make one subject's windows the test part, unseen in pre-training; the probe learns from all others, or from those of `probe`."""
    if "subject" not in source.members:
        raise UserError(f"a target subject was asked for, and {source.name!r} has no subjects; name their column with --reading.subject")
    names = source.group_names["subject"]
    for each in (target, *(probe or ())):
        if str(each) not in names:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise UserError(f"the target subject {each!r} was asked for, and {source.name!r} has {shown}; choose one of these")
    subject = source.members["subject"]
    test = subject == names.index(str(target))
    others = torch.tensor([names.index(str(each)) for each in (probe if probe is not None else names) if str(each) != str(target)])
    train = torch.isin(subject, others)
    told = f"subject {target} is the test part, the probe learns from " + (
        f"subjects {', '.join(str(each) for each in probe if str(each) != str(target))}" if probe else "all others"
    )
    source.published = Split.from_masks(train, torch.zeros_like(train), test, name=told)
    source.train_rows = (~test).nonzero().flatten()


def scale(source: SeriesSource, how: Scale) -> None:
    """Bring windows to mean 0 and deviation 1, each by itself or by the channel's training windows; channels that never vary become 0."""
    if how == "none":
        return
    x = source.windows
    seen, axes = (x, (2,)) if how == "window" else (x[source.train_rows], (0, 2))
    mean = seen.nanmean(axes, keepdim=True)
    deviation = (seen - mean).square().nanmean(axes, keepdim=True).sqrt()
    source.windows = (x - mean) / deviation.clamp_min(1e-8)
    source.scaling = None if how == "window" else (mean.flatten(), deviation.flatten())
    source.notes["scaled"] = (
        f"mean 0, deviation 1 for each {'channel of a window' if how == 'window' else 'channel, by the training windows'}"
    )
