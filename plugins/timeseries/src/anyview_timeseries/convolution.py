"""The convolutional network of TS-TCC: three blocks, a token for every eighth step.

Eldele, Ragab, Chen, Wu, Kwoh, Li, Guan. Time-Series Representation Learning via Temporal and Contextual Contrasting. IJCAI 2021,
arXiv 2106.14112.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, relu

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.norm import BatchNorm
from anyview.encoders.positions import grid_coordinates
from anyview.errors import UserError
from anyview.views.view import View
from anyview_timeseries.encoders import check_windows


class ConvNet1d(Encoder):
    """Windows (B, C, T) of any length to tokens (B, T', dim), one for about every 8 steps (18 for 128); rows are their means.

    Three blocks of convolution, batch norm over all ranks, ReLU and the larger of two neighbours, of widths dim / 4, dim / 2 and dim.
    kernel: steps that a convolution sees. stride: of the first. dropout: after the first block.

    Raises UserError for windows of another number of channels and for sizes that are out of range, ValueError for masked views.

    >>> encoding = ConvNet1d(9)(View(torch.randn(4, 9, 128)))
    >>> encoding.rows.shape, encoding.tokens.shape
    (torch.Size([4, 128]), torch.Size([4, 18, 128]))
    """

    tokens = True

    def __init__(self, channels: int = 1, *, dim: int = 128, kernel: int = 8, stride: int = 1, dropout: float = 0.35) -> None:
        super().__init__()
        if min(channels, kernel, stride) < 1 or dim < 4 or dim % 4 or not 0 <= dropout < 1:
            found = f"channels {channels}, dim {dim}, kernel {kernel}, stride {stride}, dropout {dropout:g}"
            raise UserError(f"a convolutional network has sizes of 1 or more, a dim that 4 divides and a dropout below 1, found {found}")
        self.channels, self.dim = channels, dim
        widths = [channels, dim // 4, dim // 2, dim]
        self.blocks = nn.ModuleList(
            ConvBlock(widths[i], widths[i + 1], kernel, stride if i == 0 else 1, dropout if i == 0 else 0.0) for i in range(3)
        )

    def forward(self, view: View) -> Encoding:
        if view.mask is not None:
            raise ValueError("a masked view reached a convolutional network, which cannot leave places out; use a transformer")
        x = check_windows(view.data, self.channels, "a ConvNet1d")
        for block in self.blocks:
            x = block(x)
        places = grid_coordinates((x.shape[2],), like=x).expand(len(x), -1, -1)
        return Encoding(x.mean(2), tokens=x.mT, coordinates=places)


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU, the larger of two neighbours, dropout; (B, before, T) to about half the steps."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = BatchNorm(after)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.dropout(max_pool1d(relu(self.norm(self.conv(x))), 2, padding=1))
        return pooled


class FlatTokens(Encoder):
    """Another encoder's tokens one after the other as rows (B, N D), which linear probes were published on; for one length alone.

    encoder: returns tokens. length: steps of the windows. channels: of the windows. Raises UserError for windows of another length.

    >>> FlatTokens(ConvNet1d(1), 1, 128)(View(torch.randn(4, 1, 128))).rows.shape
    torch.Size([4, 2304])
    """

    tokens = True

    def __init__(self, encoder: Encoder, channels: int, length: int) -> None:
        super().__init__()
        self.encoder, self.length = encoder, length
        self.dim = encoder.dim * _tokens_of(encoder, channels, length)

    def forward(self, view: View) -> Encoding:
        if view.data.shape[2] != self.length:
            asked = f"windows of {view.data.shape[2]} steps were to be embedded, and rows hold the tokens of {self.length}"
            raise UserError(f"{asked}; give windows of that length, or train with --pool mean")
        encoding: Encoding = self.encoder(view)
        assert encoding.tokens is not None
        encoding.rows = encoding.tokens.flatten(1)
        return encoding


@torch.no_grad()
def _tokens_of(encoder: Encoder, channels: int, length: int) -> int:
    """How many tokens the encoder makes of a window."""
    training = encoder.training
    tokens = encoder.eval()(View(torch.zeros(1, channels, length), stream="time")).tokens
    encoder.train(training)
    assert tokens is not None, f"{type(encoder).__name__} returns no tokens"
    return int(tokens.shape[1])
