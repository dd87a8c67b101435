"""Recipes: everything a run needs, as Python objects, and the functions whose signatures are their configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from anyview.combiners.combiner import Combiner
from anyview.combiners.weighted_sum import WeightedSum
from anyview.config import component_of, slots_of
from anyview.data.source import Source
from anyview.early_stopping import EarlyStopping
from anyview.encoders.encoder import Encoder
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError, unknown
from anyview.objectives.objective import Needs, Objective, check_needs
from anyview.plugins import host
from anyview.ranges import Ranges
from anyview.schedules import Constant, Schedule
from anyview.views.maker import ViewMaker

OptimizerMaker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass
class Task:
    """Views, and the objective that reads them.

    weight: of all the objective's terms, a number or a schedule. name: in logs, by default the objective's class. teacher: a frozen
    or external teacher; without one, an objective that needs a teacher gets a moving average of the encoder. Tasks that hold one and
    the same view maker are shown the same views.
    """

    views: ViewMaker
    objective: Objective
    weight: float | Schedule = 1.0
    name: str = ""
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        self.name = self.name or type(self.objective).__name__


@dataclass
class Stage:
    """One training run over a source: what is trained, on which losses, how long and how fast.

    encoder: what the tasks' views are encoded by. epochs, batch_size: batch_size counts rows of the global batch, over all ranks; None is
    the whole data set. optimizer: called with the trainable parameters. schedule: factor on the optimiser's learning rates, per step.
    combiner: how several losses become one gradient. clip: largest gradient norm. accumulate: batches per optimiser step.
    frozen: modules that are neither trained nor in train mode. max_steps: optimiser steps after which the stage ends before its last epoch
    does. source: the stage's own data, by default the recipe's. early_stopping: ends it when its embedder no longer gets better, and keeps
    the best. teachers: by task, its own or a moving average of the encoder.
    """

    tasks: Sequence[Task]
    encoder: Encoder
    epochs: int
    optimizer: OptimizerMaker
    batch_size: int | None = None
    schedule: Schedule = field(default_factory=Constant)
    combiner: Combiner = field(default_factory=WeightedSum)
    clip: float | None = None
    accumulate: int = 1
    frozen: Sequence[nn.Module] = ()
    max_steps: int | None = None
    source: Source | None = None
    early_stopping: EarlyStopping | None = None
    name: str = "pretrain"

    teachers: Mapping[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.accumulate < 1 or (self.batch_size is not None and self.batch_size < 1):
            found = f"epochs {self.epochs}, batch size {self.batch_size}, accumulate {self.accumulate}"
            raise UserError(f"a stage needs at least one epoch, one row per batch and one batch per step; found {found}")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"a stage needs at least one step, and max_steps is {self.max_steps}; leave it out to train all epochs")
        if self.clip is not None and self.clip <= 0:
            raise UserError(f"the gradient's largest norm must be above 0, and clip is {self.clip}; leave it out to clip nothing")
        names = [task.name for task in self.tasks]
        if any(sign in name for name in names for sign in "/."):
            raise ValueError(f"task names must do without '/' and '.', found {names}")
        for task in self.tasks:
            if names.count(task.name) > 1:
                raise ValueError(f"two tasks of stage {self.name!r} are called {task.name!r}; give each a name")
            pair = f"{type(task.views).__name__} with {type(self.encoder).__name__}"
            views = pair if task.objective.needs.tokens and not self.encoder.tokens else type(task.views).__name__
            check_needs(task.objective, task.views.gives, views=views, tokens=self.encoder.tokens)
        made = {task.name: task.teacher or self._following(task.objective) for task in self.tasks}
        self.teachers = {name: teacher for name, teacher in made.items() if teacher is not None}

    def _following(self, objective: Objective) -> MovingAverage | None:
        return objective.make_teacher(self.encoder) if objective.needs.teacher else None

    @property
    def embedder(self) -> Encoder:
        """What to embed by when this stage is over: the encoder, or its teacher where the first objective's authors evaluate that."""
        teacher = self.teachers.get(self.tasks[0].name) if self.tasks[0].objective.evaluated == "teacher" else None
        return cast(Encoder, teacher.module) if isinstance(teacher, MovingAverage) else self.encoder

    def steps(self, source: Source) -> int:
        """Optimiser steps over `source`, or over the stage's own data where it has some."""
        steps = self.epochs * (self.source or source).steps(self.batch_size) // self.accumulate
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def passes(self, source: Source, steps: int) -> int:
        """Whole passes over the data that so many optimiser steps are."""
        return steps * self.accumulate // (self.source or source).steps(self.batch_size)

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of these parameters; raises UserError when it refuses its settings."""
        try:
            return self.optimizer(parameters)
        except ValueError as error:
            raise UserError(f"the optimiser refuses its settings ({error}); check the learning rate and the weight decay") from error


@dataclass
class Recipe:
    """A run: data, stages in order, and the embedder that remains (projectors stay behind, and one of student and teacher).

    probe: options that the method's authors evaluate with, by protocol ({"linear": {"lr": 0.01}}).
    name, values, preset: where it came from; filled in by the recipe function, saved with the run.
    """

    source: Source
    stages: Sequence[Stage]
    embedder: Encoder
    probe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None

    @property
    def couples_rows(self) -> bool:
        """Whether any of its losses is a function of several rows together."""
        return any(task.objective.needs.couples_rows for stage in self.stages for task in stage.tasks)


Presets = Mapping[str, Mapping[str, Any]]


class RecipeFunction:
    """A recipe function with its presets: callable like the function, and readable by the command line.

    presets: values by data-set name (applied when `data` has that name) or by a name of their own ("quick", applied on request); a value
    that is given explicitly always wins. views: the view makers of which the recipe takes one, whichever serves a slot's objective, so
    that a mismatch is told before any data is read. results: the paper's own figures, by data set. ranges: what `anyview tune` draws
    parameters from, by name, and by "slot.option" for options of what fills a slot by default.
    """

    def __init__(
        self,
        function: Callable[..., Recipe],
        presets: Presets,
        views: Sequence[type[ViewMaker]],
        results: Mapping[str, str],
        ranges: Ranges | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.presets, self.views, self.results = function, presets, tuple(views), results
        self.ranges = dict(ranges or {})
        self.signature = inspect.signature(function)
        for name, preset in presets.items():
            self._check_names(preset, f"preset {name!r}")
        for name in self.ranges:
            self.parameter(name)

    def __call__(self, *arguments: Any, preset: str | None = None, **values: Any) -> Recipe:
        """Build the recipe; `preset` picks one by name on top of the data set's own."""
        self._check_names(values, "a call")
        given = self.signature.bind_partial(*arguments, **values).arguments
        resolved, applied = self.resolve(given, preset)
        self._check_slots(resolved)
        recipe = self.function(**resolved)
        recipe.values, recipe.preset = resolved, applied
        recipe.name = host().name_of(self) or f"{self.function.__module__}:{self.function.__qualname__}"
        return recipe

    def resolve(self, given: Mapping[str, Any], preset: str | None = None) -> tuple[dict[str, Any], str | None]:
        """All values: the function's defaults, under the presets, under what was given; and the names of the presets that had a say."""
        defaults = {p.name: p.default for p in self.signature.parameters.values() if p.default is not p.empty}
        if preset is not None and preset not in self.presets:
            raise unknown("preset", preset, self.presets, look=f"anyview show {self.__name__}")
        asked = {} if preset is None else self.presets[preset]
        names = [self.preset_of({**defaults, **asked, **given}.get("data")), preset]
        applied = [name for name in dict.fromkeys(names) if name is not None and set(self.presets[name]) - set(given)]
        layers = [self.presets[name] for name in applied]
        resolved = functools.reduce(lambda below, above: {**below, **above}, [defaults, *layers, given])
        return dict(resolved), "+".join(applied) or None

    def preset_of(self, data: Any) -> str | None:
        """The preset that a data set's name calls for, if there is one."""
        name = data.name if isinstance(data, Source) else str(data)
        short = name.rpartition("/")[2].lower()
        return short if short in self.presets else None

    def parameter(self, name: str, values: Mapping[str, Any] | None = None) -> inspect.Parameter:
        """The parameter of this name, or for "slot.option" that of what fills the slot in `values`, by default in the signature.

        Raises UserError for a name that nothing has.
        """
        slot, dot, _ = name.partition(".")
        known: Mapping[str, inspect.Parameter] = self.signature.parameters
        if dot and slot in known and slot in self.slots:
            filling = component_of((values or {}).get(slot, known[slot].default))
            known = {} if filling is None else {f"{slot}.{one.name}": one for one in _options(filling)}
        if name not in known:
            kind = f"parameter (in a range of {self.__name__})"
            raise unknown(kind, name, known or self.signature.parameters, look=f"anyview show {self.__name__}")
        return known[name]

    @functools.cached_property
    def slots(self) -> dict[str, str]:
        """The parameters that take a component of any plugin, with its kind ("objectives", "encoders", ...)."""
        return slots_of(self.function)

    def nearest_views(self, needs: Needs) -> type[ViewMaker] | None:
        """Of the view makers that the recipe chooses from the one that lacks least of what is needed; None where it names none."""
        return min(self.views, key=lambda maker: len(needs.missing(maker.gives)), default=None)

    def _check_slots(self, values: Mapping[str, Any]) -> None:
        """Raise UserError when an objective in a slot needs what none of the recipe's view makers gives; what is no class is seen later."""
        for name in (name for name, kind in self.slots.items() if kind == "objectives"):
            objective = values[name].func if isinstance(values[name], functools.partial) else values[name]
            if isinstance(objective, type) and issubclass(objective, Objective):
                nearest = self.nearest_views(objective.needs)
                if nearest is not None:
                    check_needs(objective, nearest.gives, views=nearest.__name__)

    def _check_names(self, values: Mapping[str, Any], where: str) -> None:
        for name in values:
            if name not in self.signature.parameters:
                kind = f"parameter (in {where} of {self.__name__})"
                raise unknown(kind, name, self.signature.parameters, look=f"anyview show {self.__name__}")

    __name__: str


def _options(component: Callable[..., Any]) -> list[inspect.Parameter]:
    """What can be set of a component: its keyword parameters."""
    return [one for one in inspect.signature(component).parameters.values() if one.kind is one.KEYWORD_ONLY or one.default is not one.empty]


def recipe(
    *,
    presets: Presets | None = None,
    views: type[ViewMaker] | Sequence[type[ViewMaker]] = (),
    results: Mapping[str, str] | None = None,
    ranges: Ranges | None = None,
) -> Callable[[Callable[..., Recipe]], RecipeFunction]:
    """Turn a function that returns a Recipe into a recipe with presets; its keyword parameters become flags.

    views: the class of the view maker that a slot's objective will read, or those of which the recipe takes the one that serves it.
    ranges: what `anyview tune` draws parameters from.
    """
    makers = (views,) if isinstance(views, type) else views
    return lambda function: RecipeFunction(function, presets or {}, makers, results or {}, ranges)
