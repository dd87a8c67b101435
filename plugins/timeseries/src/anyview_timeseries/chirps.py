"""An embedded set for demo and tests: sums of chirps and pulses of several subjects, which needs no file."""

from __future__ import annotations

import numpy as np

from anyview_timeseries.readers import Raw

BANDS = ((1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0))
"""Lowest and highest base frequency (Hz) of each class."""
RATE = 64.0
WORDS = ("1 to 2 Hz", "2 to 4 Hz", "4 to 8 Hz", "8 to 16 Hz")


def make_chirps(*, subjects: int = 12, windows: int = 40, length: int = 128, channels: int = 2, noise: float = 1.0, seed: int = 0) -> Raw:
    """Windows (C, T) at 64 Hz whose label is the band of their base frequency.

    A window is, in every channel, a chirp whose frequency starts in the band of the class and moves by up to a fifth, a weaker one of twice
    that frequency, three pulses at places that say nothing of the class, and white noise of deviation `noise`. A subject has a gain of its
    own (0.3 to 3), its own gain between channels and its own offset: what is to be ignored. Everything follows from the seed.

    >>> raw = make_chirps(subjects=2, windows=8)
    >>> len(raw.series), raw.series[0].shape, sorted(set(raw.labels))[0]
    (16, (2, 128), '1 to 2 Hz')
    """
    random = np.random.default_rng(seed)
    time = np.arange(length) / RATE
    series, labels, owners = [], [], []
    for subject in range(subjects):
        gain = np.exp(random.uniform(np.log(0.3), np.log(3)))
        mixing, offset = random.uniform(0.5, 1.5, (channels, 1)), random.normal(size=(channels, 1))
        for number in range(windows):
            label = number % len(BANDS)
            wave = _chirp(time, BANDS[label], channels, random) + _pulses(time, channels, random)
            clean = mixing * wave + noise * random.normal(size=(channels, length))
            series.append((gain * clean + offset).astype(np.float32))
            labels.append(WORDS[label])
            owners.append(subject)
    return Raw(series, labels, {"subject": owners}, rate=RATE, channels=[f"channel {number}" for number in range(channels)])


def _chirp(time: np.ndarray, band: tuple[float, float], channels: int, random: np.random.Generator) -> np.ndarray:
    """(C, T): base frequency within the band, moving by up to a fifth of it over the window, and its first harmonic."""
    low, high = band
    base = low * (high / low) ** random.uniform(0.1, 0.9)
    sweep = base * random.uniform(-0.2, 0.2) / time[-1]
    angle = 2 * np.pi * (base * time + sweep * time**2 / 2)
    phase = random.uniform(0, 2 * np.pi, (2, channels, 1))
    wave: np.ndarray = np.sin(angle + phase[0]) + 0.4 * np.sin(2 * angle + phase[1])
    return wave


def _pulses(time: np.ndarray, channels: int, random: np.random.Generator) -> np.ndarray:
    """(C, T): three Gaussian bumps of 30 to 100 ms, at the same places in all channels."""
    centres = random.uniform(time[0], time[-1], (3, 1))
    widths = random.uniform(0.03, 0.1, (3, 1))
    bumps = random.choice([-2.0, 2.0], (3, 1)) * np.exp(-((time - centres) ** 2) / (2 * widths**2))
    return np.repeat(bumps.sum(0)[None], channels, 0)
