"""Progress lines: on a terminal how far, how fast and how long still; in a pipe nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Part = TypeVar("Part", bound=Sized)


def counted(parts: Iterable[Part], total: int, name: str, unit: str = "rows") -> Iterator[Part]:
    """The parts as they come, with a live line on standard error while it is a terminal: units done of `total`, rate, time left.

    >>> [len(part) for part in counted(["ab", "cde"], total=5, name="embed")]
    [2, 3]
    """
    console = Console(stderr=True)
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown = Progress(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal, refresh_per_second=4)
    with shown as bar:
        task, begun, done = bar.add_task(name, total=total, facts=""), time.monotonic(), 0
        for part in parts:
            done += len(part)
            bar.update(task, completed=done, facts=f"{done / max(time.monotonic() - begun, 1e-9):,.0f} {unit}/s")
            yield part


class ProgressLine:
    """A live line on standard error while it is a terminal; warnings are printed above it, or plainly in a pipe."""

    def __init__(self, total: int, *, done: int = 0, shown: bool = True) -> None:
        self.console = Console(stderr=True)
        self.shown = shown
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            refresh_per_second=4,
        )
        self.task = self.bar.add_task("pretrain", total=total, completed=done, facts="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def update(self, step: int, *, name: str, rate: float, loss: float, rankme: float | None) -> None:
        """Show a step."""
        facts = f"{rate:.1f} steps/s  loss {loss:.4g}" + (f"  RankMe {rankme:.1f}" if rankme is not None else "")
        self.bar.update(self.task, completed=step, description=name, facts=facts)

    def warn(self, sentence: str) -> None:
        """Say something that the user should know, without breaking the line."""
        if self.shown:
            self.console.print(f"warning: {sentence}", style="yellow", highlight=False, markup=False, soft_wrap=True)


class TrialsLine:
    """A live line on standard error while it is a terminal: how many of some long trials are done, the best, and the time left."""

    def __init__(self, name: str, total: int, *, done: int = 0, shown: bool = True) -> None:
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            refresh_per_second=4,
            speed_estimate_period=10**9,  # a trial may take longer than the half minute that is looked back by default
        )
        self.task = self.bar.add_task(name, total=total, completed=done, facts="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def advance(self, facts: str) -> None:
        """One trial more is done."""
        self.bar.update(self.task, advance=1, facts=facts)
