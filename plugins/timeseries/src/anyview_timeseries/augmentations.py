"""Random changes of windows (B, C, T): each sample by its own draw, all channels together, whole batches at once.

Um, Pfister, Pichler, Endo, Lang, Hirche, Fietzek, Kulić. Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
Convolutional Neural Networks. 2017, arXiv 1706.00527. None of these turns or mixes channels: what a channel means stays what it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.pair import Params, RecordedTransform

Range = tuple[float, float]


class Jitter(RecordedTransform):
    """White noise, of a deviation between 0 and `most` times that of each window's channel, drawn for each sample.

    >>> Jitter(0.1)(torch.randn(4, 2, 30), Draws.seeded(0, total=4)).shape
    torch.Size([4, 2, 30])
    """

    def __init__(self, most: float = 0.3) -> None:
        self.most = at_least(most, 0, "jitter")

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        level = self.most * draws.uniform(1).to(data)
        noise = draws.normal(*data.shape[1:]).to(data)
        return data + level[..., None] * data.std(2, correction=0, keepdim=True) * noise, {"jitter": level}


class Scale(RecordedTransform):
    """A factor for each channel of each sample, between 1 / `most` and `most`; see `factors`.

    >>> Scale(2.0)(torch.ones(4, 2, 1), Draws.seeded(0, total=4)).amax() <= 2.0
    tensor(True)
    """

    def __init__(self, most: float = 1.5) -> None:
        self.most = at_least(most, 1, "scale")

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        drawn = factors(2 * draws.uniform(data.shape[1]).to(data) - 1, self.most)
        return data * drawn[..., None], {"scale": drawn}


class Permute(RecordedTransform):
    """Cut a window into 1 to `segments` pieces at random places, and put them together in a random order.

    Both are each sample's own; no value is lost. Records how many pieces there were.

    >>> x = torch.arange(12.0).reshape(1, 1, 12)
    >>> sorted(Permute(4)(x, Draws.seeded(0, total=1)).flatten().tolist()) == x.flatten().tolist()
    True
    """

    def __init__(self, segments: int = 5) -> None:
        self.segments = int(at_least(segments, 1, "segments"))

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        length = data.shape[2]
        pieces = 1 + draws.integers(self.segments, 1)
        cuts = (draws.uniform(self.segments - 1) * length).long()
        unused = torch.arange(self.segments - 1, device=cuts.device) >= pieces - 1
        cuts = cuts.masked_fill(unused, length)
        piece = (torch.arange(length, device=cuts.device)[None, :, None] >= cuts[:, None]).sum(2)  # (B, T): which one a step lies in
        rank = draws.uniform(self.segments)
        order = rank.gather(1, piece).argsort(dim=1, stable=True).to(data.device)
        return data.take_along_dim(order[:, None], 2), {"pieces": pieces.to(data)}


class Crop(RecordedTransform):
    """A stretch of a window, of a share between `least` and `most` of it, drawn out to `size` steps by linear interpolation.

    size: steps of a view; None: those of the window. Records "box": start and extent in shares of the window.

    >>> Crop(size=20, least=0.5)(torch.randn(4, 2, 30), Draws.seeded(0, total=4)).shape
    torch.Size([4, 2, 20])
    """

    def __init__(self, size: int | None = None, *, least: float = 0.5, most: float = 1.0) -> None:
        if not 0 < least <= most <= 1 or (size is not None and size < 1):
            found = f"{least:g} to {most:g} of a window in {size} steps"
            raise UserError(f"a crop shows a share above 0 and up to 1 in at least 1 step, and {found} was asked for; choose other shares")
        self.size, self.least, self.most = size, least, most

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        length, size = data.shape[2], self.size or data.shape[2]
        extent = self.least + (self.most - self.least) * draws.uniform(1).to(data)
        start = draws.uniform(1).to(data) * (1 - extent)
        steps = (torch.arange(size, device=data.device, dtype=data.dtype) + 0.5) / size
        return read_at(data, (start + extent * steps) * length - 0.5), {"box": torch.cat([start, extent], dim=1)}


class TimeWarp(RecordedTransform):
    """Time runs faster and slower: a smooth speed, between 1 / `most` and `most`, with a random value at each of `knots` places.

    A window still begins and ends where it did. Records the knots.

    >>> TimeWarp(1.5)(torch.randn(4, 2, 30), Draws.seeded(0, total=4)).shape
    torch.Size([4, 2, 30])
    """

    def __init__(self, most: float = 1.5, knots: int = 4) -> None:
        self.most, self.knots = at_least(most, 1, "time warp"), int(at_least(knots, 2, "knots"))

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        length = data.shape[2]
        knots = 2 * draws.uniform(self.knots).to(data) - 1
        speed = factors(smooth_curve(knots, max(1, length - 1)), self.most)
        passed = torch.cat([torch.zeros_like(speed[:, :1]), speed.cumsum(1)], dim=1)[:, :length]
        return read_at(data, passed / passed[:, -1:].clamp_min(1e-12) * (length - 1)), {"time_warp": knots}


class MagnitudeWarp(RecordedTransform):
    """A smooth gain over time, between 1 / `most` and `most`, with a random value at each of `knots` places, shared by the channels.

    >>> MagnitudeWarp(2.0)(torch.ones(4, 2, 30), Draws.seeded(0, total=4)).amin() >= 0.5
    tensor(True)
    """

    def __init__(self, most: float = 1.5, knots: int = 4) -> None:
        self.most, self.knots = at_least(most, 1, "magnitude warp"), int(at_least(knots, 2, "knots"))

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        knots = 2 * draws.uniform(self.knots).to(data) - 1
        return data * factors(smooth_curve(knots, data.shape[2]), self.most)[:, None], {"magnitude_warp": knots}


def factors(drawn: Tensor, most: float) -> Tensor:
    """Numbers from -1 to 1 as factors from 1 / most to most: a number and its negative are inverse to each other.

    Made without a logarithm or a power, whose last digit depends on where in a tensor a number stands.

    >>> factors(torch.tensor([-1.0, -0.5, 0.0, 1.0]), 3.0).tolist()
    [0.3333333432674408, 0.5, 1.0, 3.0]
    """
    above = 1 + drawn.abs() * (most - 1)
    return torch.where(drawn < 0, 1 / above, above)


def smooth_curve(knots: Tensor, length: int) -> Tensor:
    """Curves (B, length) through knots (B, K) at equal distances, with half a cosine between neighbours, so never beyond them.

    >>> smooth_curve(torch.tensor([[0.0, 1.0]]), 3).round(decimals=4).tolist()
    [[0.0, 0.5, 1.0]]
    """
    places = torch.linspace(0, knots.shape[1] - 1, length, device=knots.device, dtype=knots.dtype)
    left = places.long().clamp(max=knots.shape[1] - 2)
    share = (1 - torch.cos(math.pi * (places - left))) / 2
    return knots[:, left] * (1 - share) + knots[:, left + 1] * share


def read_at(data: Tensor, places: Tensor) -> Tensor:
    """Windows (B, C, T) read at places (B, S) in steps, between two steps on the line through them; beyond an end, the end's value.

    >>> read_at(torch.tensor([[[0.0, 10.0]]]), torch.tensor([[-1.0, 0.25, 1.0]])).tolist()
    [[[0.0, 2.5, 10.0]]]
    """
    last = data.shape[2] - 1
    places = places.clamp(0, last)
    left = places.long().clamp(max=max(0, last - 1))
    share = (places - left)[:, None].to(data.dtype)
    right = (left + 1).clamp(max=last)
    before, after = data.take_along_dim(left[:, None], 2), data.take_along_dim(right[:, None], 2)
    return before + share * (after - before)


def at_least(value: float, least: float, what: str) -> float:
    """The value; raises UserError when it is below `least`."""
    if not value >= least:
        raise UserError(f"{what} must be {least:g} or more, and is {value:g}; choose a larger one")
    return value
