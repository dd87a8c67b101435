"""Numbers that change over training: learning rates, momenta, loss weights."""

from __future__ import annotations

import math
from dataclasses import dataclass


class Schedule:
    """A number as a function of the step: `schedule(step, steps)` at step 0 .. steps of a stage of `steps` steps."""

    def __call__(self, step: int, steps: int) -> float:
        """The value at `step`."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


@dataclass(frozen=True)
class Constant(Schedule):
    """One value throughout, after an optional linear warm-up over the first `warmup` steps."""

    value: float = 1.0
    warmup: int = 0

    def __call__(self, step: int, steps: int) -> float:
        return self.value * min(1.0, step / self.warmup) if self.warmup else self.value


@dataclass(frozen=True)
class Cosine(Schedule):
    """From `start` to `final` along half a cosine, after a linear warm-up from 0 to `start` over `warmup` steps.

    >>> schedule = Cosine(1.0, 0.0, warmup=10)
    >>> [round(schedule(step, 110), 3) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    start: float = 1.0
    final: float = 0.0
    warmup: int = 0

    def __call__(self, step: int, steps: int) -> float:
        if step < self.warmup:
            return self.start * step / self.warmup
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        return self.final + (self.start - self.final) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Linear(Schedule):
    """From `start` to `final` along a line.

    >>> Linear(0.5, 1.0)(1, 2)
    0.75
    """

    start: float
    final: float

    def __call__(self, step: int, steps: int) -> float:
        return self.start + (self.final - self.start) * step / max(1, steps)


@dataclass(frozen=True)
class Ramp(Schedule):
    """0 before `begin`, linear to `value` at `end`, constant after; both are shares of the stage (0 to 1)."""

    value: float = 1.0
    begin: float = 0.0
    end: float = 1.0

    def __call__(self, step: int, steps: int) -> float:
        progress = step / max(1, steps)
        if self.end <= self.begin:
            return self.value if progress >= self.begin else 0.0
        return self.value * min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))


@dataclass(frozen=True)
class EqualWeights(Schedule):
    """The momentum of a moving average that is the mean of what it followed: 0 at the first update, 1/2 at the second, 1 - 1/n at the n-th.

    Also called stochastic weight averaging: every iterate counts as much.

    >>> [EqualWeights()(step, 10) for step in (1, 2, 4)]
    [0.0, 0.5, 0.75]
    """

    def __call__(self, step: int, steps: int) -> float:
        return 1.0 - 1.0 / max(1, step)


def as_schedule(value: float | Schedule) -> Schedule:
    """A number as the schedule that stays at it; a schedule as it is."""
    return value if isinstance(value, Schedule) else Constant(float(value))
