"""How fast frames of whole batches are, and what the views take of a training step.

    python benchmarks/frames.py
    python benchmarks/frames.py --threads 1 2 --json frames.json

First table: magnitudes of the complex Morlet transform `cmor1-1` of 256 windows of 200 steps at 48 scales, by our batched FFT, by
PyWavelets' FFT on the batch, and by PyWavelets sample by sample, as frame projections were published. All three must agree to 1e-4.
Second table: parts of a step of `timeseries/frame_projections` on random windows (IEEE SPC12's preset). Cases take turns, so that a machine
that slows down slows all of them; medians are shown.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pywt
import torch
from torch import Tensor

from anyview.console import make_console, make_table
from anyview.data.source import Epoch
from anyview.objectives.objective import Step
from anyview.pretrainer import Pretrainer, StepInput
from anyview.views.draws import Draws
from anyview_timeseries.frames.continuous import Morlet
from anyview_timeseries.recipes.frame_projections import frame_projections
from anyview_timeseries.series import SeriesSource

WINDOWS, LENGTH, SCALES = 256, 200, 48
PARTS = ("views", "encoders", "loss", "backward", "optimiser")


def cases(x: Tensor) -> dict[str, Callable[[], np.ndarray]]:
    """The transforms by name; each gives magnitudes (B, S, T) of windows x (B, 1, T)."""
    ours = Morlet(count=SCALES)
    scales, windows = ours.scales(LENGTH), x[:, 0].numpy()

    def by_sample() -> np.ndarray:
        return np.stack([np.abs(pywt.cwt(window, scales, "cmor1-1")[0]) for window in windows])

    def by_batch() -> np.ndarray:
        return np.abs(pywt.cwt(windows, scales, "cmor1-1", method="fft", axis=-1)[0]).transpose(1, 0, 2)

    return {
        "anyview, batch": lambda: ours.show(x)[:, 0].numpy(),
        "PyWavelets, batch, fft": by_batch,
        "PyWavelets, sample by sample": by_sample,
    }


def time_transforms(repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds, the ratio to ours and the largest difference from ours, by case."""
    x = torch.randn(WINDOWS, 1, LENGTH, generator=torch.Generator().manual_seed(0))
    made = cases(x)
    reference = {name: make() for name, make in made.items()}  # which also makes what is made once
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, make in made.items():
            seconds[name].append(_timed(make))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    first = next(iter(made))
    return {
        name: {
            "seconds": medians[name],
            "ratio": medians[name] / medians[first],
            "difference": float(np.abs(reference[name] - reference[first]).max()),
        }
        for name in made
    }


def _timed(act: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


class Training:
    """A step of frame projections; `step` returns the seconds that each part took."""

    def __init__(self, **options: Any) -> None:
        torch.manual_seed(0)
        source = SeriesSource(torch.randn(2 * WINDOWS, 1, LENGTH), name="random")
        recipe = frame_projections(source, preset="ieee_spc12", batch_size=WINDOWS, **options)
        self.batches = [batch for epoch in range(2) for batch in source.batches(Epoch(epoch, batch_size=WINDOWS))]
        self.stage, self.number = recipe.stages[0], 0
        self.pretrainer = Pretrainer(self.stage)
        self.pretrainer.prepare(StepInput(self.batches[0], self._draws(), 0, 1), len(source))
        self.pretrainer.start()
        self.optimizer = self.stage.make_optimizer(self.pretrainer.parameters())

    def step(self) -> dict[str, float]:
        """Train on one batch."""
        task, batch = self.stage.tasks[0], self.batches[self.number % len(self.batches)]
        taken: dict[str, float] = {}
        clock = functools.partial(self._clock, taken, [time.perf_counter()])
        views = task.views(batch, self._draws())
        clock("views")
        step = Step(views, batch, self._draws(), self.number, 100, self.stage.encoder)
        for view in views.views:
            step.encode(view)
        clock("encoders")
        loss = task.objective(step).total
        clock("loss")
        loss.backward()
        clock("backward")
        self.optimizer.step()
        self.optimizer.zero_grad()
        clock("optimiser")
        self.number += 1
        return taken

    def _draws(self) -> Draws:
        return Draws.seeded(self.number, total=WINDOWS)

    @staticmethod
    def _clock(taken: dict[str, float], last: list[float], part: str) -> None:
        now = time.perf_counter()
        taken[part], last[0] = now - last[0], now


def time_steps(repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of each part of a step, by whether views are made each time or kept."""
    trainings = {"views made in every step": Training(cache=False), "views kept": Training(cache=True)}
    for training in trainings.values():
        for _ in range(len(training.batches)):  # every sample is seen, so that all views are kept
            training.step()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in trainings}
    for _ in range(repeats):
        for name, training in trainings.items():
            taken[name].append(training.step())
    return {name: {part: statistics.median(step[part] for step in steps) for part in PARTS} for name, steps in taken.items()}


def show(results: dict[str, Any]) -> None:
    """The tables."""
    console = make_console()
    for threads, found in results.items():
        table = make_table(f"cmor1-1, {WINDOWS} x {LENGTH}, {SCALES} scales, threads {threads}", "ms", "times ours", "largest difference")
        for name, row in found["transforms"].items():
            table.add_row(name, f"{1000 * row['seconds']:.1f}", f"{row['ratio']:.1f}", f"{row['difference']:.1e}")
        console.print(table)
        table = make_table(f"a step of {WINDOWS} windows, ms, threads {threads}", *PARTS, "total", "share of views")
        for name, parts in found["steps"].items():
            total = sum(parts.values())
            cells = [f"{1000 * parts[part]:.1f}" for part in PARTS]
            table.add_row(name, *cells, f"{1000 * total:.1f}", f"{100 * parts['views'] / total:.0f} %")
        console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads, one after the other")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    results = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        results[str(threads)] = {"transforms": time_transforms(options.repeats), "steps": time_steps(options.repeats)}
    show(results)
    worst = max(row["difference"] for found in results.values() for row in found["transforms"].values())
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "pywavelets": pywt.__version__, "threads": results}, indent=2))
    if worst > 1e-4:
        raise SystemExit(f"transforms differ by {worst:.1e}, and 1e-4 was promised")


if __name__ == "__main__":
    main()
