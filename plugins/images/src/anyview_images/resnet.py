"""Residual networks for images of any size and number of channels.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. 2015, arXiv 1512.03385.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.norm import BatchNorm
from anyview.encoders.positions import grid_coordinates
from anyview.errors import UserError
from anyview.views.view import View

Stem = Literal["standard", "small", "strided"]

BLOCKS: dict[int, tuple[int, ...]] = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Residual blocks in each group, by depth; 50 has bottleneck blocks, which are four times as wide as their inner convolution."""


@dataclass(slots=True)
class MapEncoding(Encoding):
    """An encoding with the un-pooled `feature_map`, (B, D, h, w); the rows are its mean over places, tokens its places row by row."""

    feature_map: Tensor | None = None


class ResNet(Encoder):
    """A residual network; rows are the last feature map's mean over places.

    channels: of the images, which are (B, C, H, W), float. depth: 10, 18, 34 or 50. widths: of each group of blocks, up to four; the first
    group keeps the resolution of the stem, each other halves it. stem: "standard" 7 x 7 with stride 2 and max-pooling, for photographs;
    "small" 3 x 3 with stride 1, for images of 32 pixels or so; "strided" 3 x 3 with stride 2, for small images and little time. zero_init:
    every residual branch begins as zero, so that the network begins shallow. tokens: return the places of the last feature map as tokens
    too, (B, h·w, D) with their coordinates.

    The encoding is a MapEncoding; its `layers` are the means of each group's map, (B, width). Batch norm is over the rows of all ranks.
    Raises UserError for a depth that there is not and for widths that do not fit it, ValueError for a masked view: convolutions cannot
    leave places out.

    >>> ResNet(1, depth=10, widths=(16, 32), stem="strided")(View(torch.rand(4, 1, 28, 28))).rows.shape
    torch.Size([4, 32])
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        depth: Literal[10, 18, 34, 50] = 18,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        stem: Stem = "standard",
        zero_init: bool = False,
        tokens: bool = False,
    ) -> None:
        super().__init__()
        _check(channels, depth, widths)
        self.tokens = tokens
        block = Bottleneck if depth == 50 else BasicBlock
        self.stem = _stem(stem, channels, widths[0])
        self.groups = nn.ModuleList()
        before = widths[0]
        for number, (width, count) in enumerate(zip(widths, BLOCKS[depth], strict=False)):
            strides = [1 if number == 0 else 2] + [1] * (count - 1)
            inputs = [before] + [width * block.expansion] * (count - 1)
            self.groups.append(nn.Sequential(*(block(size, width, stride) for size, stride in zip(inputs, strides, strict=True))))
            before = width * block.expansion
        self.dim = before
        self._initialise(zero_init)

    def forward(self, view: View) -> MapEncoding:
        if view.mask is not None:
            raise ValueError("a masked view reached a residual network, which cannot leave places out; use a vision transformer")
        x = self.stem(view.data.contiguous(memory_format=torch.channels_last))
        layers = []
        for group in self.groups:
            x = group(x)
            layers.append(x.mean((2, 3)))
        if not self.tokens:
            return MapEncoding(layers[-1], layers=layers, feature_map=x)
        tokens = x.flatten(2).transpose(1, 2)
        places = grid_coordinates(x.shape[2:], like=x).expand(len(x), -1, -1)
        return MapEncoding(layers[-1], tokens=tokens, coordinates=places, layers=layers, feature_map=x)

    def _initialise(self, zero_init: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, BasicBlock | Bottleneck) and zero_init:
                nn.init.zeros_(module.last_norm.weight)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; (B, inputs, h, w) to (B, width, h / stride, w / stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_conv(inputs, width, 3, stride), BatchNorm(width), nn.ReLU(inplace=True), _conv(width, width, 3))
        self.last_norm = BatchNorm(width)
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return (self.last_norm(self.inner(x)) + self.shortcut(x)).relu_()


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of 1 x 1, beside a shortcut; (B, inputs, h, w) to (B, 4 width, h / stride, w / stride)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.inner = nn.Sequential(
            *(_conv(inputs, width, 1), BatchNorm(width), nn.ReLU(inplace=True)),
            *(_conv(width, width, 3, stride), BatchNorm(width), nn.ReLU(inplace=True)),
            _conv(width, outputs, 1),
        )
        self.last_norm = BatchNorm(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return (self.last_norm(self.inner(x)) + self.shortcut(x)).relu_()


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution of every `step`-th place in both directions: what one with that stride gives.

    oneDNN's own kernels for strides write outside of their memory in the backward pass of few channels that lie last (torch 2.13, some x86
    processors), which ends the process.

    >>> Pointwise(4, 8, step=2)(torch.rand(1, 4, 5, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(self, inputs: int, outputs: int, step: int = 1) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.step = step

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input[..., :: self.step, :: self.step])


def _stem(kind: Stem, channels: int, width: int) -> nn.Sequential:
    size, stride = (7, 2) if kind == "standard" else (3, 2 if kind == "strided" else 1)
    layers: list[nn.Module] = [_conv(channels, width, size, stride), BatchNorm(width), nn.ReLU(inplace=True)]
    if kind == "standard":
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(Pointwise(inputs, outputs, stride), BatchNorm(outputs))


def _check(channels: int, depth: int, widths: tuple[int, ...]) -> None:
    if depth not in BLOCKS:
        raise UserError(f"there is no residual network of depth {depth}; choose {', '.join(map(str, BLOCKS))}")
    if not 1 <= len(widths) <= len(BLOCKS[depth]) or min(widths) < 1 or channels < 1:
        found = f"{channels} channels and the widths {', '.join(map(str, widths)) or 'none'}"
        raise UserError(f"a residual network has 1 to 4 widths of at least 1, and at least one channel; found {found}")
