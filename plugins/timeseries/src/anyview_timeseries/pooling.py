"""From a map with positions to one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from anyview.errors import UserError

PoolKind = Literal["positions", "mean", "attention"]


class Pool(nn.Module):
    """Maps (B, D, ...) to rows (B, D).

    kind: "positions" is a learned linear layer over each axis in turn, the last first, for maps of `sizes` positions alone; "mean" and
    "attention" (weights by a softmax over positions of one learned linear score) take any. sizes: positions of each axis.
    Raises UserError for another kind, and where a map has other sizes than the linear layers.

    >>> from torch import randn
    >>> Pool("positions", 8, (6, 25))(randn(2, 8, 6, 25)).shape, Pool("attention", 8)(randn(2, 8, 9)).shape
    (torch.Size([2, 8]), torch.Size([2, 8]))
    """

    def __init__(self, kind: PoolKind, width: int, sizes: Sequence[int] = ()) -> None:
        super().__init__()
        if kind not in ("positions", "mean", "attention"):
            raise UserError(f"positions are pooled by 'positions', 'mean' or 'attention', and {kind!r} was asked for; choose one")
        self.kind, self.sizes = kind, tuple(sizes)
        self.axes = nn.ModuleList(nn.Linear(size, 1) for size in sizes) if kind == "positions" else None
        self.score = nn.Linear(width, 1) if kind == "attention" else None

    def forward(self, maps: Tensor) -> Tensor:
        if self.axes is not None:
            return self._by_position(maps)
        cells = maps.flatten(2)
        if self.score is None:
            return cells.mean(2)
        weights = self.score(cells.mT).softmax(1)
        return (cells @ weights)[..., 0]

    def _by_position(self, maps: Tensor) -> Tensor:
        if tuple(maps.shape[2:]) != self.sizes:
            made = f"positions are weighed by linear layers for {self.sizes}, and a map has {tuple(maps.shape[2:])}"
            raise UserError(f"{made}; give windows of the length that the encoder was made for, or pool by 'mean' or 'attention'")
        for layer in reversed(list(self.axes or ())):
            maps = layer(maps)[..., 0]
        return maps
