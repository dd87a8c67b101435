"""A network of dilated convolutions that gives every time step a representation: TS2Vec's.

Yue, Wang, Duan, Yang, Huang, Tong, Xu. TS2Vec: Towards Universal Representation of Time Series. AAAI 2022, arXiv 2106.10466.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, dropout, gelu

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.positions import grid_coordinates
from anyview.errors import UserError
from anyview.views.view import View
from anyview_timeseries.encoders import check_windows


class DilatedConvolution(Encoder):
    """Windows (B, C, T) of any length to a token of every step (B, T, dim); rows are the largest of each number over time.

    A linear layer at each step, to `hidden` numbers; steps that the view's mask hides become 0 there; then `depth` residual blocks of width
    `hidden` and a last one to `dim`, block i of two convolutions over three steps 2^i apart. A token sees 2^(depth + 3) - 3 steps.
    dropout: of tokens, in training. A step at which any channel is missing (NaN) is hidden as well; the caller's tensor stays as it is.

    Raises UserError for windows of another number of channels, and for sizes below 1.

    >>> encoding = DilatedConvolution(2, dim=16, hidden=8, depth=3)(View(torch.randn(4, 2, 50)))
    >>> encoding.tokens.shape, encoding.rows.shape
    (torch.Size([4, 50, 16]), torch.Size([4, 16]))
    """

    tokens = True

    def __init__(self, channels: int = 1, *, dim: int = 320, hidden: int = 64, depth: int = 10, dropout: float = 0.1) -> None:
        super().__init__()
        if min(channels, dim, hidden) < 1 or depth < 0 or not 0 <= dropout < 1:
            found = f"channels {channels}, dim {dim}, hidden {hidden}, depth {depth}, dropout {dropout:g}"
            raise UserError(f"dilated convolutions have sizes of 1 or more and a dropout from 0 to below 1, found {found}; choose others")
        self.channels, self.dim, self.dropout = channels, dim, dropout
        self.linear = nn.Linear(channels, hidden)
        widths = [hidden] * (depth + 1) + [dim]
        self.blocks = nn.Sequential(
            *(DilatedBlock(widths[i], widths[i + 1], dilation=2**i, projected=i == depth) for i in range(depth + 1))
        )

    def forward(self, view: View) -> Encoding:
        windows = check_windows(view.data, self.channels, "a DilatedConvolution").mT
        hidden = windows.isnan().any(2)
        if view.mask is not None:
            hidden = hidden | view.mask.hidden
        steps = self.linear(windows.masked_fill(windows.isnan(), 0.0)).masked_fill(hidden[..., None], 0.0)
        tokens = dropout(self.blocks(steps.mT), self.dropout, self.training).mT
        places = grid_coordinates((tokens.shape[1],), like=tokens).expand(len(tokens), -1, -1)
        return Encoding(tokens.amax(1), tokens=tokens, coordinates=places)

    @property
    def field(self) -> int:
        """How many steps a token sees."""
        return 2 ** (len(self.blocks) + 2) - 3


class DilatedBlock(nn.Module):
    """GELU and a dilated convolution over three steps, twice, beside a shortcut; (B, before, T) to (B, after, T).

    projected: whether the shortcut has weights even where the width stays.
    """

    def __init__(self, before: int, after: int, *, dilation: int, projected: bool = False) -> None:
        super().__init__()
        self.first = DilatedConv(before, after, dilation)
        self.second = DilatedConv(after, after, dilation)
        self.shortcut = nn.Conv1d(before, after, 1) if projected or before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(gelu(self.first(gelu(x)))) + self.shortcut(x)


class DilatedConv(nn.Conv1d):
    """A convolution over three steps, `dilation` apart, with zeros at both ends, (B, before, T) to (B, after, T).

    In windows no longer than the dilation only the middle weight meets a value; the others are then left out, which is the same number.
    """

    def __init__(self, before: int, after: int, dilation: int) -> None:
        super().__init__(before, after, 3, dilation=dilation, padding=dilation)

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[-1] > self.dilation[0]:
            return super().forward(input)
        return conv1d(input, self.weight[..., 1:2], self.bias)


@torch.no_grad()
def sliding_tokens(encoder: Encoder, windows: Tensor, past: int, *, batch_size: int = 256) -> Tensor:
    """The last token of the `past` steps before each step and the step itself, (B, T, D): what is known of a step when it comes.

    windows: (B, C, T). Steps before the first are missing (NaN). The encoder is in evaluation mode for it, and as before after it. Raises
    UserError for a past below 0.

    >>> encoder = DilatedConvolution(1, dim=8, hidden=8, depth=2)
    >>> sliding_tokens(encoder, torch.randn(3, 1, 20), past=5).shape
    torch.Size([3, 20, 8])
    """
    if past < 0:
        raise UserError(f"a step is told with the steps before it, and {past} of them were asked for; give 0 or more")
    samples, channels, steps = windows.shape
    padded = torch.cat([windows.new_full((samples, channels, past), torch.nan), windows], 2)
    pieces = padded.unfold(2, past + 1, 1).transpose(1, 2).reshape(samples * steps, channels, past + 1)
    training = encoder.training
    encoder.eval()
    try:
        found = []
        for piece in pieces.split(batch_size):
            tokens = encoder(View(piece, stream="time")).tokens
            assert tokens is not None, f"{type(encoder).__name__} returns no tokens"
            found.append(tokens[:, -1])
    finally:
        encoder.train(training)
    return torch.cat(found).view(samples, steps, -1)
