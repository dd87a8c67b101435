"""What numbers an option of a protocol takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from anyview.errors import UserError


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers above or at least one bound, and below or at most another.

    >>> Limits(above=0).words, Limits(at_least=0, below=1).words
    ('above 0', 'at least 0 and below 1')
    """

    above: float = -math.inf
    at_least: float = -math.inf
    below: float = math.inf
    at_most: float = math.inf

    @property
    def words(self) -> str:
        """The bounds as a phrase."""
        bounds = {"above": self.above, "at least": self.at_least, "below": self.below, "at most": self.at_most}
        return " and ".join(f"{word} {value:g}" for word, value in bounds.items() if math.isfinite(value))

    def allow(self, value: float) -> bool:
        """Whether a number lies within; NaN and infinity never do."""
        return math.isfinite(value) and self.above < value < self.below and self.at_least <= value <= self.at_most


def check(protocol: str, option: str, value: Any, limits: Limits) -> None:
    """Raise UserError unless the option's number, or every number of several, lies within; None and words are not looked at."""
    for number in value if isinstance(value, list | tuple) else [value]:
        if isinstance(number, int | float) and not limits.allow(number):
            raise UserError(f"the protocol {protocol} takes {option} {limits.words}, and was given {number:g}; choose another {option}")


def numbers(protocol: str, option: str, value: Any, limits: Limits) -> list[float]:
    """The numbers that an option lists with commas ("1,10,100"), each within the limits; a number or a sequence of them is taken too.

    >>> numbers("label_fraction", "percent", "1, 10", Limits(above=0, at_most=100))
    [1.0, 10.0]
    """
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        found = [float(word) for word in words]
    except (TypeError, ValueError):
        raise UserError(f"the protocol {protocol} takes numbers with commas as {option}, and was given {value!r}") from None
    check(protocol, option, found, limits)
    return found
