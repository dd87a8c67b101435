"""What series say without an encoder: spectra, statistics and the peak of a spectrum, the controls that scores stand beside."""

from __future__ import annotations

import numpy as np
import torch

FLOOR = 1e-3
"""Added to magnitudes before their logarithm is taken."""
FINE = 8192
"""Length that windows are padded to where the place of a peak is looked for."""
Band = tuple[float, float] | None


def magnitudes(windows: np.ndarray, *, tapered: bool = False) -> np.ndarray:
    """|rfft| (N, C, T // 2 + 1), orthonormal, of windows (N, C, T); missing values are the channel's mean. tapered: under a Hann window."""
    x = filled(windows)
    return np.abs(np.fft.rfft(x * hann(x.shape[2]) if tapered else x, norm="ortho"))


def filled(windows: np.ndarray) -> np.ndarray:
    """Windows (N, C, T) in float64, their NaN replaced by the mean of what is there, 0 where nothing is."""
    x = windows.astype(np.float64)
    missing = np.isnan(x)
    if not missing.any():
        return x
    count = (~missing).sum(2, keepdims=True)
    mean = np.where(missing, 0, x).sum(2, keepdims=True) / np.maximum(count, 1)
    return np.where(missing, mean, x)


def within(length: int, rate: float | None, band: Band) -> np.ndarray:
    """Which of the T // 2 + 1 frequencies lie within a band (Hz), all but the constant one without a band or a rate (Hz).

    >>> int(within(200, 25.0, (0.25, 4.0)).sum())
    31
    """
    frequencies = np.fft.rfftfreq(length, 1 / (rate or 1.0))
    if rate is None or band is None:
        return frequencies > 0
    return (frequencies >= band[0] - 1e-9) & (frequencies <= band[1] + 1e-9)


def log_spectrum(windows: np.ndarray, rate: float | None = None, band: Band = None) -> np.ndarray:
    """log(|rfft| + .001) at the frequencies of the band, (N, C F), of windows (N, C, T)."""
    return _flat(np.log(magnitudes(windows)[..., within(windows.shape[2], rate, band)] + FLOOR))


def tapered_spectrum(windows: np.ndarray, rate: float | None = None, band: Band = None) -> np.ndarray:
    """log(1 + |rfft|) under a Hann window at the frequencies of the band, (N, C F): weak frequencies, which are noise, weigh little."""
    return _flat(np.log1p(magnitudes(windows, tapered=True)[..., within(windows.shape[2], rate, band)]))


def statistics(windows: np.ndarray, bins: int = 16) -> np.ndarray:
    """Mean, deviation and the logarithms of the first `bins` magnitudes above the constant one, of every channel, (N, C (2 + bins)).

    >>> statistics(np.random.default_rng(0).normal(size=(5, 3, 64))).shape
    (5, 54)
    """
    x = filled(windows)
    spectrum = np.log(np.abs(np.fft.rfft(x, norm="ortho"))[..., 1 : bins + 1] + FLOOR)
    return _flat(np.concatenate([x.mean(2, keepdims=True), x.std(2, keepdims=True), spectrum], 2))


def peak(windows: np.ndarray, rate: float, low: float, high: float) -> np.ndarray:
    """Frequency (Hz) of the highest magnitude from low to high (Hz), (N,), of windows (N, C, T) at `rate` samples a second.

    Under a Hann window, without the mean, on a grid finer than the window's own; magnitudes of several channels are added, each channel
    scaled to unit energy.

    >>> time = np.arange(200) / 25
    >>> peak(np.sin(2 * np.pi * 1.3 * time)[None, None], 25.0, 0.5, 3.5).round(2)
    array([1.3])
    """
    x = filled(windows)
    x = x - x.mean(2, keepdims=True)
    x = x / np.maximum(np.sqrt(np.square(x).sum(2, keepdims=True)), 1e-12)
    length = max(FINE, x.shape[2])
    frequencies = np.fft.rfftfreq(length, 1 / rate)
    chosen = np.flatnonzero((frequencies >= low) & (frequencies <= high))
    taper = hann(x.shape[2])
    parts = np.array_split(x, max(1, x.shape[0] * x.shape[1] // 256))  # the fine grid costs 64 kB a channel
    found = [np.abs(np.fft.rfft(part * taper, n=length)[..., chosen]).sum(1).argmax(1) for part in parts]
    return frequencies[chosen[np.concatenate(found)]]


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float32)


def hann(length: int) -> np.ndarray:
    """The periodic Hann window, (length,) float64; torch's, because importing scipy.signal takes a second."""
    return torch.hann_window(length, dtype=torch.float64).numpy()
