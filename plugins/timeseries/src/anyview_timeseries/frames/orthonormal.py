"""Orthonormal bases: the window itself, Fourier, the cosine transform, and a random one for control."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyview.errors import UserError
from anyview_timeseries.frames.frame import Frame, Inputs, check_inputs, checked, complex_planes


class Identity(Frame):
    """The window itself: a second encoder that reads it shows how much of a score comes from having two.

    >>> Identity().show(torch.ones(1, 2, 3)).shape
    torch.Size([1, 2, 3])
    """

    layout = "time"

    def forward(self, x: Tensor) -> Tensor:
        return checked(x)

    def inverse(self, coefficients: Tensor, length: int) -> Tensor:
        return coefficients


class RandomOrthonormal(Frame):
    """An orthonormal matrix drawn once, the same for every channel: shows how much of a score comes from a basis that means something.

    seed: of the matrix, which for windows of each length is another.

    >>> frame, x = RandomOrthonormal(seed=1), torch.randn(2, 1, 16)
    >>> torch.allclose(frame.inverse(frame.forward(x), 16), x, atol=1e-5)
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._made: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = checked(x)
        return x @ self.matrix(x.shape[-1], like=x)

    def inverse(self, coefficients: Tensor, length: int) -> Tensor:
        return coefficients @ self.matrix(length, like=coefficients).T

    def matrix(self, length: int, *, like: Tensor) -> Tensor:
        """The matrix (T, T), of the type and on the device of `like`."""
        key = (length, like.dtype, like.device)
        if key not in self._made:
            generator = torch.Generator().manual_seed(self.seed)
            drawn = torch.randn(length, length, generator=generator, dtype=torch.float64)
            q, r = torch.linalg.qr(drawn)
            self._made[key] = (q * r.diagonal().sign()).to(like)
        return self._made[key]


class Fourier(Frame):
    """The real Fourier transform: T // 2 + 1 complex coefficients of unit norm "ortho".

    inputs: what an encoder reads of a coefficient; amplitude and phase by default, as published. `flat` is the real orthonormal form,
    [Re F_0, sqrt2 Re F_k, sqrt2 Im F_k, ..., Re F_(T/2)].

    >>> frame, x = Fourier(), torch.randn(4, 2, 25)
    >>> frame.show(x).shape, torch.allclose(frame.flat(frame.forward(x), 25).norm(), x.norm())
    (torch.Size([4, 4, 13]), True)
    """

    def __init__(self, inputs: Inputs = "amplitude_phase") -> None:
        self.inputs, self.planes = inputs, check_inputs(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(checked(x), norm="ortho")

    def inverse(self, coefficients: Tensor, length: int) -> Tensor:
        return torch.fft.irfft(coefficients, n=length, norm="ortho")

    def flat(self, coefficients: Tensor, length: int) -> Tensor:
        twice = coefficients[..., 1 : (length + 1) // 2]
        pairs = math.sqrt(2) * torch.stack([twice.real, twice.imag], dim=-1).flatten(-2)
        ends = [coefficients[..., :1].real] + ([coefficients[..., -1:].real] if length % 2 == 0 else [])
        return torch.cat([ends[0], pairs, *ends[1:]], dim=-1)

    def shown(self, coefficients: Tensor) -> Tensor:
        return complex_planes(coefficients, self.inputs)


class Cosine(Frame):
    """The orthonormal cosine transform DCT-II, by one FFT of the window's even steps followed by its odd ones backwards.

    Makhoul. A fast cosine transform in one and two dimensions. IEEE Transactions on Acoustics, Speech, and Signal Processing, 1980.

    >>> Cosine().forward(torch.ones(1, 1, 4)).round(decimals=5).abs().tolist()
    [[[2.0, 0.0, 0.0, 0.0]]]
    """

    def forward(self, x: Tensor) -> Tensor:
        x = checked(x)
        length = x.shape[-1]
        folded = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
        turned = torch.fft.fft(folded) * _half_turns(length, x).conj()
        return turned.real * _weights(length, x)

    def inverse(self, coefficients: Tensor, length: int) -> Tensor:
        if coefficients.shape[-1] != length:
            raise UserError(f"{coefficients.shape[-1]} coefficients were given for a window of {length} steps; give as many")
        scaled = coefficients / _weights(length, coefficients)
        mirrored = torch.cat([torch.zeros_like(scaled[..., :1]), scaled[..., 1:].flip(-1)], dim=-1)
        folded = torch.fft.ifft(torch.complex(scaled, -mirrored) * _half_turns(length, scaled)).real
        window = torch.empty_like(folded)
        even = (length + 1) // 2
        window[..., ::2], window[..., 1::2] = folded[..., :even], folded[..., even:].flip(-1)
        return window


def _half_turns(length: int, like: Tensor) -> Tensor:
    angle = torch.arange(length, dtype=like.dtype, device=like.device) * (math.pi / (2 * length))
    return torch.polar(torch.ones_like(angle), angle)


def _weights(length: int, like: Tensor) -> Tensor:
    weights = torch.full((length,), math.sqrt(2 / length), dtype=like.dtype, device=like.device)
    weights[0] = math.sqrt(1 / length)
    return weights
