"""One trial: a recipe with some values, trained and judged, in this process or in one of several beside it."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from anyview.errors import UserError
from anyview.run import build
from anyview.stops import INTERRUPTED, end_with_parent
from anyview.training import pretrain
from anyview.tuning.judge import Judge
from anyview.tuning.space import Setting


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a trial.

    number: from 0, the recipe's own values. seed: of weights, order and views. setting: the values that were searched. score: None where
    it failed, and then error is the sentence that says why. passes: over the data, until the score was reached, where that was looked for.
    seconds: of training and judging.
    """

    number: int
    seed: int
    setting: Setting
    score: float | None
    passes: int | None
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A trial that is to be made. recipe: its full name. values: all of them. folder: of its run."""

    number: int
    seed: int
    setting: Setting
    recipe: str
    values: Mapping[str, Any]
    folder: Path
    judge: Judge
    accelerator: str
    precision: str

    def done(self, score: float | None, passes: int | None, seconds: float, error: str = "") -> Trial:
        """What became of it."""
        return Trial(self.number, self.seed, self.setting, score, passes, round(seconds, 2), error)


def carry_out(job: Job) -> Trial:
    """Train and judge a run; what is a user's error or too large for memory is the trial's failure. An unfinished run begins anew."""
    began = time.monotonic()
    if job.folder.exists():
        shutil.rmtree(job.folder)
    try:
        recipe = build(job.recipe, job.values, seed=job.seed)
        run = pretrain(recipe, job.folder, seed=job.seed, accelerator=job.accelerator, precision=job.precision)
        found = job.judge.judged(run)
    except (UserError, MemoryError, torch.OutOfMemoryError) as error:
        return job.done(None, None, time.monotonic() - began, " ".join(str(error).split()) or "there was not enough memory")
    return job.done(found.score, found.passes, time.monotonic() - began)


def carried_out(jobs: Iterator[Job], at_once: int) -> Iterator[Trial]:
    """What becomes of jobs, as they end; a job is taken when its turn comes. at_once: processes, each with its share of the threads."""
    return map(carry_out, jobs) if at_once == 1 else _beside_each_other(jobs, at_once)


def _beside_each_other(jobs: Iterator[Job], at_once: int) -> Iterator[Trial]:
    processes = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // at_once)
    running: dict[int, tuple[Any, Connection, Job, float]] = {}
    try:
        while True:
            while len(running) < at_once and (job := next(jobs, None)) is not None:
                ours, theirs = processes.Pipe(duplex=False)
                process = processes.Process(target=_work, args=(theirs, job, threads))
                process.start()
                theirs.close()
                running[process.sentinel] = process, ours, job, time.monotonic()
            if not running:
                return
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                yield _result(*running.pop(sentinel))
    finally:
        for process, *_ in running.values():
            process.terminate()
        for process, *_ in running.values():
            process.join()


def _result(process: Any, results: Connection, job: Job, began: float) -> Trial:
    """What a process that has ended sent; a failure where it was killed. Its own mistakes are told by its traceback, and end the search."""
    process.join()
    try:
        found: Trial = results.recv()
        return found
    except EOFError:
        if process.exitcode == INTERRUPTED:
            raise KeyboardInterrupt from None
        if process.exitcode < 0:
            killed = f"its process was killed by signal {-process.exitcode}, perhaps because memory was short"
            return job.done(None, None, time.monotonic() - began, killed)
        raise RuntimeError(f"trial {job.number} ended with exit code {process.exitcode}; its traceback stands above") from None
    finally:
        results.close()


def _work(results: Connection, job: Job, threads: int) -> None:
    """A process of its own: one job, and its end with that of the process that asked for it."""
    end_with_parent()
    torch.set_num_threads(threads)
    try:
        results.send(carry_out(job))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
