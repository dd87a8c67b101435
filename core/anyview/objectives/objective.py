"""Objectives: from views and their encodings to named losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError
from anyview.learning_rates import ParameterGroup
from anyview.schedules import Schedule
from anyview.views.draws import Draws
from anyview.views.maker import Gives
from anyview.views.view import Relation, View, ViewSet


@dataclass(frozen=True, slots=True)
class Needs:
    """What an objective asks of views and encoder; held against `Gives` before anything runs.

    views: the least number of `Step.seen_whole`. roles: roles that must occur. masks, targets, relations, labels: whether views or set
    must carry them. groups: group ids that must be there. extras: further views by name. data: what the views' data must be, for
    objectives that read it themselves ("tensor" to mix it, a plugin's "graph"); "" where only the encoder does. tokens: whether the
    encoder must return tokens.
    drops: whether hidden tokens are best left out rather than replaced (view makers that mask read it; see `Mask.drop`).
    teacher: whether a moving average of the encoder is wanted. index: whether samples need stable ids (per-sample state).
    couples_rows: whether the loss is a function of several rows together; then gradient accumulation is not a larger batch, one row is not
    enough, and per-sample gradients do not exist.
    """

    views: int = 1
    roles: tuple[str, ...] = ()
    masks: bool = False
    targets: bool = False
    relations: bool = False
    labels: bool = False
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    data: str = ""
    tokens: bool = False
    drops: bool = False
    teacher: bool = False
    index: bool = False
    couples_rows: bool = False

    def missing(self, gives: Gives, *, tokens: bool = True) -> list[str]:
        """What `gives` (and an encoder with or without tokens) lacks, as phrases; empty when everything is there.

        >>> Needs(views=2, masks=True).missing(Gives(views=1))
        ['2 views (there is 1)', 'masked views']
        """
        lacks = []
        if gives.views < self.views:
            lacks.append(f"{self.views} views (there {'is' if gives.views == 1 else 'are'} {gives.views})")
        lacks += [f"views of role {role!r}" for role in self.roles if role not in gives.roles]
        for name, phrase in {"masks": "masked views", "targets": "targets", "relations": "relations", "labels": "labels"}.items():
            if getattr(self, name) and not getattr(gives, name):
                lacks.append(phrase)
        lacks += [f"group ids {group!r}" for group in self.groups if group not in gives.groups]
        lacks += [f"extra views {extra!r}" for extra in self.extras if extra not in gives.extras]
        if self.data and self.data != gives.data:
            lacks.append(f"a {self.data} as a view's data (there it is a {gives.data})")
        if self.tokens and not tokens:
            lacks.append("an encoder that returns tokens")
        return lacks


class Losses(dict[str, Tensor]):
    """Named terms, each a scalar with gradient, weighted as the method publishes them; `monitors` are numbers to log, not to descend.

    >>> losses = Losses(invariance=torch.tensor(2.0), variance=torch.tensor(1.0))
    >>> float(losses.total)
    3.0
    """

    def __init__(
        self, terms: dict[str, Tensor] | None = None, *, monitors: dict[str, float | Tensor] | None = None, **more: Tensor
    ) -> None:
        super().__init__({**(terms or {}), **more})
        self.monitors = monitors or {}

    @property
    def total(self) -> Tensor:
        """The sum of the terms."""
        return torch.stack(list(self.values())).sum()


@dataclass(slots=True)
class Step:
    """What an objective is given for one batch.

    views, relations, labels, extras: the view set's. batch: the raw batch. draws: the step's random numbers. number, steps: which step of
    how many in this stage. epochs: how many the stage has. encoder: the student. teacher: the moving average or frozen teacher, if there
    is one.
    memo: encodings of this step, shared by the tasks that show the same views to the same branch.
    """

    set: ViewSet
    batch: Any
    draws: Draws
    number: int
    steps: int
    encoder: Encoder
    teacher: nn.Module | None = None
    memo: dict[tuple[int, int], tuple[View, Encoding]] = field(default_factory=dict)
    epochs: int = 1

    @property
    def views(self) -> list[View]:
        """The set's views."""
        return self.set.views

    @property
    def seen_whole(self) -> list[View]:
        """The views of role "global", or of role "view" where there are none."""
        return self.set.seen_whole

    @property
    def crops(self) -> list[View]:
        """The views that are seen whole, then those of role "local"."""
        return [*self.set.seen_whole, *self.set.role("local")]

    @property
    def relations(self) -> Sequence[Relation]:
        """The set's relations."""
        return self.set.relations

    @property
    def labels(self) -> Any:
        """The set's labels."""
        return self.set.labels

    @property
    def extras(self) -> dict[str, View]:
        """Views beside the batch's own."""
        return self.set.extras

    @property
    def generator(self) -> torch.Generator:
        """The step's generator, in one state on every rank: for what all rows share."""
        return self.draws.generator

    @property
    def progress(self) -> float:
        """Share of the stage that is done, 0 to 1, for ramps."""
        return self.number / max(1, self.steps)

    @property
    def epoch(self) -> float:
        """Passes over the data that are done, from 0, for what papers schedule by epoch."""
        return self.progress * self.epochs

    def encode(self, view: View, teacher: bool = False) -> Encoding:
        """The view's encoding by the student or the teacher; each view is encoded once per step and branch.

        Any view may be shown, also one that the objective has just mixed, mined or built. Raises UserError when a teacher is asked for
        and there is none.
        """
        module = self.teacher if teacher else self.encoder
        if module is None:
            asked = "an objective asked for a teacher's encoding, and its task has no teacher"
            raise UserError(f"{asked}; set needs.teacher or give the task one")
        key = (id(view), id(module))
        if key not in self.memo:
            self.memo[key] = (view, module(view))  # the view is kept, so that its id is not given to another
        return self.memo[key][1]

    def encode_together(self, views: Sequence[View], teacher: bool = False) -> list[Encoding]:
        """The encodings of several views from one forward pass over all their rows, so that batch norm takes its moments over all of them.

        A pass of its own at every call. Raises UserError unless the views are of one stream, hold tensors of one shape and have no masks.
        """
        first, data = views[0], [view.data for view in views]
        alike = all(isinstance(one, Tensor) and one.shape == data[0].shape for one in data)
        if not alike or any(view.stream != first.stream or view.mask is not None for view in views):
            found = ", ".join(str(tuple(one.shape)) if isinstance(one, Tensor) else type(one).__name__ for one in data)
            raise UserError(f"views of one pass are unmasked tensors of one shape and stream, and these are {found}; encode each by itself")
        whole = self.encode(View(torch.cat(data), stream=first.stream, role=first.role), teacher)
        rows = len(data[0])
        return [_part(whole, slice(start, start + rows), rows * len(data)) for start in range(0, rows * len(data), rows)]


def _part(encoding: Encoding, own: slice, rows: int) -> Encoding:
    """Some samples of an encoding of so many rows."""

    def cut(value: Any) -> Any:
        if isinstance(value, list):
            return [cut(one) for one in value]
        return value[own] if isinstance(value, Tensor) and len(value) == rows else value

    return replace(encoding, **{name.name: cut(getattr(encoding, name.name)) for name in fields(encoding)})


TAGS = (
    "contrastive",
    "clustering",
    "distillation",
    "information maximisation",
    "masked prediction",
    "joint-embedding prediction",
    "ranking",
)
"""The families that objectives belong to; the page of methods is ordered by them."""


class Objective(nn.Module):
    """A method: owns its heads and state, turns a step into losses.

    needs: what it asks for. tags: families it belongs to, of TAGS. momentum: how the encoder's teacher follows, where one is wanted.
    evaluated: whether its authors embed by the student or by the teacher; recipes hand over that one (`Stage.embedder`).
    State that changes between steps (queue, prototypes, centre) is a buffer or module and changes in `after_step`; what its sizes depend
    on beside the encoder's width (samples of the data, width of a target) is known in `prepare`.
    """

    needs: Needs = Needs()
    tags: tuple[str, ...] = ()
    momentum: float | Schedule = 0.996
    evaluated: Literal["student", "teacher"] = "student"

    @property
    def projector(self) -> nn.Module | None:
        """What every row (M, D) goes through before the loss compares it, the module `project`; None where there is no such one."""
        project = self._modules.get("project")
        return None if isinstance(project, (nn.ModuleDict, nn.ModuleList)) else project

    def prepare(self, views: ViewSet, samples: int) -> None:
        """Make what depends on the data (a decoder's last layer, a bank of `samples` rows); called once, before there is an optimiser.

        views: of one batch, as the steps will show them. Weights come from torch's global generator, which is seeded for it.
        """

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        """Called before the first step of each epoch, without gradient; `look()` goes through the data once, a Step per batch."""

    def forward(self, step: Step) -> Losses:
        """The step's losses."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def collapse_line(self, rows: int) -> float | None:
        """The loss when all rows of the encoder are equal, for a global batch of `rows`; None where that is also (near) its minimum."""
        return None

    def after_step(self, step: Step) -> None:
        """Update queues, prototypes or centres; called after the optimiser. Moving averages are updated by the loop."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters whose learning rate follows a schedule other than the stage's; asked for once, after `prepare`."""
        return []

    def make_teacher(self, encoder: Encoder) -> MovingAverage:
        """The encoder's teacher, for an objective that needs one; override to average a subset or to keep other buffers."""
        return MovingAverage(encoder, self.momentum)


ObjectiveSlot = Callable[[int], Objective]
"""A recipe's parameter that takes any objective: called with the width of the encoder's rows."""


class MismatchError(UserError):
    """An objective needs what views or encoder do not give; `lacks` are the phrases that say what."""

    def __init__(self, sentence: str, lacks: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.lacks = list(lacks)


def check_needs(objective: type[Objective] | Objective, gives: Gives, *, views: str, tokens: bool = True) -> None:
    """Raise MismatchError, naming both sides, when an objective needs what the views (or the encoder) do not give."""
    name = objective.__name__ if isinstance(objective, type) else type(objective).__name__
    lacks = objective.needs.missing(gives, tokens=tokens)
    if lacks:
        sentence = f"{name} needs {', '.join(lacks)}, which {views} does not give; choose another objective or other views"
        raise MismatchError(sentence, lacks)
