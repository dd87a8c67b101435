"""Small maps from the time encoder's rows to those of another view, and the encoder that needs nothing else at inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.views.view import View


class Mapper(nn.Module):
    """Rows (M, width) to rows (M, width): as a signal of one channel through a convolution that halves it and one that doubles it.

    width: even. hidden: channels between the two; 64 has 449 weights, 1 has 8. Raises UserError for an odd width.

    >>> Mapper(16)(torch.randn(4, 16)).shape
    torch.Size([4, 16])
    """

    def __init__(self, width: int, hidden: int = 1) -> None:
        super().__init__()
        if width % 2 or width < 2:
            raise UserError(f"a mapper halves rows and doubles them again, and they are {width} wide; choose an even dim")
        self.down = nn.Conv1d(1, hidden, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(hidden, 1, 3, stride=2, padding=1, output_padding=1)

    def forward(self, rows: Tensor) -> Tensor:
        mapped: Tensor = self.up(self.down(rows[:, None]).relu())
        return mapped[:, 0]


class MappedTime(Encoder):
    """The time encoder's rows h, between what mappers make of them: [g_1(h), h, g_2(h), ...], (B, (1 + frames) D).

    time: the encoder of windows. mappers: one for each frame, by its name. The encoding's `layers` is [h], and `own` says where h stands.

    >>> from anyview_timeseries.encoders import ResNet1d
    >>> encoder = MappedTime(ResNet1d(1, dim=8, width=4), {"fourier": Mapper(8), "morlet": Mapper(8)})
    >>> encoding = encoder.eval()(View(torch.randn(3, 1, 20)))
    >>> encoding.rows.shape, torch.equal(encoding.rows[:, encoder.own], encoding.layers[0])
    (torch.Size([3, 24]), True)
    """

    def __init__(self, time: Encoder, mappers: dict[str, Mapper]) -> None:
        super().__init__()
        self.time, self.mappers = time, nn.ModuleDict(mappers)
        self.dim = time.dim * (1 + len(mappers))
        self.own = slice(time.dim, 2 * time.dim)

    def forward(self, view: View) -> Encoding:
        rows = self.time(view).rows
        first, *others = (mapper(rows) for mapper in self.mappers.values())
        return Encoding(torch.cat([first, rows, *others], dim=1), layers=[rows])
