"""Views that are stretches of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives
from anyview.views.pair import Pair, Params, RecordedTransform
from anyview.views.view import Relation, ViewSet


class Crop(RecordedTransform):
    """Cuts a random stretch of consecutive positions out of every sample; records its "start" (B, 1).

    share: length of the stretch as a share of the axis, above 0 and at most 1 (at least one position is kept). length: the same in
    positions, instead of the share. axis: which axis is the sequence: 1 for (B, N, ...), -1 for (B, channels, length). Raises UserError
    when the stretch is longer than the axis.

    >>> Crop(length=3)(torch.arange(10.0).expand(2, 10), Draws.seeded(0, total=2)).diff(dim=1).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """

    def __init__(self, share: float = 0.5, *, length: int | None = None, axis: int = -1) -> None:
        if length is None and not 0 < share <= 1:
            raise UserError(
                f"a crop keeps a share above 0 and at most 1 of a sequence, and {share:g} was asked for; give one in that range"
            )
        self.share, self.length, self.axis = share, length, axis

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        positions = data.shape[self.axis]
        length = self.length or max(1, round(self.share * positions))
        if length > positions:
            raise UserError(f"a crop of {length} positions was asked for, and the sequence has {positions}; choose a shorter crop")
        start = (draws.uniform(1) * (positions - length + 1)).long()
        return cut(data, start, length, self.axis), {"start": start}


class CropPair(Pair):
    """Two random stretches of every sequence, related by the positions that both show.

    share, length, axis: as in Crop. The one relation, from the first view to the second, has `matches` (B, length, 2).
    """

    gives = Gives(views=2, relations=True)

    def __init__(self, share: float = 0.5, *, length: int | None = None, axis: int = -1) -> None:
        self.axis = axis
        super().__init__(Crop(share, length=length, axis=axis))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = super().__call__(batch, draws)
        first, second = views.views
        assert first.params is not None
        assert second.params is not None
        matches = overlap(first.params["start"], second.params["start"], first.data.shape[self.axis])
        views.relations = [Relation(0, 1, matches=matches)]
        return views


def cut(data: Tensor, start: Tensor, length: int, axis: int) -> Tensor:
    """The `length` positions from `start` on along an axis; data: (B, ...), start: (B, 1)."""
    sequence = data.movedim(axis, 1)
    samples = torch.arange(len(data), device=data.device)[:, None]
    return sequence[samples, start + torch.arange(length, device=data.device)].movedim(1, axis)


def overlap(first: Tensor, second: Tensor, length: int) -> Tensor:
    """Pairs of positions in two crops that show the same place, (B, length, 2), and -1 where the second crop does not show it.

    first, second: (B, 1) starts of two crops of equal length.

    >>> overlap(torch.tensor([[0]]), torch.tensor([[1]]), 3).tolist()
    [[[-1, -1], [1, 0], [2, 1]]]
    """
    own = torch.arange(length, device=first.device).expand(len(first), length)
    theirs = own + first - second
    seen = (theirs >= 0) & (theirs < length)
    return torch.stack([own, theirs], dim=2).masked_fill(~seen[..., None], -1)
