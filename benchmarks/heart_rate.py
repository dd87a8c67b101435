"""Heart rates of unseen people on IEEE SPC12 by frozen encoders, beside the controls of the same split.

    python benchmarks/heart_rate.py
    python benchmarks/heart_rate.py --only all simclr --seeds 0 1 2 --jobs 2

For each of subjects 0 to 4: a recipe is pre-trained on the windows of all others, a linear probe (the protocol heart_rate) learns from the
other four of 0 to 4, and is tested on the target. Errors in beats a minute: means over targets, then mean and deviation over seeds. Seconds
are processor seconds of a pre-training on one thread. Runs that are finished are kept.
"""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study import Trial, make, show, spread, study_parser

import anyview
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED, evaluate_rows
from anyview.evaluation.subject import RawFeatures, TrainedEncoder, UntrainedEncoder
from anyview.objectives.simclr import SimCLR
from anyview.run import Run
from anyview_timeseries.evaluations import heart_rate
from anyview_timeseries.mappers import MappedTime

DATA, TARGETS = "ieee_spc12", range(5)
SCORES = ("mae", "rmse", "correlation")
TIME = "time encoder alone"
PROJECTIONS, PAIR = "timeseries/frame_projections", "timeseries/pair"
SMALL_SIMCLR = functools.partial(SimCLR, hidden=128, width=128, temperature=0.15)
ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "all": ("window, Fourier, wavelets", PROJECTIONS, {}),
    "fourier": ("window, Fourier", PROJECTIONS, {"frames": ("fourier",)}),
    "wavelets": ("window, wavelets", PROJECTIONS, {"frames": ("morlet",)}),
    "identity": ("window twice, two encoders", PROJECTIONS, {"frames": ("identity",)}),
    "random": ("window, random orthonormal matrix", PROJECTIONS, {"frames": ("random",)}),
    "simclr": ("SimCLR, scaled and jittered", PAIR, {"objective": SMALL_SIMCLR, "augmentation": "weak"}),
    "simclr_motion": ("SimCLR, stretches at changing speed", PAIR, {"objective": SMALL_SIMCLR, "augmentation": "motion"}),
}


@dataclass(frozen=True)
class Training(Trial):
    """One row of the table for one target and seed."""

    row: str
    target: int
    seed: int
    out: Path
    epochs: int | None = None

    @property
    def folder(self) -> Path:
        """Where the run is kept; its scores lie beside it."""
        return self.out / f"{self.row}{f'-{self.epochs}' if self.epochs else ''}-target{self.target}-seed{self.seed}"

    def make(self) -> dict[str, Any]:
        """Scores by column, and processor seconds."""
        _, recipe, values = ROWS[self.row]
        values = {**values, **({"epochs": self.epochs} if self.epochs else {})}
        began = time.process_time()
        run = anyview.pretrain(recipe, self.folder, seed=self.seed, data=DATA, reading={"target": self.target}, overwrite=True, **values)
        return {"seconds": time.process_time() - began, "scores": scored(run, self.seed)}

    def told(self, result: dict[str, Any]) -> str:
        return ", ".join(f"{column} {result['scores'][column]['mae']:.1f} bpm" for column in (TRAINED, RANDOM))


def scored(run: Run, seed: int) -> dict[str, dict[str, float]]:
    """The protocol on the run's encoder, on its time encoder alone, and on all controls."""
    source = run.source
    columns: dict[str, Any] = {TRAINED: TrainedEncoder(run.embedder, source)}
    if isinstance(run.embedder, MappedTime):
        columns[TIME] = TrainedEncoder(run.embedder.time, source)
    columns |= {RANDOM: UntrainedEncoder(run.fresh_encoder, source), RAW: RawFeatures(source)}
    columns |= {name: RawFeatures(source, control=name) for name in source.controls()}
    found = evaluate_rows(columns, source.labels, source.split, heart_rate, [seed])
    return {column: {name: found.mean(column, name) for name in SCORES if name in scores} for column, scores in found.values.items()}


def line(title: str, column: str, results: dict[Training, dict[str, Any]], *, seconds: bool = False) -> list[str]:
    """A line of the table: every score as mean and deviation over seeds of the mean over targets, and the error of each target."""
    by_seed: dict[int, list[dict[str, float]]] = {}
    by_target: dict[int, list[float]] = {}
    for training, result in results.items():
        by_seed.setdefault(training.seed, []).append(result["scores"][column])
        by_target.setdefault(training.target, []).append(result["scores"][column]["mae"])
    cells = []
    for name in SCORES:
        means = [statistics.fmean(one[name] for one in of) for of in by_seed.values()]
        cells.append(spread(means, 2))
    targets = " ".join(f"{statistics.fmean(values):.1f}" for _, values in sorted(by_target.items()))
    took = f"{statistics.fmean(one['seconds'] for one in results.values()):.0f}" if seconds else ""
    return [title, *cells, targets, took]


def main() -> None:
    """Train what is missing; print the table."""
    parser = study_parser(__doc__, "runs/heart_rate")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS), help="these rows alone")
    parser.add_argument("--epochs", type=int, help="passes over the windows, instead of the preset's")
    options = parser.parse_args()
    trainings = [
        Training(row, target, seed, options.out, options.epochs) for seed in options.seeds for row in options.only for target in TARGETS
    ]
    found = dict(zip(trainings, make(trainings, options.jobs), strict=True))
    lines = []
    for row in options.only:
        results = {training: result for training, result in found.items() if training.row == row}
        lines.append(line(ROWS[row][0], TRAINED, results, seconds=True))
        if ROWS[row][1] == PROJECTIONS:
            lines.append(line(f"{ROWS[row][0]}: time encoder alone", TIME, results))
    first = {training: result for training, result in found.items() if training.row == options.only[0]}
    controls = dict.fromkeys(column for result in first.values() for column in result["scores"])
    lines += [line(column, column, first) for column in controls if column not in (TRAINED, TIME)]
    show(("rows", "MAE, bpm", "RMSE, bpm", "correlation", "MAE by target", "seconds"), lines, markdown=options.markdown)


if __name__ == "__main__":
    main()
