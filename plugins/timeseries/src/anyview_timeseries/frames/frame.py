"""What a frame is: a linear map from windows to coefficients that tells how much of their energy it keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from anyview.errors import UserError

Kind = Literal["basis", "frame"]
Layout = Literal["time", "spectrum", "multiresolution", "time-scale"]
Inputs = Literal["amplitude", "amplitude_phase", "real_imaginary", "log_amplitude"]
Band = tuple[float, float]

PLANES: dict[str, int] = {"amplitude": 1, "amplitude_phase": 2, "real_imaginary": 2, "log_amplitude": 3}
"""How many real numbers an encoder reads of one complex coefficient, by the form that it is shown in."""
QUIET = 1e-3
"""Added to amplitudes before their logarithm, so that silence is no outlier."""


class Frame(ABC):
    """Coefficients of windows (B, C, T), linear in them, each channel by itself, for any T.

    kind: "basis" is orthonormal: as many numbers as there were, the same energy, an exact inverse. "frame" is overcomplete. layout: how
    coefficients lie: "time", "spectrum" (one axis of frequencies), "multiresolution" (bands of several lengths one after the other),
    "time-scale" (frequencies by times); it decides which encoder reads them. planes: how many numbers an encoder reads of one
    coefficient; `show` gives them as channels, those of one plane together.

    What depends on a length is made when a window of that length comes. Raises UserError for what is no batch of windows.
    """

    kind: Kind = "basis"
    layout: Layout = "spectrum"
    planes: int = 1

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Coefficients (B, C, ...), real or complex, of windows x (B, C, T), real."""

    def inverse(self, coefficients: Tensor, length: int) -> Tensor:
        """The windows (B, C, length) that have these coefficients; raises UserError where a frame has no inverse."""
        raise UserError(f"{type(self).__name__} has no inverse, and one was asked for; choose a basis or the Gabor frame")

    def flat(self, coefficients: Tensor, length: int) -> Tensor:
        """The same coefficients as real numbers (B, C, N) whose squares add up to their energy.

        length: T of the windows. Of complex coefficients real and imaginary parts, one after the other.
        """
        if coefficients.is_complex():
            coefficients = torch.cat([coefficients.real, coefficients.imag], dim=-1)
        return coefficients.flatten(2)

    def shown(self, coefficients: Tensor) -> Tensor:
        """What an encoder reads of coefficients (B, C, ...): real, (B, planes C, ...)."""
        return coefficients

    def show(self, x: Tensor) -> Tensor:
        """What an encoder reads of windows x (B, C, T)."""
        return self.shown(self.forward(x))

    def bounds(self, length: int, band: Band | None = None) -> tuple[float, float]:
        """A and B with A ‖x‖² <= sum of |c|² <= B ‖x‖² for every window of that length, the tightest, by its T x T Gram matrix.

        band: lowest and highest frequency (cycles per step) of the windows that are meant; None: all of them.
        """
        if self.kind == "basis":
            return 1.0, 1.0
        unit = torch.eye(length, dtype=torch.float64)[:, None]
        images = self.flat(self.forward(unit), length)[:, 0]
        gram = images @ images.T
        if band is not None:
            waves = waves_between(*band, length)
            gram = waves.T @ gram @ waves
        values = torch.linalg.eigvalsh(gram)
        return max(0.0, float(values[0])), float(values[-1])


def checked(x: Tensor) -> Tensor:
    """Windows (B, C, T) as they are, half precision as float32; raises UserError for anything else."""
    if x.ndim != 3 or x.is_complex() or x.shape[-1] == 0:
        raise UserError(f"a frame reads real windows (B, C, T), and was given {tuple(x.shape)}, {x.dtype}; add or remove axes")
    return x.to(torch.promote_types(x.dtype, torch.float32))


def complex_planes(coefficients: Tensor, inputs: Inputs) -> Tensor:
    """Complex coefficients (B, C, ...) as real channels (B, planes C, ...), in the form `inputs`.

    "amplitude", also with the phase in radians; real and imaginary part; or "log_amplitude", with cosine and sine of the phase, which are
    zero where the coefficient is.

    >>> complex_planes(torch.tensor([[[3j]]]), "real_imaginary").tolist()
    [[[0.0], [3.0]]]
    """
    if inputs == "real_imaginary":
        return torch.cat([coefficients.real, coefficients.imag], dim=1)
    amplitude = coefficients.abs()
    if inputs == "amplitude":
        return amplitude
    if inputs == "amplitude_phase":
        return torch.cat([amplitude, coefficients.angle()], dim=1)
    direction = coefficients / amplitude.clamp_min(torch.finfo(amplitude.dtype).tiny)
    return torch.cat([(amplitude + QUIET).log(), direction.real, direction.imag], dim=1)


def check_inputs(inputs: str) -> int:
    """The number of planes of a form that coefficients are shown in; raises UserError for one that there is not."""
    if inputs not in PLANES:
        raise UserError(f"coefficients were to be shown as {inputs!r}, and there is {', '.join(PLANES)}; choose one of these")
    return PLANES[inputs]


def waves_between(low: float, high: float, length: int) -> Tensor:
    """An orthonormal basis (T, K), float64, of the waves of whole cycles in a window whose frequencies lie in a band (cycles per step).

    >>> waves_between(0.1, 0.3, 10).shape
    torch.Size([10, 6])
    """
    time = torch.arange(length, dtype=torch.float64)
    columns = []
    for cycles in range(length // 2 + 1):
        if low - 1e-9 <= cycles / length <= high + 1e-9:
            angle = 2 * torch.pi * cycles * time / length
            columns += [angle.cos()] if cycles == 0 or 2 * cycles == length else [angle.cos(), angle.sin()]
    if not columns:
        raise UserError(f"no whole number of cycles in {length} steps lies between {low:g} and {high:g} cycles a step; widen the band")
    waves = torch.stack(columns, dim=1)
    return waves / waves.norm(dim=0)
