"""What the studies share: runs made and judged by the commands that a reader would type, and kept so that none is made twice."""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from anyview.console import make_console, make_table
from anyview.stops import end_with_parent

TRAINED, UNTRAINED, RAW = "trained encoder", "random encoder", "raw features"


class Trial(ABC):
    """One piece of a study: a training and what is measured of it, made once and kept."""

    if TYPE_CHECKING:  # a field of some trials, a property of others

        @property
        def folder(self) -> Path: ...

    @property
    def summary(self) -> Path:
        """Where the result is kept, beside the run."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @abstractmethod
    def make(self) -> dict[str, Any]:
        """Train and measure; the result is kept as JSON."""

    @abstractmethod
    def told(self, result: dict[str, Any]) -> str:
        """A result in a few words, for who waits for it."""

    def result(self) -> dict[str, Any]:
        """What is kept; made when it is not there."""
        if not self.summary.exists():
            torch.set_num_threads(1)
            self.summary.parent.mkdir(parents=True, exist_ok=True)
            self.summary.write_text(json.dumps(self.make(), indent=2))
        loaded: dict[str, Any] = json.loads(self.summary.read_text())
        return loaded


@dataclass(frozen=True)
class StudyRun(Trial):
    """One `anyview pretrain` and one `anyview evaluate`.

    recipe: its name and flags, as typed. folder: where the run is kept; its summary lies beside it.
    """

    recipe: str
    folder: Path
    seed: int = 0
    protocols: str = "linear,knn"
    evaluation: str = "--linear.lr 0.05 --seeds 1"

    @property
    def commands(self) -> list[str]:
        """How the run is made and judged."""
        return [
            f"anyview pretrain {self.recipe} --seed {self.seed} --out {self.folder}",
            f"anyview evaluate {self.folder} --protocol {self.protocols} {self.evaluation} --json",
        ]

    def make(self) -> dict[str, Any]:
        """Scores by encoder and protocol, label-free metrics, processor seconds, and the commands."""
        pretrain, evaluate = self.commands
        seconds = execute(f"{pretrain} --overwrite").seconds
        content = json.loads(execute(evaluate).output)
        return {
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "scores": scores(content["protocols"]),
            "label_free": content["label_free"],
            "commands": self.commands,
        }

    def told(self, result: dict[str, Any]) -> str:
        return ", ".join(f"{name} {mean_score(result, TRAINED, name):.1f}" for name in result["scores"][TRAINED])


def scores(protocols: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Headline scores by encoder and protocol, in percent, one for each seed of the probe (and of an untrained encoder)."""
    table: dict[str, dict[str, list[float]]] = {}
    for name, protocol in protocols.items():
        for encoder, values in protocol["results"].items():
            table.setdefault(encoder, {})[name] = [100 * value for value in values[protocol["headline"]]["values"]]
    return table


def mean_score(result: dict[str, Any], encoder: str, protocol: str) -> float:
    """A run's score, a mean over the seeds of its probe."""
    return statistics.fmean(result["scores"][encoder][protocol])


class Done(NamedTuple):
    """What a command printed, and the processor seconds that it took: on one thread those of an idle machine, however busy this one is."""

    output: str
    seconds: float


def execute(command: str) -> Done:
    """Run a command as `anyview` would, in this process; ends the program with the command's own words when it fails."""
    from anyview.__main__ import main

    output, words = io.StringIO(), io.StringIO()
    began = time.process_time()
    with redirect_stdout(output), redirect_stderr(words):
        code = main(shlex.split(command)[1:])
    if code:
        raise SystemExit(f"{command}\n{words.getvalue()}")
    return Done(output.getvalue(), time.process_time() - began)


class DoneApart(NamedTuple):
    """What a command printed, its seconds of wall time and of processors, and the peak resident set of its process in MB."""

    output: str
    seconds: float
    processor: float
    memory: int


def execute_apart(command: str, **environment: str) -> DoneApart:
    """Run an `anyview` command in a process of its own; ends the program with the command's own words when it fails."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as words:
        told = [sys.executable, "-m", *shlex.split(command)]
        process = subprocess.Popen(told, stdout=output, stderr=words, env={**os.environ, **environment})
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for printed in (output, words):
            printed.seek(0)
        if process.returncode:
            raise SystemExit(f"{command}\n{words.read().decode()}")
        return DoneApart(output.read().decode(), time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)


def make(trials: Sequence[Trial], jobs: int) -> list[dict[str, Any]]:
    """The results of all trials, in order; those that are missing are made, `jobs` at a time, each in a process of one thread."""
    missing = [trial for trial in trials if not trial.summary.exists()]
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
        for position, (trial, result) in enumerate(zip(missing, pool.map(_result, missing), strict=True), start=1):
            words = f"{position}/{len(missing)} {trial.folder}: {trial.told(result)}, {result['seconds']:.0f} s"
            print(words, file=sys.stderr, flush=True)
    return [trial.result() for trial in trials]


def _result(trial: Trial) -> dict[str, Any]:
    return trial.result()


def study_parser(text: str | None, out: str) -> argparse.ArgumentParser:
    """A study's command line, with what all of them take."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("--out", type=Path, default=Path(out), help="where the runs are kept")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation over seeds."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


@contextmanager
def figure(path: Path, panels: int = 1) -> Iterator[Any]:
    """Axes to draw on, one beside the other, saved as a picture that is the same each time it is drawn."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "anyview"
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(1, panels, figsize=(5 * panels, 3.5), layout="constrained", squeeze=False)
    for panel in axes[0]:
        panel.spines[["top", "right"]].set_visible(False)
    yield axes[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, metadata={"Date": None})


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> None:
    """Print a table, for people or for a page."""
    if markdown:
        print("\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)))
        return
    table = make_table(*columns)
    for row in rows:
        table.add_row(*row)
    make_console(pipe_width=160).print(table)
