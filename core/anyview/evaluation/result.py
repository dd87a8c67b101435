"""What a protocol found, for the encoder and for every control, and the table that prints them beside each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyview.config import to_yaml

if TYPE_CHECKING:
    from rich.table import Table

TRAINED = "trained encoder"
RANDOM = "random encoder"
RAW = "raw features"
MAJORITY = "majority class"


@dataclass(slots=True)
class Result:
    """Scores of one protocol for the encoder and for every control.

    options: as they applied, defaults included. split: its name. values: encoder or control -> score or fact -> one number per seed, 0 to 1
    for scores. sizes: rows in each part, for the first seed. facts: which values are no scores. records: by seed, what else was settled for
    every encoder alike. warnings: one sentence each. constant: which of the controls is the constant answer. units: of the scores that are
    no shares of 1, and are told as they are; "" for a bare number.
    """

    protocol: str
    headline: str
    options: dict[str, Any]
    split: str
    seeds: list[int]
    values: dict[str, dict[str, list[float]]]
    sizes: dict[str, int]
    facts: tuple[str, ...] = ()
    records: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    constant: str = MAJORITY
    units: dict[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> list[str]:
        """Names of the scores, headline first."""
        names = dict.fromkeys(name for values in self.values.values() for name in values if name not in self.facts)
        return [self.headline, *(name for name in names if name != self.headline)]

    def mean(self, encoder: str = TRAINED, score: str | None = None) -> float:
        """Mean over seeds, of the headline score unless another is named."""
        return statistics.fmean(self.values[encoder][score or self.headline])

    def standard_deviation(self, encoder: str = TRAINED, score: str | None = None) -> float:
        """Standard deviation over seeds (of a sample: n - 1); NaN for a single seed."""
        values = self.values[encoder][score or self.headline]
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; a standard deviation that does not exist is None."""
        results = {encoder: {name: self._numbers(encoder, name) for name in values} for encoder, values in self.values.items()}
        plain = {name: getattr(self, name) for name in ("protocol", "headline", "split", "sizes", "seeds", "records", "warnings", "units")}
        return {**plain, "options": to_yaml(self.options), "facts": list(self.facts), "results": results}

    def settings(self) -> str:
        """Options in words; one that the protocol settled itself (k of None) as it was settled for the first encoder and seed."""
        first = next(iter(self.values.values()))
        settled = {name: first[name][0] for name in self.facts if name in self.options}
        applied = {**to_yaml(self.options), **settled}.items()
        words = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in applied)
        return ", ".join(words)

    def cell(self, encoder: str, score: str) -> str:
        """Mean and standard deviation, in percent or in the score's unit; empty where the encoder or control has no such score."""
        if score not in self.values.get(encoder, {}):
            return ""
        scale, digits = (1, 2) if score in self.units else (100, 1)
        mean, spread = scale * self.mean(encoder, score), scale * self.standard_deviation(encoder, score)
        return f"{mean:.{digits}f}" if math.isnan(spread) else f"{mean:.{digits}f} ± {spread:.{digits}f}"

    def label(self, score: str) -> str:
        """What a table calls a score: its name in words, and its unit where it is told in one."""
        words = score.replace("_", " ")
        return f"{words}, {self.units[score] or 'no unit'}" if score in self.units else words

    def _numbers(self, encoder: str, name: str) -> dict[str, Any]:
        mean, spread = self.mean(encoder, name), self.standard_deviation(encoder, name)
        return {"values": self.values[encoder][name], "mean": mean, "standard_deviation": None if math.isnan(spread) else spread}


def table(results: Sequence[Result], *, headlines: bool = False) -> Table:
    """A rich table of results: a line per score, the encoder and its controls side by side, in percent or a unit, with spread over seeds.

    headlines: leave out all scores but each protocol's own. The caption tells settings, split and seeds of each protocol, then warnings,
    one a line.
    """
    from rich.table import Table

    encoders = list(dict.fromkeys(encoder for result in results for encoder in result.values))
    constants = {result.constant for result in results}
    encoders.sort(key=lambda encoder: encoder in constants)  # a protocol without one of the controls must not move it to the middle
    told = [f"{result.protocol}: {result.settings()}; split {result.split}; {seed_words(result.seeds)}" for result in results]
    warned = dict.fromkeys(f"warning: {warning}" for result in results for warning in result.warnings)
    drawn = Table("protocol", "score (%)", caption="\n".join([*told, *warned]), caption_justify="left")
    for encoder in encoders:
        drawn.add_column(encoder, justify="right")
    for result in results:
        for score in result.scores[:1] if headlines else result.scores:
            cells = (result.cell(encoder, score) for encoder in encoders)
            drawn.add_row(result.protocol if score == result.headline else "", result.label(score), *cells)
        drawn.add_section()
    return drawn


def seed_words(seeds: Sequence[int]) -> str:
    """Seeds as a phrase: "seeds 0, 1"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
