"""Views that differ by Gaussian noise."""

from __future__ import annotations

from torch import Tensor

from anyview.views.draws import Draws
from anyview.views.pair import Pair, Params, RecordedTransform


class Noise(RecordedTransform):
    """Adds Gaussian noise to every number; its standard deviation, "std" (B, 1), is drawn per sample from [least, most].

    most: standard deviation, in the data's units. least: the same as `most` unless given.

    >>> Noise(0.1)(torch.zeros(1000, 10), Draws.seeded(0, total=1000)).std().round(decimals=2)
    tensor(0.1000)
    """

    def __init__(self, most: float, least: float | None = None) -> None:
        self.most, self.least = most, most if least is None else least

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        std = self.least + (self.most - self.least) * draws.uniform(1)
        noise = draws.normal(*data.shape[1:])
        return data + (std.view(-1, *[1] * (data.ndim - 1)) * noise).to(data), {"std": std}


class NoisePair(Pair):
    """Two views of rows or tensors (B, ...), each with Gaussian noise of its own.

    std: standard deviation of the noise, in the data's units. least: draw it per sample from [least, std] instead.
    """

    def __init__(self, std: float = 0.1, least: float | None = None) -> None:
        super().__init__(Noise(std, least))
