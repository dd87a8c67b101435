"""The short-time Fourier transform as a tight frame of Gabor's kind.

Gabor. Theory of communication. 1946. Gröchenig. Foundations of Time-Frequency Analysis. 2001.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import fold, pad

from anyview.errors import UserError
from anyview_timeseries.frames.frame import Band, Frame, Inputs, check_inputs, checked, complex_planes


class Gabor(Frame):
    """Fourier transforms (B, C, n // 2 + 1, frames) under a periodic Hann window of n steps that moves by `hop`.

    window: n. hop: divides n at least three times. inputs: what an encoder reads of a coefficient, by default its amplitude. The window
    begins n - hop before the series and ends as far behind it, with zeros there, so that every step is seen equally often and the frame is
    tight for all windows: A = B = n / hop times the sum of the squared window, and the inverse is exact. Raises UserError for another hop.

    >>> frame, x = Gabor(window=16, hop=4), torch.randn(2, 1, 50)
    >>> frame.show(x).shape, torch.allclose(frame.inverse(frame.forward(x), 50), x, atol=1e-5)
    (torch.Size([2, 1, 9, 16]), True)
    """

    kind = "frame"
    layout = "time-scale"

    def __init__(self, window: int = 64, hop: int = 16, inputs: Inputs = "amplitude") -> None:
        if hop < 1 or window % hop or window // hop < 3:
            raise UserError(f"a hop must divide the window three times or more, and {hop} was given for {window}; choose one that does")
        self.window, self.hop, self.inputs, self.planes = window, hop, inputs, check_inputs(inputs)

    def forward(self, x: Tensor) -> Tensor:
        x = checked(x)
        padded = pad(x, (self.window - self.hop, self._behind(x.shape[-1])))
        pieces = padded.unfold(-1, self.window, self.hop)
        return torch.fft.rfft(pieces * self._hann(x)).mT

    def inverse(self, coefficients: Tensor, length: int) -> Tensor:
        pieces = torch.fft.irfft(coefficients.mT, n=self.window)
        weighted = (pieces * self._hann(pieces)).mT.flatten(0, 1)
        total = self.window - self.hop + length + self._behind(length)
        summed = fold(weighted, (1, total), (1, self.window), stride=(1, self.hop)).reshape(*coefficients.shape[:2], total)
        return summed[..., self.window - self.hop :][..., :length] / (self._hann(pieces).square().sum() / self.hop)

    def flat(self, coefficients: Tensor, length: int) -> Tensor:
        weights = torch.full((coefficients.shape[2], 1), math.sqrt(2), dtype=coefficients.real.dtype, device=coefficients.device)
        weights[0] = 1.0
        if self.window % 2 == 0:
            weights[-1] = 1.0
        return super().flat(coefficients * weights, length)

    def shown(self, coefficients: Tensor) -> Tensor:
        return complex_planes(coefficients, self.inputs)

    def bounds(self, length: int, band: Band | None = None) -> tuple[float, float]:
        """The tight frame's one bound, twice, for every band."""
        bound = self.window / self.hop * float(self._hann(torch.zeros((), dtype=torch.float64)).square().sum())
        return bound, bound

    def _hann(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.window, dtype=like.dtype, device=like.device)

    def _behind(self, length: int) -> int:
        """Zeros behind a series, so that the last of the windows that reach it is whole."""
        return (length - 1) // self.hop * self.hop + self.window - length
