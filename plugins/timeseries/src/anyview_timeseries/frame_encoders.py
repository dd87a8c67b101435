"""Encoders of coefficients: spectra, maps of scales by times, and bands of several lengths.

The first two are those of Demirel, Holz. Learning Without Augmenting. 2025, arXiv 2510.22655; the third is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.norm import BatchNorm
from anyview.errors import UserError
from anyview.views.view import View
from anyview_timeseries.encoders import ResidualBlock, SameConv
from anyview_timeseries.frames.frame import Frame
from anyview_timeseries.frames.wavelets import Wavelets
from anyview_timeseries.pooling import Pool, PoolKind


class SpectrumNet(Encoder):
    """A small residual network for every plane of a spectrum (amplitude, phase), whose outputs stand beside each other.

    channels: C of the windows. positions: frequencies of a spectrum. planes: P; data is (B, P C, positions), planes one after the other.
    dim: of the rows, of which each plane gets an equal share. pool: how frequencies become one.

    >>> SpectrumNet(1, 101, planes=2)(View(torch.randn(4, 2, 101))).rows.shape
    torch.Size([4, 128])
    """

    def __init__(self, channels: int, positions: int, *, planes: int = 2, dim: int = 128, pool: PoolKind = "positions") -> None:
        super().__init__()
        if dim < 4 * planes:
            raise UserError(f"a spectrum of {planes} planes needs rows of {4 * planes} numbers or more, and dim is {dim}; make it larger")
        self.dim, self.planes = dim, planes
        shares = [dim // planes + (number < dim % planes) for number in range(planes)]
        left = -(-positions // 4)
        self.branches = nn.ModuleList(nn.Sequential(*_branch(channels, share), Pool(pool, share, (left,))) for share in shares)

    def forward(self, view: View) -> Encoding:
        parts = view.data.chunk(self.planes, dim=1)
        return Encoding(torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)], dim=1))


def _branch(channels: int, width: int) -> list[nn.Module]:
    """Convolutions (B, channels, F) to (B, width, ceil(F / 4))."""
    quarter, half = max(1, width // 4), max(1, width // 2)
    blocks = [(quarter, half, True), (half, width, False)]
    residual = [ResidualBlock(before, after, 3, stride=2, first=first, norm=False) for before, after, first in blocks]
    return [SameConv(channels, quarter, 3), nn.ReLU(), *residual]


class PyramidNet(Encoder):
    """Convolutions over a map of scales by times that halve it three times and are shown it again, smaller, on the way.

    channels: of the map (planes times C). sizes: scales and times. dim: of the rows. width: of the first layer, then twice, three times and
    four times as many; None: a quarter of dim. pool: how times, then scales become one. A linear layer follows where four times the width
    is not dim. 519 thousand weights as published.

    >>> PyramidNet(1, (48, 50), dim=64)(View(torch.randn(4, 1, 48, 50))).rows.shape
    torch.Size([4, 64])
    """

    def __init__(
        self, channels: int, sizes: Sequence[int], *, dim: int = 128, width: int | None = None, pool: PoolKind = "positions"
    ) -> None:
        super().__init__()
        self.dim = dim
        width = max(1, dim // 4) if width is None else width
        shown = [0, 0, channels, channels]
        inputs = [channels, width, 2 * width, 3 * width]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before + more, (number + 1) * width, 5, stride=1 + (number > 0), padding=2), BatchNorm((number + 1) * width)
            )
            for number, (before, more) in enumerate(zip(inputs, shown, strict=True))
        )
        self.pool = Pool(pool, 4 * width, [-(-size // 8) for size in sizes])
        self.linear = nn.Identity() if 4 * width == dim else nn.Linear(4 * width, dim)

    def forward(self, view: View) -> Encoding:
        maps = x = view.data
        for number, layer in enumerate(self.layers):
            if number >= 2:
                x = torch.cat([x, _smaller(maps, 2 ** (number - 1))], dim=1)
            x = layer(x).relu()
        return Encoding(self.linear(self.pool(x)))


def _smaller(maps: Tensor, factor: int) -> Tensor:
    return avg_pool2d(maps, factor, ceil_mode=True, count_include_pad=False)


class BandsNet(Encoder):
    """A small convolutional branch for every band of a multiresolution, whose outputs stand beside each other before a linear layer.

    channels: C. sizes: coefficients of each band. split: cuts data (B, C, N) into the bands. dim: of the rows. width: of a branch's first
    layer; the second has twice as many. pool: how the coefficients of a band become one.

    >>> frame = Wavelets("haar", levels=2)
    >>> BandsNet(1, frame.sizes(50), frame.split, dim=32)(View(frame.show(torch.randn(4, 1, 50)))).rows.shape
    torch.Size([4, 32])
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[int],
        split: Callable[[Tensor], list[Tensor]],
        *,
        dim: int = 128,
        width: int = 16,
        pool: PoolKind = "positions",
    ) -> None:
        super().__init__()
        self.dim, self.split = dim, split
        self.branches = nn.ModuleList(
            nn.Sequential(
                SameConv(channels, width, 3),
                nn.ReLU(),
                ResidualBlock(width, 2 * width, 3, stride=2, first=True, norm=False),
                Pool(pool, 2 * width, (-(-size // 2),)),
            )
            for size in sizes
        )
        self.linear = nn.Linear(2 * width * len(sizes), dim)

    def forward(self, view: View) -> Encoding:
        bands = self.split(view.data)
        return Encoding(self.linear(torch.cat([branch(band) for branch, band in zip(self.branches, bands, strict=True)], dim=1)))


def frame_encoder(
    frame: Frame,
    channels: int,
    length: int,
    *,
    time: Callable[[int], Encoder],
    dim: int = 128,
    width: int | None = None,
    pool: PoolKind = "positions",
) -> Encoder:
    """The encoder that a frame's layout asks for, sized by a look at what the frame shows of a window (channels, length).

    time: makes the encoder of the layout "time", from C. dim: of the rows. width: of a pyramid's or a band's first layer.

    >>> from anyview_timeseries.encoders import ResNet1d
    >>> from anyview_timeseries.frames.orthonormal import Fourier
    >>> frame_encoder(Fourier(), 3, 64, time=ResNet1d).planes
    2
    """
    shown = frame.show(torch.zeros(1, channels, length))
    if frame.layout == "time":
        return time(channels)
    if frame.layout == "spectrum":
        return SpectrumNet(channels, shown.shape[2], planes=frame.planes, dim=dim, pool=pool)
    if frame.layout == "time-scale":
        return PyramidNet(shown.shape[1], shown.shape[2:], dim=dim, width=width, pool=pool)
    if not isinstance(frame, Wavelets):
        raise TypeError(f"a frame of the layout {frame.layout!r} must know its bands, and {type(frame).__name__} does not")
    return BandsNet(channels, frame.sizes(length), frame.split, dim=dim, width=width or 16, pool=pool)
