"""Encoders of windows (B, C, T) of any length: a residual network and a transformer over patches of time."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import dropout, max_pool1d, pad, relu

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.norm import BatchNorm
from anyview.encoders.positions import grid_coordinates
from anyview.encoders.transformer import Pool, TokenTransformer
from anyview.errors import UserError
from anyview.views.view import View


class ResNet1d(Encoder):
    """The residual network of frame projections: pre-activation blocks of two convolutions over time, and the mean over time.

    Hong, Zhou, Shang, Xiao, Sun. Opportunities and Challenges of Deep Learning Methods for Electrocardiogram Data. 2020, and Demirel, Holz.
    2025, arXiv 2510.22655, whose sizes are the defaults: 205,440 weights for one channel (published as 205,504, with the 64 of a norm that
    is never called).

    channels: C. dim: of the rows. width: channels of the first half of the blocks; the second half has twice as many. blocks: how many;
    every second one halves the time. kernel: steps that a convolution sees. dropout: before every convolution of a block but the first.
    stride: of the first convolution; 1 as published, more is faster. tokens: return every place of the last map as a token too.

    Batch norm is over the rows of all ranks. Raises UserError for windows of another number of channels, ValueError for masked views.

    >>> ResNet1d(3)(View(torch.randn(4, 3, 50))).rows.shape
    torch.Size([4, 128])
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        dim: int = 128,
        width: int = 32,
        blocks: int = 8,
        kernel: int = 5,
        dropout: float = 0.5,
        stride: int = 1,
        tokens: bool = False,
    ) -> None:
        super().__init__()
        if min(dim, width, blocks, kernel, stride) < 1 or not 0 <= dropout < 1:
            found = f"dim {dim}, width {width}, blocks {blocks}, kernel {kernel}, stride {stride}, dropout {dropout:g}"
            raise UserError(f"a residual network has sizes of 1 or more and a dropout from 0 to below 1, found {found}; choose others")
        self.channels, self.dim, self.tokens = channels, dim, tokens
        self.stem = nn.Sequential(SameConv(channels, width, kernel, stride), BatchNorm(width), nn.ReLU())
        widths = [width] * ((blocks + 1) // 2) + [2 * width] * (blocks // 2)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after, kernel, stride=1 + number % 2, dropout=dropout, first=number == 0)
            for number, (before, after) in enumerate(zip([width, *widths], widths, strict=False))
        )
        self.norm = BatchNorm(widths[-1])
        self.linear = nn.Linear(widths[-1], dim)

    def forward(self, view: View) -> Encoding:
        if view.mask is not None:
            raise ValueError("a masked view reached a residual network, which cannot leave places out; use a transformer")
        x = self.stem(check_windows(view.data, self.channels, "a ResNet1d"))
        for block in self.blocks:
            x = block(x)
        x = relu(self.norm(x))
        if not self.tokens:
            return Encoding(self.linear(x.mean(2)))
        tokens = self.linear(x.mT)
        places = grid_coordinates((tokens.shape[1],), like=tokens).expand(len(tokens), -1, -1)
        return Encoding(tokens.mean(1), tokens=tokens, coordinates=places)


class ResidualBlock(nn.Module):
    """[norm, ReLU, dropout, convolution] twice beside a shortcut, (B, before, T) to (B, after, ceil(T / stride)).

    The shortcut takes the larger of neighbours where the stride is 2, and fills new channels with zeros, half on each side. first: without
    the first norm, ReLU and dropout. norm: with batch norms.
    """

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, dropout: float = 0.0, first: bool = False, norm: bool = True
    ) -> None:
        super().__init__()
        self.stride, self.dropout, self.first, self.added = stride, dropout, first, after - before
        self.first_norm = BatchNorm(before) if norm and not first else nn.Identity()
        self.first_conv = SameConv(before, after, kernel, stride)
        self.second_norm = BatchNorm(after) if norm else nn.Identity()
        self.second_conv = SameConv(after, after, kernel)

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.first else dropout(relu(self.first_norm(x)), self.dropout, self.training)
        inner = self.first_conv(inner)
        inner = self.second_conv(dropout(relu(self.second_norm(inner)), self.dropout, self.training))
        shortcut = x if self.stride == 1 else max_pool1d(x, self.stride, ceil_mode=True)
        if self.added:
            shortcut = pad(shortcut, (0, 0, self.added // 2, self.added - self.added // 2))
        return inner + shortcut


class SameConv(nn.Conv1d):
    """A convolution (B, inputs, T) to (B, outputs, ceil(T / stride)): zeros on both sides, an odd one on the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride)

    def forward(self, input: Tensor) -> Tensor:
        length, (kernel,), (stride,) = input.shape[-1], self.kernel_size, self.stride
        zeros = max(0, ((length + stride - 1) // stride - 1) * stride + kernel - length)
        if zeros % 2:
            return super().forward(pad(input, (zeros // 2, zeros - zeros // 2)))
        return nn.functional.conv1d(input, self.weight, self.bias, stride, zeros // 2)


class PatchTransformer(TokenTransformer):
    """A transformer whose tokens are patches of time; the last patch is filled up with zeros.

    channels: C. patch: steps of a token. dim, depth, heads, ratio: of tokens, blocks and attention. pool, masked: see TokenTransformer.
    Raises UserError for windows of another number of channels.

    >>> encoding = PatchTransformer(2, patch=8, dim=16, depth=1, heads=2)(View(torch.randn(4, 2, 50)))
    >>> encoding.rows.shape, encoding.tokens.shape
    (torch.Size([4, 16]), torch.Size([4, 7, 16]))
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        patch: int = 8,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
        ratio: float = 2.0,
        pool: Pool = "mean",
        masked: bool = False,
    ) -> None:
        if patch < 1:
            raise UserError(f"a token is made of 1 step of time or more, and a patch of {patch} was asked for; choose a longer one")
        super().__init__(nn.Linear(channels * patch, dim), depth=depth, heads=heads, ratio=ratio, pool=pool, masked=masked)
        self.channels, self.patch = channels, patch

    def embed(self, data: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        windows = check_windows(data, self.channels, "a PatchTransformer")
        padded = pad(windows, (0, -windows.shape[-1] % self.patch))
        patches = padded.unflatten(-1, (-1, self.patch)).transpose(1, 2).flatten(2)
        return self.linear(patches), (patches.shape[1],)


def check_windows(data: Tensor, channels: int, name: str) -> Tensor:
    """Windows (B, channels, T) as they are; raises UserError for anything else."""
    if not isinstance(data, Tensor) or data.ndim != 3 or data.shape[1] != channels:
        found = tuple(data.shape) if isinstance(data, Tensor) else type(data).__name__
        raise UserError(f"{name} reads windows (B, {channels}, T), and the view's data is {found}; give windows of {channels} channels")
    return data
