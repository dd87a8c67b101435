"""Orthonormal wavelets of any depth on windows of any length: Haar and Daubechies, pyramids and packets.

Mallat. A theory for multiresolution signal decomposition: the wavelet representation. IEEE Transactions on Pattern Analysis and Machine
Intelligence, 1989. Daubechies. Orthonormal bases of compactly supported wavelets. 1988.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d

from anyview.errors import MissingDependencyError, UserError
from anyview_timeseries.frames.frame import Frame, checked

FEWEST = 8
"""Without a depth of one's own, the coarsest band keeps at least so many coefficients."""


class Wavelets(Frame):
    """Coefficients of an orthonormal wavelet: a pair of filters halves the window, then its coarse half, and so on.

    wavelet: "haar", "db2" .. "db20", "sym4", "coif1", or another orthonormal one that PyWavelets knows. levels: how often it is halved;
    None: until 8 coarse coefficients are left. packet: halve the fine halves as well, into 2^levels bands of one width.

    Coefficients are (B, C, T), bands one after the other, coarse first: `split` cuts them. Boundaries are periodic; of an odd number of
    steps the last is handed on with the coarse half. Both keep the transform orthonormal for every T. Raises UserError for a wavelet that
    is not orthonormal and for more levels than a window can be halved.

    >>> frame, x = Wavelets("db4", levels=3), torch.randn(2, 1, 101)
    >>> [band.shape[-1] for band in frame.split(frame.forward(x))]
    [13, 13, 25, 50]
    >>> torch.allclose(frame.inverse(frame.forward(x), 101), x, atol=1e-5)
    True
    """

    layout = "multiresolution"

    def __init__(self, wavelet: str = "haar", levels: int | None = None, packet: bool = False) -> None:
        self.wavelet, self.levels, self.packet = wavelet, levels, packet
        if levels is not None and levels < 1:
            raise UserError(f"a wavelet transform needs at least one level, and {levels} were asked for; give 1 or more")
        self.taps = low_pass(wavelet)

    def forward(self, x: Tensor) -> Tensor:
        bands, filters = [checked(x)], self._filters(x)
        for _ in range(self.depth(x.shape[-1])):
            halved = bands if self.packet else bands[:1]
            bands = [half for band in halved for half in _halves(band, filters)] + bands[len(halved) :]
        return torch.cat(bands, dim=-1)

    def inverse(self, coefficients: Tensor, length: int) -> Tensor:
        bands, filters = self.split(coefficients), self._filters(coefficients)
        for _ in range(self.depth(length)):
            joined = len(bands) if self.packet else 2
            pairs = zip(bands[:joined:2], bands[1:joined:2], strict=True)
            bands = [_joined(coarse, fine, filters) for coarse, fine in pairs] + bands[joined:]
        return bands[0]

    def split(self, coefficients: Tensor) -> list[Tensor]:
        """The bands of coefficients (B, C, T), coarse first."""
        return list(coefficients.split(self.sizes(coefficients.shape[-1]), dim=-1))

    def sizes(self, length: int) -> list[int]:
        """How many coefficients each band of a window of that length has, coarse first."""
        sizes = [length]
        for _ in range(self.depth(length)):
            halved = sizes if self.packet else sizes[:1]
            sizes = [half for size in halved for half in (size - size // 2, size // 2)] + sizes[len(halved) :]
        return sizes

    def depth(self, length: int) -> int:
        """How often a window of that length is halved."""
        most = int(math.log2(length)) if self.packet else math.ceil(math.log2(length))
        if self.levels is None:
            return min(max(1, int(math.log2(length / FEWEST))), most) if most else self._refused(1, length, most)
        return self.levels if self.levels <= most else self._refused(self.levels, length, most)

    def _refused(self, levels: int, length: int, most: int) -> int:
        kind = "wavelet packets" if self.packet else "wavelets"
        raise UserError(f"{levels} levels of {kind} were asked for, and {length} steps can be halved {most} times; give fewer levels")

    def _filters(self, like: Tensor) -> Tensor:
        low = torch.tensor(self.taps, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
        signs = torch.ones_like(low)
        signs[1::2] = -1
        return torch.stack([low, signs * low.flip(0)])[:, None]


@functools.cache
def low_pass(wavelet: str) -> tuple[float, ...]:
    """The coarse filter of an orthonormal wavelet, whose squares add up to 1."""
    if wavelet in ("haar", "db1"):
        return (math.sqrt(0.5), math.sqrt(0.5))
    try:
        import pywt
    except ImportError as error:
        raise MissingDependencyError(f"the wavelet {wavelet!r} needs PyWavelets; pip install 'anyview[timeseries]'") from error
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known or not pywt.Wavelet(wavelet).orthogonal or wavelet == "dmey":
        raise UserError(
            f"{wavelet!r} is no orthonormal wavelet with short filters; choose haar, db2 to db38, sym2 to sym20 or coif1 to coif17"
        )
    taps: tuple[float, ...] = tuple(pywt.Wavelet(wavelet).rec_lo)
    return taps


def _halves(x: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
    """Coarse (B, C, n - n // 2) and fine (B, C, n // 2) half of a band (B, C, n); an odd last step goes to the coarse one."""
    even = x.shape[-1] // 2 * 2
    wrapped = x[..., _around(even, filters, x.device)].flatten(0, 1)[:, None]
    coarse, fine = conv1d(wrapped, filters, stride=2).unflatten(0, x.shape[:2]).unbind(2)
    return torch.cat([coarse, x[..., even:]], dim=-1), fine


def _joined(coarse: Tensor, fine: Tensor, filters: Tensor) -> Tensor:
    """The band whose halves these are: `_halves` the other way round, which is its transpose."""
    half = fine.shape[-1]
    pair = torch.stack([coarse[..., :half], fine], dim=2).flatten(0, 1)
    spread = conv_transpose1d(pair, filters, stride=2)[:, 0].unflatten(0, coarse.shape[:2])
    folded = spread.new_zeros(*coarse.shape[:2], 2 * half).index_add(-1, _around(2 * half, filters, coarse.device), spread)
    return torch.cat([folded, coarse[..., half:]], dim=-1)


def _around(length: int, filters: Tensor, device: torch.device) -> Tensor:
    """Places of a periodic band that filters at its even places read, one after the other."""
    return torch.arange(length + filters.shape[-1] - 2, device=device) % length
