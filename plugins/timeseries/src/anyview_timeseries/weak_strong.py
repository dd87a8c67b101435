"""A weak and a strong view of a window, which TS-TCC contrasts.

Eldele, Ragab, Chen, Wu, Kwoh, Li, Guan. Time-Series Representation Learning via Temporal and Contextual Contrasting. IJCAI 2021,
arXiv 2106.14112.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.noise import Noise
from anyview.views.pair import Chain, Pair, Params, RecordedTransform
from anyview.views.view import ViewSet
from anyview_timeseries.augmentations import Permute, at_least

FactorOf = Literal["step", "channel"]


class NormalScale(RecordedTransform):
    """Windows (B, C, T) times factors from N(mean, deviation²): one for each step, all channels alike, or one for each channel.

    >>> NormalScale(2.0, 0.0)(torch.ones(1, 2, 3), Draws.seeded(0, total=1)).unique()
    tensor([2.])
    """

    def __init__(self, mean: float = 2.0, deviation: float = 1.1, of: FactorOf = "step") -> None:
        if of not in ("step", "channel"):
            raise UserError(f"windows are scaled by a factor for each 'step' or 'channel', and {of!r} was asked for; choose one")
        self.mean, self.deviation, self.of = mean, at_least(deviation, 0, "deviation"), of

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        shape = (1, data.shape[2]) if self.of == "step" else (data.shape[1], 1)
        drawn = (self.mean + self.deviation * draws.normal(*shape)).to(data)
        return data * drawn, {"scale": drawn.flatten(1)}


class WeakStrongPair(Pair):
    """A scaled view, then one whose pieces are put in a random order and get noise; both of the stream "time", drawn anew at each step.

    scale, deviation: of the factors, from a normal distribution. of: what has a factor of its own; "step" as published. segments: pieces
    of the strong view, at most; every channel keeps its own values. jitter: deviation of the strong view's noise, in the data's units.

    >>> views = WeakStrongPair()(Batch(torch.randn(4, 2, 50), 4), Draws.seeded(0, total=4)).views
    >>> [(view.stream, tuple(view.data.shape)) for view in views]
    [('time', (4, 2, 50)), ('time', (4, 2, 50))]
    """

    def __init__(
        self, *, scale: float = 2.0, deviation: float = 1.1, of: FactorOf = "step", segments: int = 7, jitter: float = 0.8
    ) -> None:
        super().__init__(NormalScale(scale, deviation, of), Chain(Permute(segments), Noise(at_least(jitter, 0, "jitter"))))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = super().__call__(batch, draws)
        return replace(views, views=[replace(view, stream="time") for view in views.views])
