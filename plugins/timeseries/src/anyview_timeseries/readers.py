"""Files of time series in the archives' formats: .ts, .tsv, .arff and .npz, with the train and test files of one set found by name."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anyview.errors import UserError

MISSING = ("?", "nan", "na", "", "null", "none")
"""How files write a value that is not there, in small letters."""
VALUE_KEYS = ("X", "x", "data", "windows", "series", "arr_0")
LABEL_KEYS = ("y", "Y", "label", "labels", "target", "targets", "arr_1")
GROUP_KEYS = {"subject": ("subject", "subjects", "groups", "group"), "trial": ("trial", "trials")}
PARTS = {"train": ("train", "TRAIN"), "validation": ("val", "valid", "validation"), "test": ("test", "TEST")}


@dataclass(slots=True)
class Raw:
    """What a reader found.

    series: arrays (C, T), their T may differ, NaN where a value is missing. labels: one for each series, words or numbers. groups: by name
    ("subject", "trial"), one for each series. ids: what the file calls them. parts: rows of "train", "validation" and "test" where files
    say so. rate: samples a second (Hz). channels: their names. times: of every series' steps, in seconds, (T,), where the file has them.
    step_labels: words or numbers (T,) where labels belong to time steps. layout: how the file was understood, for the user.
    """

    series: list[np.ndarray]
    labels: Sequence[Any] | np.ndarray | None = None
    groups: dict[str, Any] = field(default_factory=dict)
    ids: Sequence[Any] | None = None
    parts: Mapping[str, range] | None = None
    rate: float | None = None
    channels: Sequence[str] = ()
    times: list[np.ndarray] | None = None
    step_labels: list[np.ndarray] | None = None
    layout: str = ""


def read_archive(path: Path) -> Raw:
    """A .ts, .tsv or .arff file; with the other half where its name ends in _TRAIN or _TEST and both are there."""
    read = READERS[path.suffix.lower()]
    match = re.search(r"_(TRAIN|TEST)$", path.stem, re.IGNORECASE)
    if match is None:
        return read(path)
    train, test = (_sibling(path, match, half) for half in ("TRAIN", "TEST"))
    if train is None or test is None:
        return read(path)
    first, second = read(train), read(test)
    if first.series[0].shape[0] != second.series[0].shape[0]:
        found = f"{first.series[0].shape[0]} and {second.series[0].shape[0]}"
        raise UserError(f"the files {train.name!r} and {test.name!r} have {found} channels; give files of one data set")
    return joined(first, second)


def _sibling(path: Path, match: re.Match[str], half: str) -> Path | None:
    names = [path.stem[: match.start() + 1] + word + path.suffix for word in (half, half.lower(), half.capitalize())]
    return next((place for name in names if (place := path.with_name(name)).is_file()), None)


def joined(train: Raw, test: Raw) -> Raw:
    """Two halves as one set with its official split."""
    labels = None if train.labels is None or test.labels is None else [*train.labels, *test.labels]
    parts = {"train": range(len(train.series)), "test": range(len(train.series), len(train.series) + len(test.series))}
    return Raw([*train.series, *test.series], labels, parts=parts, channels=train.channels, layout=train.layout)


def _numbers(words: Sequence[str], where: str) -> np.ndarray:
    """Numbers of words; NaN for those that say that there is none."""
    try:
        return np.array([np.nan if word.strip().lower() in MISSING else float(word) for word in words], dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{where} holds a word where a number is due ({error}); mend the file") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are neither empty nor a comment, with their numbers."""
    try:
        content = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is no text ({error.reason}); give a file as its archive has it") from error
    for number, line in enumerate(content, start=1):
        if (stripped := line.strip()) and not stripped.startswith(("#", "%")):
            yield number, stripped


def read_ts(path: Path) -> Raw:
    """A .ts file of the UEA archive: dimensions between colons, values between commas, the class last."""
    labelled, begun, series, labels = True, False, [], []
    for number, line in _lines(path):
        if not begun:
            words = line.lower().split()
            if words[0] in ("@classlabel", "@targetlabel"):
                labelled = len(words) > 1 and words[1] == "true"
            begun = words[0] == "@data"
            continue
        where = f"line {number} of {str(path)!r}"
        if "(" in line:
            raise UserError(f"{where} has a time with every value, which this reader does not take; write values alone, equally far apart")
        parts = line.split(":")
        if labelled:
            labels.append(parts.pop().strip())
        series.append(_together([_numbers(part.split(","), where) for part in parts], where))
    return _archived(path, series, labels if labelled else None)


def read_tsv(path: Path) -> Raw:
    """A .tsv file of the UCR archive: the class first, then the values of one channel."""
    series, labels = [], []
    for number, line in _lines(path):
        label, *values = re.split(r"[\t,]", line) if "\t" in line or "," in line else line.split()
        if not values:
            raise UserError(f"line {number} of {str(path)!r} has no values; mend the file")
        labels.append(label.strip())
        series.append(_numbers(values, f"line {number} of {str(path)!r}")[None])
    return _archived(path, series, labels)


def read_arff(path: Path) -> Raw:
    """An .arff file of either archive: values and class between commas; of several channels one quoted text, a channel between two \\n."""
    begun, series, labels = False, [], []
    for number, line in _lines(path):
        if not begun:
            begun = line.lower().startswith("@data")
            continue
        where = f"line {number} of {str(path)!r}"
        if line[0] in "'\"":
            body, _, label = line[1:].rpartition(line[0])
            channels = [_numbers(part.split(","), where) for part in body.split("\\n")]
        else:
            *values, label = line.split(",")
            channels = [_numbers(values, where)]
        series.append(_together(channels, where))
        labels.append(label.strip(" ,'\""))
    return _archived(path, series, labels)


def _together(channels: list[np.ndarray], where: str) -> np.ndarray:
    """Channels of one series as (C, T); those that end early are missing from there on."""
    most = max(len(channel) for channel in channels)
    if most == 0:
        raise UserError(f"{where} has no values; mend the file")
    return np.stack([np.pad(channel, (0, most - len(channel)), constant_values=np.nan) for channel in channels])


def _archived(path: Path, series: list[np.ndarray], labels: list[str] | None) -> Raw:
    if not series:
        raise UserError(f"{str(path)!r} has no series; give a file as its archive has it")
    counts = {len(each) for each in series}
    if len(counts) > 1:
        raise UserError(f"the series of {str(path)!r} have {min(counts)} to {max(counts)} channels; give all the same")
    return Raw(series, as_labels(labels), layout=f"{path.suffix} file, one line for each series")


def as_labels(words: Sequence[str] | None) -> Any:
    """Labels as whole numbers where all of them are, else as words."""
    if words is None:
        return None
    whole = all(re.fullmatch(r"-?\d+(\.0*)?", word) for word in words)
    return np.array([int(float(word)) for word in words]) if whole and not any(float(word) < 0 for word in words) else np.array(words)


def read_npz(path: Path, *, channels_last: bool = False) -> Raw:
    """A .npz file of plain arrays.

    X (N, C, T) or (N, T), or X_train and X_test (X_val) with y_train and y_test; or X (T, C), all series one after another, with
    their `lengths`. y: labels; subject and trial (or groups): one for each series; fs or rate: Hz; channels: names. channels_last: X is
    (N, T, C).
    """
    arrays = load_npz(path)
    rows = {part: value for part, words in PARTS.items() if (value := _found(arrays, VALUE_KEYS, words)) is not None}
    if "train" in rows:
        return _of_parts(arrays, rows, channels_last, path)
    key = next((key for key in VALUE_KEYS if key in arrays), None)
    if key is None:
        raise UserError(f"{str(path)!r} has the arrays {sorted(arrays)}; call the series 'X' and the labels 'y'")
    x = arrays[key]
    series = _cut(x, arrays["lengths"], path) if "lengths" in arrays else _stacked(x, channels_last, path)
    labels = next((arrays[key] for key in LABEL_KEYS if key in arrays), None)
    keys = {name: next((key for key in known if key in arrays), None) for name, known in GROUP_KEYS.items()}
    groups = {name: arrays[key] for name, key in keys.items() if key is not None}
    return _with_facts(Raw(series, labels, groups, ids=arrays["ids"].tolist() if "ids" in arrays else None), arrays)


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file; none of them may be a pickle."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{str(path)!r} cannot be read as a .npz file of plain arrays ({error}); write it with numpy.savez") from error


def _of_parts(arrays: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], channels_last: bool, path: Path) -> Raw:
    series, labels, parts, start = [], [], {}, 0
    for part, x in rows.items():
        series += _stacked(x, channels_last, path)
        parts[part] = range(start, start := start + len(x))
        labels.append(_found(arrays, LABEL_KEYS, PARTS[part]))
    subjects = _whole([_found(arrays, GROUP_KEYS["subject"], PARTS[part]) for part in rows])
    groups = {} if subjects is None else {"subject": subjects}
    return _with_facts(Raw(series, _whole(labels), groups, parts=parts), arrays)


def _whole(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """One part after another; None where one is missing."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if len(there) == len(parts) else None


def _found(arrays: Mapping[str, np.ndarray], keys: Sequence[str], words: Sequence[str]) -> np.ndarray | None:
    return next((arrays[name] for key in keys for word in words for name in (f"{key}_{word}", f"{word}_{key}") if name in arrays), None)


def _stacked(x: np.ndarray, channels_last: bool, path: Path) -> list[np.ndarray]:
    if x.ndim not in (2, 3) or x.dtype.kind not in "iuf" or x.size == 0:
        found = f"an array of {x.shape}, {x.dtype}"
        raise UserError(f"the series in {str(path)!r} are {found}; give numbers as (series, channels, time steps) or (series, time steps)")
    x = x[:, None] if x.ndim == 2 else x
    return list((x.transpose(0, 2, 1) if channels_last else x).astype(np.float32))


def _cut(x: np.ndarray, lengths: np.ndarray, path: Path) -> list[np.ndarray]:
    if x.ndim != 2 or int(lengths.sum()) != len(x):
        found = f"{x.shape} and lengths that add up to {int(lengths.sum())}"
        raise UserError(f"{str(path)!r} has the series one after another in {found}; give (time steps, channels) and lengths that fit")
    return [np.ascontiguousarray(part.T, dtype=np.float32) for part in np.split(x, np.cumsum(lengths)[:-1])]


def _with_facts(raw: Raw, arrays: Mapping[str, np.ndarray]) -> Raw:
    rate = next((float(arrays[key]) for key in ("rate", "fs", "sampling_rate") if key in arrays and arrays[key].size == 1), None)
    raw.rate, raw.layout = rate, ".npz file"
    raw.channels = [str(name) for name in arrays["channels"]] if "channels" in arrays else ()
    return raw


READERS: dict[str, Callable[[Path], Raw]] = {".ts": read_ts, ".tsv": read_tsv, ".arff": read_arff}
