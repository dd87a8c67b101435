"""Objectives between the views of a window: contrast of every pair, any objective on every pair, and mappers that imitate.

Demirel, Holz. Learning Without Augmenting: Unsupervised Time Series Representation Learning via Frame Projections. 2025, arXiv 2510.22655.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations

import torch
from torch import Tensor, nn

from anyview.distributed import gather_rows, ranks
from anyview.encoders.encoder import Encoder
from anyview.encoders.heads import mlp
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.contrast import unit
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.simclr import simclr_loss
from anyview.views.view import View, ViewSet
from anyview_timeseries.mappers import Mapper


def pairwise_contrast(rows: Sequence[Tensor], temperature: float = 0.15) -> Tensor:
    """The sum of NT-Xent over every pair of views.

    rows: of each view (M, D), row i of all from the same sample, on any scale. Of V views that are all alike it is
    V (V - 1) / 2 times log(2M - 1). Raises ValueError for a single sample.

    >>> round(float(pairwise_contrast([torch.ones(8, 4)] * 3) / math.log(15)), 4)
    3.0
    """
    return torch.stack([simclr_loss(a, b, temperature) for a, b in combinations(rows, 2)]).sum()


def imitation(mapped: Tensor, rows: Tensor) -> Tensor:
    """The mean absolute difference of rows (M, D) from what a mapper made in their place.

    >>> float(imitation(torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [0.0, 2.0]])))
    1.0
    """
    return (mapped - rows).abs().mean()


class FrameContrast(Objective):
    """Every view of a window finds every other among the views of all windows, and small mappers imitate the others from the first.

    dim: width of the encoders' rows. hidden, width: of the projectors' two layers; every stream has its own. temperature: what cosines are
    divided by. mapper_width: channels within a mapper. mapper_weight: of the mappers' errors, which also move the encoders; None: 1 over
    the rows of the batch, as published, which makes them nearly inert; 0: no mappers.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)
    place: Tensor

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 128,
        width: int = 128,
        temperature: float = 0.15,
        mapper_width: int = 64,
        mapper_weight: float | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.hidden, self.width, self.temperature = dim, hidden, width, temperature
        self.mapper_width, self.mapper_weight = mapper_width, mapper_weight
        self.projectors, self.mappers = nn.ModuleDict(), nn.ModuleList()
        self.register_buffer("place", torch.empty(0), persistent=False)
        self.pairs = 1
        if mapper_weight != 0:
            Mapper(width, mapper_width)  # refuses a width that it cannot map, before there is any data

    def prepare(self, views: ViewSet, samples: int) -> None:
        shown = views.seen_whole
        self.pairs = math.comb(len(shown), 2)
        for view in shown:
            if view.stream not in self.projectors:
                self.projectors[view.stream] = mlp(self.dim, self.hidden, self.width, norm=False)
        if self.mapper_weight != 0:
            self.mappers.extend(Mapper(self.width, self.mapper_width) for _ in shown[1:])
        self.to(self.place.device)

    def forward(self, step: Step) -> Losses:
        rows = [gather_rows(self.projectors[view.stream](step.encode(view).rows)) for view in step.seen_whole]
        losses = Losses(contrast=pairwise_contrast(rows, self.temperature))
        if self.mappers:
            first, *others = (unit(row) for row in rows)
            errors = [imitation(mapper(first), other) for mapper, other in zip(self.mappers, others, strict=True)]
            weight = 1 / len(first) if self.mapper_weight is None else self.mapper_weight
            losses["mappers"] = weight * torch.stack(errors).sum()
        return losses

    def collapse_line(self, rows: int) -> float:
        return self.pairs * math.log(2 * rows - 1)


class EachPair(Objective):
    """Any objective of two views, once for every pair of them, each with heads and state of its own; terms are summed over the pairs.

    make: makes one. views: how many there are. With a teacher, which all pairs share, a pair is taken in both orders: such objectives may
    train the first view's encoder alone.
    """

    def __init__(self, make: Callable[[], Objective], views: int) -> None:
        super().__init__()
        first = make()
        self.pairs = list((permutations if first.needs.teacher else combinations)(range(views), 2))
        self.objectives = nn.ModuleList([first, *(make() for _ in self.pairs[1:])])
        self.needs, self.tags, self.momentum = first.needs, first.tags, first.momentum
        self._shown: dict[int, tuple[Step, list[Step]]] = {}

    def prepare(self, views: ViewSet, samples: int) -> None:
        for objective, pair in zip(self._each, self.pairs, strict=True):
            objective.prepare(_pair(views, pair), samples)

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        for objective, pair in zip(self._each, self.pairs, strict=True):
            objective.before_epoch(epoch, lambda pair=pair: (_of_pair(step, pair) for step in look()))  # type: ignore[misc]

    def forward(self, step: Step) -> Losses:
        losses, parts = Losses(), [_of_pair(step, pair) for pair in self.pairs]
        self._shown = {id(step): (step, parts), **(self._shown if self.training else {})}  # objectives know a step again by what it is
        for objective, part in zip(self._each, parts, strict=True):
            found = objective(part)
            for name, term in found.items():
                losses[name] = losses[name] + term if name in losses else term
            losses.monitors |= found.monitors
        return losses

    def collapse_line(self, rows: int) -> float | None:
        lines = [objective.collapse_line(rows) for objective in self._each]
        known = [line for line in lines if line is not None]
        return sum(known) if len(known) == len(lines) else None

    def after_step(self, step: Step) -> None:
        _, parts = self._shown.pop(id(step))
        for objective, part in zip(self._each, parts, strict=True):
            objective.after_step(part)

    def make_teacher(self, encoder: Encoder) -> MovingAverage:
        return self._each[0].make_teacher(encoder)

    @property
    def _each(self) -> list[Objective]:
        return [objective for objective in self.objectives if isinstance(objective, Objective)]


def _pair(views: ViewSet, pair: tuple[int, int]) -> ViewSet:
    return replace(views, views=[views.views[position] for position in pair], relations=())


def _of_pair(step: Step, pair: tuple[int, int]) -> Step:
    """The step as it is for two of its views; encodings stay shared."""
    return replace(step, set=_pair(step.set, pair))


REMEMBERED = 2**27
"""Most numbers of frozen encoders' rows that are kept from one epoch to the next."""


class ImitateFrames(Objective):
    """Mappers learn the rows of every other view's encoder from those of the first, and the encoders, which are frozen, learn nothing.

    mappers: one for each view but the first, by its stream; whoever embeds with them holds the same. As frozen encoders give the same rows
    in every epoch, one process makes the rows of samples that have an index once.
    """

    needs = Needs(views=2)
    rows: Tensor
    known: Tensor

    def __init__(self, dim: int, mappers: dict[str, Mapper]) -> None:
        super().__init__()
        self.dim, self.mappers = dim, nn.ModuleDict(mappers)
        self.register_buffer("rows", torch.empty(0))
        self.register_buffer("known", torch.empty(0, dtype=torch.bool))

    def prepare(self, views: ViewSet, samples: int) -> None:
        fits = samples * len(views.views) * self.dim <= REMEMBERED
        kept = samples if fits and ranks() == 1 else 0  # ranks see other samples in each epoch, and must encode in step
        self.rows = self.rows.new_zeros(kept, len(views.views), self.dim)
        self.known = self.known.new_zeros(kept)

    def forward(self, step: Step) -> Losses:
        rows = gather_rows(self._rows(step)).unbind(1)
        streams = [view.stream for view in step.views]
        errors = [imitation(self.mappers[name](rows[0]), other) for name, other in zip(streams[1:], rows[1:], strict=True)]
        return Losses({f"imitation of {name}": error for name, error in zip(streams[1:], errors, strict=True)})

    @torch.no_grad()
    def _rows(self, step: Step) -> Tensor:
        """The rows of every view, (B, V, D), remembered or made."""
        index = step.views[0].index
        if index is None or not len(self.known):
            return self._encoded(step, step.views)
        if not self.known[index].all():
            self.rows[index], self.known[index] = self._encoded(step, step.views).to(self.rows), True
        return self.rows[index]

    def _encoded(self, step: Step, views: Sequence[View]) -> Tensor:
        return torch.stack([step.encode(view).rows for view in views], dim=1)
