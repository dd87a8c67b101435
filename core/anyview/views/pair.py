"""Two views of every sample, from one random transformation or from two."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from anyview.data.source import Batch
from anyview.views.draws import Draws
from anyview.views.maker import Gives, Transform, ViewMaker
from anyview.views.view import View, ViewSet

Params = dict[str, Tensor]


class RecordedTransform(ABC):
    """A Transform that tells what it drew, so that the view carries it."""

    @abstractmethod
    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        """The changed data (B, ...) and the parameters of the change, each (B, P)."""

    def __call__(self, data: Tensor, draws: Draws) -> Tensor:
        """The changed data alone."""
        return self.record(data, draws)[0]


class Chain(RecordedTransform):
    """Transforms one after the other; parameters of the same name are the last one's.

    >>> Chain(lambda x, draws: x + 1, lambda x, draws: 2 * x)(torch.zeros(2, 1), Draws.seeded(0, total=2)).tolist()
    [[2.0], [2.0]]
    """

    def __init__(self, *transforms: Transform) -> None:
        self.transforms = transforms

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        params: Params = {}
        for transform in self.transforms:
            data, drawn = apply(transform, data, draws)
            params.update(drawn)
        return data, params


class Pair(ViewMaker):
    """Two views: `first` and `second` of the same batch; with one transform, two independent draws of it.

    Data is a tensor (B, ...). Views keep the batch's index and groups, and the parameters that the transforms record.

    >>> draws = Draws.seeded(0, total=4)
    >>> [view.data.shape for view in Pair(lambda x, draws: x + draws.normal(3))(Batch(torch.zeros(4, 3), 4), draws).views]
    [torch.Size([4, 3]), torch.Size([4, 3])]
    """

    gives = Gives(views=2)

    def __init__(self, first: Transform, second: Transform | None = None) -> None:
        self.first, self.second = first, second or first

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([transformed(batch, transform, draws) for transform in (self.first, self.second)], labels=batch.labels)


def transformed(batch: Batch, transform: Transform, draws: Draws) -> View:
    """The view of a batch that a transform makes, with the batch's index and groups and the transform's parameters."""
    data, params = apply(transform, batch.data, draws)
    return View(data, params=params or None, index=batch.index, groups=batch.groups)


def apply(transform: Transform, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
    """The changed data and what the transform records about the change; nothing where it records nothing."""
    if isinstance(transform, RecordedTransform):
        return transform.record(data, draws)
    return transform(data, draws), {}
