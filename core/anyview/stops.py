"""When a loop pauses: checkpoints that are due, signals that ask for an end, and a parent that is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from types import FrameType

SECONDS_BETWEEN_CHECKPOINTS = 60.0
INTERRUPTED = 130
"""What a process leaves with when it was asked to stop."""


class CheckpointClock:
    """Says when a checkpoint is due: after so many steps, or after about a minute."""

    def __init__(self, every: int | None) -> None:
        self.every, self.last = every, time.monotonic()

    def __call__(self, step: int) -> bool:
        if self.every is not None:
            return step % self.every == 0
        due = time.monotonic() - self.last > SECONDS_BETWEEN_CHECKPOINTS
        if due:
            self.last = time.monotonic()
        return due


class Stops:
    """While it is entered, SIGINT and SIGTERM ask for a stop after the step instead of ending the process.

    forward: pass the signal on to the processes that this one started, which do the steps.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *, forward: bool = False) -> None:
        self.asked, self.forward = False, forward

    def __enter__(self) -> Stops:
        in_main_thread = threading.current_thread() is threading.main_thread()  # elsewhere Python takes no handlers
        self.before = {number: signal.signal(number, self._ask) for number in self.signals if in_main_thread}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.forward:  # to be asked twice, by a terminal too, is to be asked once
            for child in multiprocessing.active_children():
                child.terminate()


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however that ended; without it a worker would go on alone."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(INTERRUPTED)
