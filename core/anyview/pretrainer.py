"""Encoder, objectives and teachers of one stage in one module, so that any strategy sees one forward and one backward per step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError
from anyview.learning_rates import ParameterGroup
from anyview.objectives.objective import Losses, Objective, Step
from anyview.recipe import Stage, Task
from anyview.schedules import as_schedule
from anyview.views.draws import Draws
from anyview.views.view import View, ViewSet


class StepInput:
    """One batch with its random numbers and its place in the stage: step `number` of `steps`.

    A plain object, so that strategies and precision plug-ins hand it through as it is.
    """

    __slots__ = ("batch", "draws", "number", "steps")

    def __init__(self, batch: Batch, draws: Draws, number: int, steps: int) -> None:
        self.batch, self.draws, self.number, self.steps = batch, draws, number, steps


class Pretrainer(nn.Module):
    """A stage as a module: `forward(shown)` makes the views, runs every task and returns the weighted losses.

    Terms are named "term", or "Task/term" where a stage has several tasks. Of the last forward, `rows` holds the student's first rows,
    detached, for the label-free metrics, `losses` what it returned, and `monitors` the objectives' numbers to log.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.encoder = stage.encoder
        self.objectives = nn.ModuleDict({task.name: task.objective for task in stage.tasks})
        self.teachers = nn.ModuleDict(stage.teachers)
        self.early_stopping = stage.early_stopping
        self.tasks, self.epochs = list(stage.tasks), stage.epochs
        self.frozen = (*stage.frozen, *(task.teacher for task in stage.tasks if task.teacher is not None))
        self._thawed: list[nn.Parameter] = []
        self.rows: Tensor | None = None
        self.monitors: dict[str, float | Tensor] = {}
        self.losses = Losses()
        self._steps: list[tuple[Task, Step]] = []

    def prepare(self, shown: StepInput, samples: int) -> None:
        """Let objectives make what depends on the data; `shown` is one batch of it. Before `start`, and before there is an optimiser.

        Raises UserError when an objective keeps state per sample and the batch does not say which samples it holds.
        """
        for task in self.tasks:
            views = task.views(shown.batch, shown.draws)
            if task.objective.needs.index and any(view.index is None for view in views.views):
                name, maker = type(task.objective).__name__, type(task.views).__name__
                sentence = f"{name} keeps something for each sample, and the views of {maker} do not say which samples they show"
                raise UserError(f"{sentence}; let the source give batches an index and the views hand it on")
            task.objective.prepare(views, samples)

    def before_epoch(self, epoch: int, look: Callable[[], Iterable[StepInput]]) -> None:
        """Let objectives look at the data, without gradient, before the epoch's first step; `look()` gives its batches once."""
        with torch.no_grad():
            for task in self.tasks:
                task.objective.before_epoch(epoch, partial(self._looks, task, look))

    def forward(self, shown: StepInput) -> Losses:
        """The losses of one batch."""
        losses = Losses()
        made: dict[int, ViewSet] = {}
        memo: dict[tuple[int, int], tuple[View, Encoding]] = {}
        for task in self.tasks:
            if id(task.views) not in made:
                made[id(task.views)] = task.views(shown.batch, shown.draws)
            step = self._step(task, made[id(task.views)], shown, memo)
            terms = task.objective(step)
            weight = as_schedule(task.weight)(shown.number, shown.steps)
            prefix = f"{task.name}/" if len(self.tasks) > 1 else ""
            losses.update({prefix + name: weight * term for name, term in terms.items()})
            losses.monitors.update({prefix + name: value for name, value in terms.monitors.items()})
            self._steps.append((task, step))
        rows = [encoding.rows for (_, branch), (_, encoding) in memo.items() if branch == id(self.encoder)]
        self.rows = rows[0].detach() if rows else None
        self.monitors, self.losses = losses.monitors, losses
        guarded = {name: loss.clone() for name, loss in losses.items()}  # Fabric hooks these, and combiners need gradients of their own
        return Losses(guarded)

    def _step(self, task: Task, views: ViewSet, shown: StepInput, memo: dict[tuple[int, int], tuple[View, Encoding]]) -> Step:
        teacher = dict(self.teachers).get(task.name)
        return Step(views, shown.batch, shown.draws, shown.number, shown.steps, self.encoder, teacher, memo, self.epochs)

    def _looks(self, task: Task, look: Callable[[], Iterable[StepInput]]) -> Iterator[Step]:
        for shown in look():
            yield self._step(task, task.views(shown.batch, shown.draws), shown, {})

    def by_task(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a combiner reconciles: one loss per task where there are several tasks, else one per term."""
        if len(self.tasks) == 1:
            return dict(losses)
        groups: dict[str, list[Tensor]] = {}
        for name, term in losses.items():
            groups.setdefault(name.partition("/")[0], []).append(term)
        return {name: torch.stack(terms).sum() for name, terms in groups.items()}

    def after_step(self, number: int, steps: int) -> None:
        """After the optimiser: moving averages follow once, then each objective updates its state, once per batch seen."""
        for average in self.moving_averages():
            average.update(number, steps)
        for task, step in self._steps:
            task.objective.after_step(step)
        self._steps.clear()

    @property
    def over(self) -> bool:
        """Whether early stopping has ended the stage."""
        return self.early_stopping is not None and self.early_stopping.over

    def start(self, *, resumed: bool = False) -> None:
        """Begin the stage: freeze what it does not train; unless it is resumed, teachers become exact copies of what they follow."""
        self._thawed = [p for module in self.frozen for p in module.parameters() if p.requires_grad]
        for parameter in self._thawed:
            parameter.requires_grad_(False)
        if not resumed:
            for average in self.moving_averages():
                average.restart()
        self.train()

    def finish(self) -> None:
        """End the stage: what it froze can be trained by the next."""
        for parameter in self._thawed:
            parameter.requires_grad_(True)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters that the encoder, one that it holds, or an objective gives a schedule of their own."""
        encoders = (part for part in self.encoder.modules() if isinstance(part, Encoder))
        owners: list[Encoder | Objective] = [*encoders, *dict.fromkeys(task.objective for task in self.tasks)]
        return [group for owner in owners for group in owner.parameter_groups()]

    def moving_averages(self) -> Iterator[MovingAverage]:
        """Every moving average that follows in this stage, the encoder's and the heads'; a frozen teacher stays as it is."""
        still = {id(part) for module in self.frozen for part in module.modules()}
        return (module for module in self.modules() if isinstance(module, MovingAverage) and id(module) not in still)

    def train(self, mode: bool = True) -> Pretrainer:
        """Train mode for everything that is trained; what is frozen stays in eval mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self
