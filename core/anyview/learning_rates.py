"""Learning rates over a stage: the stage's schedule, and those of the parameter groups that its objectives name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from anyview.errors import UserError
from anyview.schedules import Schedule


class ParameterGroup:
    """Parameters that follow a schedule of their own in place of the stage's, and what it is: a factor on the optimiser's learning rate.

    >>> from anyview.schedules import Constant
    >>> ParameterGroup(nn.Linear(2, 2).parameters(), Constant()).schedule(5, 10)
    1.0
    """

    def __init__(self, parameters: Iterable[nn.Parameter], schedule: Schedule) -> None:
        self.parameters, self.schedule = tuple(parameters), schedule


class LearningRates:
    """Sets the learning rates of an optimiser's groups, step by step.

    schedule: of all parameters that are in none of `groups`. The optimiser's own groups are split where their parameters follow different
    schedules, always in the same order, so that its saved state fits when a run goes on; each remembers its rate as "initial_lr". Raises
    ValueError when a parameter is in two of `groups`, and UserError when a group's schedule begins below 0.

    >>> from anyview.schedules import Constant, Linear
    >>> body, head = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.2)
    >>> rates = LearningRates(optimizer, Linear(1.0, 0.0), [ParameterGroup(head.parameters(), Constant())])
    >>> rates.set(optimizer, step=5, steps=10)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.2]
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, groups: Sequence[ParameterGroup] = ()) -> None:
        followed = [schedule, *(group.schedule for group in groups)]
        place = {id(parameter): number for number, group in enumerate(groups, 1) for parameter in group.parameters}
        if len(place) < sum(len(group.parameters) for group in groups):
            raise ValueError("a parameter is in two groups, and can follow one schedule only; leave it out of one")
        for named in groups:
            if (share := named.schedule(0, 1)) < 0:
                raise UserError(
                    f"parameters were to learn at {share:g} times the learning rate, which is away from the goal; give 0 or more"
                )
        parts: list[dict[str, Any]] = []
        self.schedules: list[Schedule] = []
        for group in optimizer.param_groups:
            for number, own_schedule in enumerate(followed):
                own = [parameter for parameter in group["params"] if place.get(id(parameter), 0) == number]
                if own:
                    parts.append({**group, "params": own, "initial_lr": group["lr"]})
                    self.schedules.append(own_schedule)
        optimizer.param_groups[:] = parts

    def set(self, optimizer: Any, step: int, steps: int) -> None:
        """The rates of step `step` of `steps`; optimizer: the one that this was made with, or what a strategy has wrapped it in."""
        for group, schedule in zip(optimizer.param_groups, self.schedules, strict=True):
            group["lr"] = group["initial_lr"] * schedule(step, steps)
