"""Data sets by name, from their place under the data root; those that are not there say what to put where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anyview.data.roots import data_root
from anyview.data.splits import Split
from anyview.errors import UserError, unknown
from anyview_timeseries.chirps import make_chirps
from anyview_timeseries.datasets import of
from anyview_timeseries.readers import Raw, load_npz, read_npz
from anyview_timeseries.repair import Preparation
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.windows import hold_out, prepare, scale

HEART_BAND = (0.25, 4.0)
"""15 to 240 beats a minute, in Hz."""
MOVING = 5.0
"""Speed from which on a time bin belongs to a reach."""


def chirps(**options: Any) -> SeriesSource:
    """480 windows of chirps and pulses, 2 channels, 2 s at 64 Hz, 12 subjects, 4 frequency bands; generated, needs no file."""
    return _prepared(make_chirps(), "chirps", options)


def ieee_spc12(**options: Any) -> SeriesSource:
    """IEEE SPC12: 1,768 windows of 8 s of wrist PPG at 25 Hz, 12 subjects, heart rates in bpm; from timeseries/ieee_spc12.

    target=0 to 4 is the published protocol: its windows are the test part and unseen in pre-training, the probe learns from the other four
    of subjects 0 to 4.
    """
    path = place("ieee_spc12", "ieee_spc12.npz (X (N, 1, 200), y_bpm_class, which is bpm - 30, and subject, both (N,))")
    arrays = needed(path, ("X", "y_bpm_class", "subject"))
    raw = Raw(list(arrays["X"]), arrays["y_bpm_class"].astype(np.int64) + 30, {"subject": arrays["subject"]}, rate=25.0)
    return _targeted(raw, "ieee_spc12", options, range(5), HEART_BAND)


def uci_har_subset(**options: Any) -> SeriesSource:
    """UCI HAR, a subset: 3,350 windows of 2.56 s at 50 Hz, 9 channels, 6 activities, given split; from timeseries/uci_har_subset."""
    path = place("uci_har_subset", "uci_har_subset.npz (X_train (N, 9, 128), y_train, X_test, y_test, class_names)")
    raw = replace(read_npz(path), rate=50.0)
    names = needed(path, ("class_names",))["class_names"]
    return _prepared(replace(raw, labels=names[np.asarray(raw.labels) - 1]), "uci_har_subset", options)


def watch_exercises(**options: Any) -> SeriesSource:
    """Shoulder exercises: 140 series at 50 Hz of 10 subjects, 6 channels, 7 exercises, in windows of 5 s; from timeseries/watch_exercises.

    length and step are 250 and 125 unless they are given.
    """
    path = place("watch_exercises", "watch_exercises.npz (X (T, 6), lengths, y, subject, side, class_names, channels)")
    raw, names = read_npz(path), needed(path, ("class_names",))["class_names"]
    raw = replace(raw, labels=names[np.asarray(raw.labels)], rate=50.0)
    return _prepared(raw, "watch_exercises", {"length": 250, **({} if "length" in options else {"step": 125}), **options})


def monkey_reach_chewie1(*, moving: bool = True, **options: Any) -> SeriesSource:
    """Firing rates of a monkey's reaches: bins of 100 ms, 163 neurons, 8 directions, 159 trials; from timeseries/monkey_reach_chewie1.

    A window is one bin, (163, 1). The first 80 % of the trials train, the rest test; neurons whose training deviation is at most .001 are
    left out, and rates are brought to mean 0 and deviation 1 by the training bins, unless scale says otherwise. moving: the split has only
    bins in movement (speed above 5); pre-training is shown all bins of the training trials.
    """
    path = place(
        "monkey_reach_chewie1", "chewie_day1.npz (firing_rates (T, n), velocity (T, 2), label, trial, both (T,))", "chewie_day1.npz"
    )
    arrays = needed(path, ("firing_rates", "velocity", "label", "trial"))
    rates, trial = arrays["firing_rates"], arrays["trial"]
    first = trial < np.floor(0.8 * len(np.unique(trial)))
    live = rates[first].std(0) > 1e-3
    raw = Raw(list(rates[:, live, None]), arrays["label"].astype(np.int64), {"trial": trial}, rate=10.0)
    how = of(Preparation, {"scale": "channel", **_known(options, "monkey_reach_chewie1")})
    source = prepare(raw, "monkey_reach_chewie1", replace(how, scale="none"))
    shown = np.linalg.norm(arrays["velocity"], axis=1) > MOVING if moving else np.ones(len(trial), dtype=bool)
    train, test = (torch.from_numpy(np.flatnonzero(part & shown)) for part in (first, ~first))
    told = "first 80 % of trials train, rest test" + (", bins in movement" if moving else "")
    source.published = Split(train, torch.empty(0, dtype=torch.long), test, name=told)
    source.train_rows = torch.from_numpy(np.flatnonzero(first))
    scale(source, how.scale)
    return source


def _archive(name: str, options: dict[str, Any]) -> SeriesSource:
    path = place("ucr_uea", f"{name}.npz (X_train (N, C, T), y_train, X_test, y_test)", f"{name}.npz")
    return _prepared(read_npz(path), name, options)


def arrow_head(**options: Any) -> SeriesSource:
    """ArrowHead (UCR): 36 / 175 outlines of 251 steps, 3 classes, official split; from timeseries/ucr_uea."""
    return _archive("ArrowHead", options)


def basic_motions(**options: Any) -> SeriesSource:
    """BasicMotions (UEA): 40 / 40 smartwatch series, 6 channels, 100 steps, 4 classes, official split; from timeseries/ucr_uea."""
    return _archive("BasicMotions", options)


def coffee(**options: Any) -> SeriesSource:
    """Coffee (UCR): 28 / 28 spectra of 286 steps, 2 classes, official split; from timeseries/ucr_uea."""
    return _archive("Coffee", options)


def ecg200(**options: Any) -> SeriesSource:
    """ECG200 (UCR): 100 / 100 heart beats of 96 steps, 2 classes, official split; from timeseries/ucr_uea."""
    return _archive("ECG200", options)


def face_four(**options: Any) -> SeriesSource:
    """FaceFour (UCR): 24 / 88 outlines of 350 steps, 4 classes, official split; from timeseries/ucr_uea."""
    return _archive("FaceFour", options)


def gun_point(**options: Any) -> SeriesSource:
    """GunPoint (UCR): 50 / 150 motions of 150 steps, 2 classes, official split; from timeseries/ucr_uea."""
    return _archive("GunPoint", options)


def italy_power_demand(**options: Any) -> SeriesSource:
    """ItalyPowerDemand (UCR): 67 / 1,029 load curves of 24 steps, 2 classes, official split; from timeseries/ucr_uea."""
    return _archive("ItalyPowerDemand", options)


def lightning7(**options: Any) -> SeriesSource:
    """Lightning7 (UCR): 70 / 73 sensor series of 319 steps, 7 classes, official split; from timeseries/ucr_uea."""
    return _archive("Lightning7", options)


def plane(**options: Any) -> SeriesSource:
    """Plane (UCR): 105 / 105 outlines of 144 steps, 7 classes, official split; from timeseries/ucr_uea."""
    return _archive("Plane", options)


@dataclass(frozen=True, slots=True)
class Published:
    """A set that users bring themselves, as the frame-projection paper cuts it.

    channels, length: of its windows; rate: Hz; labels: what y holds; probe: subjects that the published probe is trained on, the target
    apart; band: frequencies (Hz) that tell of the label.
    """

    channels: int
    length: int
    rate: float
    labels: str
    probe: Sequence[int] | None = None
    band: tuple[float, float] | None = None


BROUGHT = {
    "ieee_spc22": Published(1, 200, 25.0, "heart rates in bpm", range(17, 22), HEART_BAND),
    "dalia": Published(1, 200, 25.0, "heart rates in bpm", range(5), HEART_BAND),
    "hhar": Published(6, 100, 50.0, "6 activities", range(4)),
    "usc_had": Published(6, 100, 50.0, "12 activities", range(10, 14)),
    "uci_har": Published(9, 128, 50.0, "6 activities", range(5)),
    "clemson": Published(1, 480, 15.0, "steps in a window"),
    "cpsc2018": Published(4, 1000, 100.0, "9 diagnoses"),
    "chapman": Published(4, 1000, 100.0, "4 rhythms"),
    "sleep_edf": Published(1, 3000, 100.0, "5 sleep stages"),
}


def _brought(name: str, options: dict[str, Any]) -> SeriesSource:
    """A set whose windows a user has put under the data root."""
    facts = BROUGHT[name]
    shape = f"(N, {facts.channels}, {facts.length}) at {facts.rate:g} Hz"
    path = place(name, f"{name}.npz (X {shape}; y, {facts.labels}, and subject from 0, both (N,))")
    raw = read_npz(path)
    if raw.series[0].shape[0] != facts.channels:
        raise UserError(f"{str(path)!r} has {raw.series[0].shape[0]} channels, and {name} is X {shape}; write it so")
    return _targeted(replace(raw, rate=raw.rate or facts.rate), name, options, facts.probe, facts.band)


def ieee_spc22(**options: Any) -> SeriesSource:
    """IEEE SPC22: 8 s of wrist PPG at 25 Hz, 22 subjects, bpm; put timeseries/ieee_spc22/ieee_spc22.npz under the data root."""
    return _brought("ieee_spc22", options)


def dalia(**options: Any) -> SeriesSource:
    """PPG-DaLiA: 8 s of wrist PPG at 25 Hz, 15 subjects, heart rates in bpm; put timeseries/dalia/dalia.npz under the data root."""
    return _brought("dalia", options)


def hhar(**options: Any) -> SeriesSource:
    """HHAR: 6 motion channels, 100 steps, 9 users, 6 activities; put timeseries/hhar/hhar.npz under the data root."""
    return _brought("hhar", options)


def usc_had(**options: Any) -> SeriesSource:
    """USC-HAD: 6 motion channels, 100 steps, 14 subjects, 12 activities; put timeseries/usc_had/usc_had.npz under the data root."""
    return _brought("usc_had", options)


def uci_har(**options: Any) -> SeriesSource:
    """UCI HAR with its subjects: 9 channels, 128 steps at 50 Hz, 6 activities; put timeseries/uci_har/uci_har.npz under the data root."""
    return _brought("uci_har", options)


def clemson(**options: Any) -> SeriesSource:
    """Clemson pedometer: 32 s of motion at 15 Hz, 30 subjects, step counts; put timeseries/clemson/clemson.npz under the data root."""
    return _brought("clemson", options)


def cpsc2018(**options: Any) -> SeriesSource:
    """CPSC2018: 4-lead ECG, 10 s at 100 Hz, 9 diagnoses; put timeseries/cpsc2018/cpsc2018.npz under the data root."""
    return _brought("cpsc2018", options)


def chapman(**options: Any) -> SeriesSource:
    """Chapman: 4-lead ECG, 10 s at 100 Hz, 4 rhythms; put timeseries/chapman/chapman.npz under the data root."""
    return _brought("chapman", options)


def sleep_edf(**options: Any) -> SeriesSource:
    """Sleep-EDF: 30 s of EEG at 100 Hz, 5 sleep stages; put timeseries/sleep_edf/sleep_edf.npz under the data root."""
    return _brought("sleep_edf", options)


def _known(options: dict[str, Any], name: str) -> dict[str, Any]:
    known = list(Preparation.__dataclass_fields__)
    for word in options:
        if word not in known:
            raise unknown(f"option of the data set {name!r}", word, known, look="anyview list datasets")
    return options


def _prepared(raw: Raw, name: str, options: dict[str, Any]) -> SeriesSource:
    return prepare(replace(raw, layout=""), name, of(Preparation, {"constant": "keep", **_known(options, name)}))


def _targeted(raw: Raw, name: str, options: dict[str, Any], probe: Sequence[int] | None, band: tuple[float, float] | None) -> SeriesSource:
    """A set with the leave-one-subject-out protocol: a target among `probe` is tested by a probe that learns from the others of them."""
    target = options.get("target")
    source = _prepared(raw, name, {**options, "target": None, "scale": "none"})
    source.band = band
    if target is not None:
        hold_out(source, target, list(probe) if probe is not None and str(target) in map(str, probe) else None)
    scale(source, options.get("scale") or "none")
    return source


def place(name: str, content: str, file: str | None = None) -> Path:
    """A set's file, in timeseries/NAME under the data root; raises UserError that says what to put there."""
    folder = data_root() / "timeseries" / name
    path = folder / (file or f"{name}.npz")
    if not path.is_file():
        raise UserError(f"the data set {name!r} is not under the data root {str(data_root())!r}; put {content} into {str(folder)!r}")
    return path


def needed(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a .npz file; raises UserError where one is missing."""
    arrays = load_npz(path)
    for key in keys:
        if key not in arrays:
            raise UserError(f"{str(path)!r} has the arrays {sorted(arrays)} and none called {key!r}; get the file again")
    return arrays
