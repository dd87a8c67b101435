"""Ranges: what `anyview tune` may draw a recipe's parameter from, declared beside its presets or given on a command line."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyview.errors import UserError

DIGITS = 3
"""Significant digits of drawn numbers: enough to tell them apart, few enough to type."""
WIDE = 10.0
"""From this ratio of its ends on, both above 0, a range that says nothing else is logarithmic."""


class Range(ABC):
    """A set of values that one parameter is drawn from. ends: values that lie at its borders, or all of it."""

    ends: tuple[Any, ...]

    @abstractmethod
    def draw(self, random: np.random.Generator) -> Any:
        """One value."""

    @abstractmethod
    def __str__(self) -> str:
        """As `parsed` reads it, where it can be typed."""


@dataclass(frozen=True)
class Uniform(Range):
    """Numbers between two ends, all equally likely; drawn ones have three significant digits.

    >>> Uniform(0.1, 0.5).draw(np.random.default_rng(0)), str(Uniform(0, 1))
    (0.355, 'linear:0..1')
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.low) and math.isfinite(self.high)):
            raise UserError(f"a range goes from a number to a larger one, and was given as {self.low:g}..{self.high:g}; exchange its ends")

    @property
    def ends(self) -> tuple[float, float]:  # type: ignore[override]
        return self.low, self.high

    def draw(self, random: np.random.Generator) -> float:
        return self._typed(random.uniform(self.low, self.high))

    def _typed(self, value: float) -> float:
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def __str__(self) -> str:
        return f"linear:{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Numbers above 0 whose logarithms are equally likely: learning rates, weights, temperatures.

    >>> LogUniform(1e-4, 1e-2).draw(np.random.default_rng(0)), str(LogUniform(1e-4, 1e-2))
    (0.00188, 'log:0.0001..0.01')
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise UserError(f"a logarithmic range begins above 0, and was given as {self.low:g}..{self.high:g}; write linear: before it")

    def draw(self, random: np.random.Generator) -> float:
        return self._typed(math.exp(random.uniform(math.log(self.low), math.log(self.high))))

    def __str__(self) -> str:
        return f"log:{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class Integers(Range):
    """Whole numbers from `low` to `high`, both included; log: their logarithms are equally likely.

    >>> [Integers(1, 3).draw(np.random.default_rng(seed)) for seed in range(4)], str(Integers(1, 3))
    ([3, 2, 3, 3], '1..3')
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise UserError(f"a range goes from a number to a larger one, and was given as {self.low}..{self.high}; exchange its ends")
        if self.log and self.low < 1:
            raise UserError(f"a logarithmic range begins above 0, and was given as {self.low}..{self.high}; write linear: before it")

    @property
    def ends(self) -> tuple[int, int]:  # type: ignore[override]
        return self.low, self.high

    def draw(self, random: np.random.Generator) -> int:
        if not self.log:
            return int(random.integers(self.low, self.high + 1))
        return min(self.high, int(math.exp(random.uniform(math.log(self.low), math.log(self.high + 1)))))

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low}..{self.high}"


class Choices(Range):
    """Some values, all equally likely: names, switches, or numbers that go together with nothing between them.

    >>> Choices("edge", "node").draw(np.random.default_rng(0)), str(Choices("edge", "node"))
    ('node', 'edge,node')
    """

    def __init__(self, *values: Any) -> None:
        if len(values) < 2 or len(set(map(repr, values))) < len(values):
            given = ", ".join(map(repr, values)) or "none"
            raise UserError(f"choices are two values or more that differ, and there are {given}; give others")
        self.ends = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choices) and self.ends == other.ends

    def __hash__(self) -> int:
        return hash(tuple(map(repr, self.ends)))

    def __repr__(self) -> str:
        return f"Choices({', '.join(map(repr, self.ends))})"

    def draw(self, random: np.random.Generator) -> Any:
        return self.ends[int(random.integers(len(self.ends)))]

    def __str__(self) -> str:
        return ",".join(map(str, self.ends))


Ranges = Mapping[str, Range]
"""By parameter; the option of what fills a slot as "slot.option"."""

_BETWEEN = re.compile(r"(?:(log|linear):)?([^,:]+?)\.\.([^,:]+)")


def parsed(text: str, *, whole: bool, like: Range | None = None) -> Range:
    """A range as it is typed: `1e-4..1e-2`, `log:1..100`, `linear:0..1`, or choices as `a,b,c`, whose values stay text.

    whole: of whole numbers. like: the range that it takes the place of, whose kind it keeps where it says none. Without either, a range
    over a factor of ten or more above 0 is logarithmic. Raises UserError for what is none and for one that is empty.

    >>> parsed("1e-4..1e-2", whole=False), parsed("0..0.5", whole=False), parsed("2..4", whole=True)
    (LogUniform(low=0.0001, high=0.01), Uniform(low=0.0, high=0.5), Integers(low=2, high=4, log=False))
    """
    found = _BETWEEN.fullmatch(text.strip())
    if found is None:
        if "," not in text:
            raise UserError(f"a range is written as 1e-4..1e-2 or as choices with commas, and was given as {text!r}; write one of the two")
        return Choices(*(part.strip() for part in text.split(",")))
    scale, *ends = found.groups()
    try:
        low, high = (_whole(end) if whole else float(end) for end in ends)
    except ValueError:
        kind = "whole numbers" if whole else "numbers"
        raise UserError(f"a range of {kind} was given as {text!r}; write one such as {'8..64' if whole else '1e-4..1e-2'}") from None
    declared = isinstance(like, LogUniform) or (isinstance(like, Integers) and like.log)
    kept = declared if like is not None and not isinstance(like, Choices) else not whole and low > 0 and high / low >= WIDE
    logarithmic = scale == "log" if scale else kept
    if whole:
        return Integers(int(low), int(high), log=logarithmic)
    return LogUniform(low, high) if logarithmic else Uniform(low, high)


def _whole(text: str) -> float:
    value = float(text)
    if not value.is_integer():
        raise ValueError(text)
    return value
