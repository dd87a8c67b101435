"""Two crops of a window that overlap in time, with steps hidden in each: TS2Vec's views."""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import Mask, Relation, View, ViewSet


class OverlappingCrops(ViewMaker):
    """Two crops of windows (B, C, T), of lengths that all samples share, from a place that each sample draws.

    A batch draws the length l of the overlap from [2, T], where it lies, how far the first crop goes on to the left and the second to the
    right; every sample then shifts both crops together, anywhere inside the window. The relation's matches (B, l, 2) are the steps of the
    overlap in both, "box" says where a crop lies. Steps are hidden with the probability `rate`, in each crop its own. longest: of a longer
    window only so many steps are cropped from, at a place drawn for each sample.

    Raises UserError for a rate that is no probability and for fewer than 2 steps.

    >>> views = OverlappingCrops()(Batch(torch.randn(3, 1, 40), 3), Draws.seeded(0, total=3))
    >>> steps, (first, second) = [view.data.shape[2] for view in views.views], views.relations[0].matches[0, 0].tolist()
    >>> second, steps[0] - first <= steps[1]  # the overlap begins the second crop and ends the first
    (0, True)
    """

    gives = Gives(views=2, masks=True, relations=True)

    def __init__(self, rate: float = 0.5, longest: int = 3000) -> None:
        if not 0 <= rate <= 1 or longest < 2:
            found = f"a rate of {rate:g} and {longest} steps"
            raise UserError(f"steps are hidden with a probability from 0 to 1, in crops of 2 steps or more, found {found}; choose others")
        self.rate, self.longest = rate, longest

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        whole = batch.data.shape[2]
        length = min(whole, self.longest)
        overlap = _between(min(2, length), length, draws)
        left = _between(0, length - overlap, draws)
        begin, end = _between(0, left, draws), _between(left + overlap, length, draws)
        shift = draws.integers(whole - (end - begin) + 1, 1)
        first = self._crop(batch, shift, left + overlap - begin, draws)
        second = self._crop(batch, shift + left - begin, end - left, draws)
        shared = torch.arange(overlap, device=batch.data.device)
        matches = torch.stack([shared + left - begin, shared], 1).expand(batch.rows, -1, -1)
        return ViewSet([first, second], [Relation(0, 1, matches=matches)], labels=batch.labels)

    def _crop(self, batch: Batch, start: Tensor, length: int, draws: Draws) -> View:
        """The steps start .. start + length of every sample; start: (B, 1)."""
        places = (start + torch.arange(length, device=start.device)).to(batch.data.device)
        data = batch.data.take_along_dim(places[:, None], 2)
        hidden = draws.bernoulli(self.rate, length).to(data.device)
        whole = batch.data.shape[2]
        box = torch.cat([start / whole, torch.full_like(start, length) / whole], 1).to(data.device)
        return View(data, stream="time", mask=Mask(hidden), params={"box": box}, index=batch.index, groups=batch.groups)


def _between(low: int, high: int, draws: Draws) -> int:
    """A whole number from low to high, both included, that all samples and ranks share."""
    return int(torch.randint(low, high + 1, (), generator=draws.generator, device=draws.device))
