"""Continuous wavelets at many scales, whole batches by FFT: complex Morlet and Mexican hat.

Their values are those of PyWavelets, which integrates the wavelet over steps: at scale s a step counts with the difference of the integral
at its two ends.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import avg_pool1d

from anyview.errors import UserError
from anyview_timeseries.frames.frame import Band, Frame, Inputs, check_inputs, checked, complex_planes

Scales = Literal["published", "fit"] | Sequence[float]

SUPPORT = 8.0
"""Wavelets are taken from -8 to 8, in units of the scale."""
POINTS = 2**12
"""On so many points they are integrated."""
NUMBERS = {"cpu": 2**19}
"""Most complex numbers that are made at once when windows are shown to an encoder: on a CPU few enough to stay in its cache."""
MOST = 2**26
"""The same elsewhere."""


class Continuous(Frame):
    """Coefficients (B, C, S, T) of a wavelet at S scales: W(s, b) = s^(-1/2) sum over t of x_t conj(psi((t - b) / s)).

    scales: in steps; "published" is from 1 to 128 in geometric steps, whatever the window's length; "fit" from 2 (below lie frequencies
    that no sampled series has) to T / 4.2 (above which both ends cut the wavelet). count: how many. pool: of what encoders are shown the
    mean of so many steps. Bounds that say something are those on the `covered` band: nothing answers to an offset.
    """

    kind = "frame"
    layout = "time-scale"
    is_complex = True

    def __init__(self, scales: Scales = "published", count: int = 48, pool: int = 1) -> None:
        if pool < 1 or count < 1:
            raise UserError(f"a wavelet map needs 1 scale and 1 step to pool or more, found count {count} and pool {pool}")
        if isinstance(scales, str) and scales not in ("published", "fit"):
            raise UserError(f"scales are 'published', 'fit' or numbers in steps, and {scales!r} was given; choose one")
        if not isinstance(scales, str) and (not len(scales) or min(scales) <= 0):
            raise UserError(f"scales are numbers of steps above 0, and {list(scales)} was given; choose others")
        self.chosen, self.count, self.pool = scales, count, pool
        self._spectra: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    @abstractmethod
    def wavelet(self, place: np.ndarray) -> np.ndarray:
        """psi at places (n,), in units of the scale, float64 or complex128."""

    @property
    @abstractmethod
    def centre(self) -> float:
        """Frequency of psi, in cycles per unit."""

    def scales(self, length: int) -> np.ndarray:
        """(S,) in steps, for windows of that length."""
        if not isinstance(self.chosen, str):
            return np.asarray(self.chosen, dtype=np.float64)
        low, high = (1.0, 128.0) if self.chosen == "published" else (2.0, max(2.0, length / 4.2))
        return np.geomspace(low, high, self.count)

    def covered(self, length: int) -> Band:
        """The band (cycles per step) between the frequencies of the largest and the smallest scale, below half a cycle."""
        scales = self.scales(length)
        return self.centre / float(scales.max()), min(0.5, self.centre / float(scales.min()))

    def forward(self, x: Tensor) -> Tensor:
        x = checked(x)
        length = x.shape[-1]
        spectra = self.spectra(length, like=x)
        turns = _turns(length)
        if self.is_complex:
            return torch.fft.ifft(torch.fft.fft(x, n=turns)[..., None, :] * spectra)[..., :length]
        return torch.fft.irfft(torch.fft.rfft(x, n=turns)[..., None, :] * spectra, n=turns)[..., :length]

    def show(self, x: Tensor) -> Tensor:
        x = checked(x)
        one = x.shape[1] * len(self.scales(x.shape[-1])) * _turns(x.shape[-1])
        windows = max(1, NUMBERS.get(x.device.type, MOST) // one)
        return torch.cat([self.shown(self.forward(part)) for part in x.split(windows)])

    def pooled(self, maps: Tensor) -> Tensor:
        """Maps (B, P, S, T) with the mean of every `pool` steps, the last of which may be fewer."""
        if self.pool == 1:
            return maps
        means = avg_pool1d(maps.flatten(0, 2)[:, None], self.pool, ceil_mode=True, count_include_pad=False)
        return means[:, 0].unflatten(0, maps.shape[:3])

    def spectra(self, length: int, *, like: Tensor) -> Tensor:
        """The scaled wavelets' Fourier transforms (S, F) for windows of that length, made once."""
        key = (length, like.dtype, like.device)
        if key not in self._spectra:
            turns = _turns(length)
            taps = np.stack([self._taps(scale, length, turns) for scale in self.scales(length)])
            transformed = np.fft.fft(taps) if self.is_complex else np.fft.rfft(taps)
            kind = torch.complex128 if like.dtype == torch.float64 else torch.complex64
            self._spectra[key] = torch.from_numpy(transformed).to(kind).to(like.device)
        return self._spectra[key]

    def _taps(self, scale: float, length: int, turns: int) -> np.ndarray:
        """The filter (turns,) of a scale, tap l at place l modulo `turns`, for lags from 1 - T to T - 1."""
        place = np.linspace(-SUPPORT, SUPPORT, POINTS)
        width = place[1] - place[0]
        integral = np.conj(np.cumsum(self.wavelet(place)) * width)
        at = (np.arange(scale * 2 * SUPPORT + 1) / (scale * width)).astype(np.int64)
        steps = integral[at[at < POINTS]][::-1]
        taps = -math.sqrt(scale) * np.diff(steps, prepend=0, append=0)
        first = -1 - math.floor((len(steps) - 2) / 2)
        lags = np.arange(first, first + len(taps))
        inside = np.abs(lags) < length
        made = np.zeros(turns, dtype=taps.dtype)
        made[lags[inside] % turns] = taps[inside]
        return made


class Morlet(Continuous):
    """The complex Morlet wavelet, psi(u) = (pi bandwidth)^(-1/2) exp(-u² / bandwidth) exp(2 pi i centre u), by default `cmor1-1`.

    inputs: what an encoder reads of a coefficient; its magnitude by default, as published. The others are as in Continuous.

    >>> Morlet().show(torch.randn(4, 2, 50)).shape, Morlet("fit", pool=4).show(torch.randn(4, 2, 50)).shape
    (torch.Size([4, 2, 48, 50]), torch.Size([4, 2, 48, 13]))
    """

    def __init__(
        self,
        scales: Scales = "published",
        count: int = 48,
        pool: int = 1,
        inputs: Inputs = "amplitude",
        bandwidth: float = 1.0,
        centre: float = 1.0,
    ) -> None:
        super().__init__(scales, count, pool)
        if bandwidth <= 0 or centre <= 0:
            raise UserError(f"a Morlet wavelet has a bandwidth and a centre above 0, found {bandwidth:g} and {centre:g}; choose others")
        self.inputs, self.planes = inputs, check_inputs(inputs)
        self.bandwidth, self._centre = bandwidth, centre

    @property
    def centre(self) -> float:
        return self._centre

    def wavelet(self, place: np.ndarray) -> np.ndarray:
        envelope = np.exp(-(place**2) / self.bandwidth) / math.sqrt(math.pi * self.bandwidth)
        return envelope * np.exp(2j * math.pi * self._centre * place)

    def shown(self, coefficients: Tensor) -> Tensor:
        return self.pooled(complex_planes(coefficients, self.inputs))


class MexicanHat(Continuous):
    """The second derivative of a Gaussian, psi(u) = 2 / (sqrt3 pi^(1/4)) (1 - u²) exp(-u² / 2): real, and short in time.

    >>> MexicanHat(count=12).show(torch.randn(4, 1, 30)).shape
    torch.Size([4, 1, 12, 30])
    """

    is_complex = False
    centre = 0.25

    def wavelet(self, place: np.ndarray) -> np.ndarray:
        return 2 / (math.sqrt(3) * math.pi**0.25) * (1 - place**2) * np.exp(-(place**2) / 2)

    def shown(self, coefficients: Tensor) -> Tensor:
        return self.pooled(coefficients)


def _turns(length: int) -> int:
    """A fast FFT's length that holds all lags of a window."""
    return int(next_fast_len(max(2, 2 * length - 1)))
