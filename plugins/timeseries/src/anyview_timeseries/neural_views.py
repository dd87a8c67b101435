"""Views of neural activity: silenced neurons and noise, the same for two moments of a trial, and views of other trials to mine among.

Azabou et al. Mine Your Own vieW: Self-Supervised Learning Through Across-Sample Prediction. 2021, arXiv 2102.10106.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet


class NeuralViews(ViewMaker):
    """Two windows of one trial as views, and a batch's "queries" and "candidates" as extra views; each (B, C, T), z-scored rates.

    A view's neurons fall silent, all T steps of a neuron together, with a probability drawn per sample from [0, dropout); that happens to a
    share `dropout_rate` of the samples. Then Gaussian noise of standard deviation `noise` is added, and with the probability `pepper` the
    number `grain` to single values. structured: both views of the pair get one and the same draw of all that, so that only the time
    between them tells them apart.

    silent: (C,) what a z-scored rate of 0 is, -mean / deviation; None where data are not z-scored: 0. mined: whether the batch has queries
    and candidates. Raises UserError for numbers out of range.

    >>> batch = Batch(torch.zeros(4, 9, 1), 4, extras={"partner": Batch(torch.ones(4, 9, 1), 4)})
    >>> first, second = NeuralViews(mined=False)(batch, Draws.seeded(0, total=4)).views
    >>> sorted((second.data - first.data).round().unique().tolist())  # a neuron that is silent is so in both
    [0.0, 1.0]
    """

    gives = Gives(views=2, groups=("trial",), extras=("queries", "candidates"))

    def __init__(
        self,
        silent: Tensor | None = None,
        *,
        dropout: float = 0.8,
        dropout_rate: float = 0.9,
        noise: float = 0.2,
        pepper: float = 0.0,
        grain: float = 0.3,
        structured: bool = True,
        mined: bool = True,
    ) -> None:
        if not (0 <= dropout <= 1 and 0 <= dropout_rate <= 1 and 0 <= pepper <= 1 and noise >= 0):
            found = f"dropout {dropout:g}, dropout rate {dropout_rate:g}, pepper {pepper:g}, noise {noise:g}"
            raise UserError(f"neurons fall silent with a probability from 0 to 1 and noise has a deviation of 0 or more, found {found}")
        self.silent, self.dropout, self.dropout_rate = silent, dropout, dropout_rate
        self.noise, self.pepper, self.grain, self.structured = noise, pepper, grain, structured
        self.gives = NeuralViews.gives if mined else Gives(views=2, groups=("trial",))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        pair = [batch, batch.extras["partner"]]
        first, second = self._pair([part.data for part in pair], draws)
        views = [_view(data, part) for data, part in zip((first, second), pair, strict=True)]
        extras = {name: self._extra(batch.extras[name], draws) for name in self.gives.extras}
        return ViewSet(views, labels=batch.labels, extras=extras)

    def _pair(self, windows: list[Tensor], draws: Draws) -> tuple[Tensor, Tensor]:
        if not self.structured:
            first, second = (self._changed(each[None], draws)[0] for each in windows)
            return first, second
        both = self._changed(torch.stack(windows), draws)
        return both[0], both[1]

    def _extra(self, part: Batch, draws: Draws) -> View:
        own = Draws(draws.generator, part.start, part.rows, part.total)
        return _view(self._changed(part.data[None], own)[0], part)

    def _changed(self, windows: Tensor, draws: Draws) -> Tensor:
        """Several windows of each sample, (V, B, C, T), all with one draw."""
        channels, length = windows.shape[2:]
        rate = self.dropout * draws.uniform(1, 1) * draws.bernoulli(self.dropout_rate, 1, 1)
        silenced = draws.uniform(channels, 1) < rate
        silent = torch.zeros((), device=windows.device) if self.silent is None else self.silent.to(windows.device)[:, None]
        windows = torch.where(silenced, silent.to(windows), windows) + (self.noise * draws.normal(channels, length)).to(windows)
        return windows + self.grain * draws.bernoulli(self.pepper, channels, length) if self.pepper else windows


def _view(data: Tensor, part: Batch) -> View:
    return View(data, stream="time", index=part.index, groups=part.groups)
