"""Directions of a monkey's reaches from motor cortex: MYOW against BYOL with the same budget, and against the rates themselves.

    python benchmarks/myow.py --choose
    python benchmarks/myow.py --seeds 0 1 2 3 4

--choose: each method is trained with every setting on two thirds of the training trials and scored on the third that is left, three times;
test trials are not looked at. Without it: both methods with the setting that was chosen for each, trained on all training trials and scored
on the test trials, beside the same network untrained and the rates. BYOL is MYOW without mining. The protocol is reach_angle.
"""

from __future__ import annotations

import copy
import functools
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from study import show, spread, study_parser

import anyview
from anyview.data.splits import Split
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED
from anyview.objectives.myow import MYOW
from anyview_timeseries.datasets import open_series
from anyview_timeseries.recipes.myow import myow
from anyview_timeseries.series import SeriesSource

DATA, FOLDS = "monkey_reach_chewie1", 3
METHODS: dict[str, dict[str, Any]] = {"MYOW": {}, "BYOL": {"objective": functools.partial(MYOW, weight=0.0), "candidates": 0}}
SETTINGS: dict[str, dict[str, Any]] = {
    "published": {},
    "lookahead 2": {"lookahead": 2},
    "lookahead 1": {"lookahead": 1},
}
CHOSEN = {"MYOW": "lookahead 2", "BYOL": "lookahead 2"}
SCORES = ("accuracy", "delta_accuracy")


@dataclass(frozen=True)
class Trial:
    """A method with a setting, and what it is trained on: all training trials (fold None), or those outside of a fold."""

    method: str
    setting: str
    seed: int
    fold: int | None
    epochs: int
    out: Path = field(default=Path(), compare=False)

    def result(self) -> dict[str, Any]:
        """Scores by column, and processor seconds; made when they are not there."""
        fold = "test" if self.fold is None else f"fold{self.fold}"
        folder = self.out / f"{self.method}-{self.setting.replace(', ', '-').replace(' ', '')}-{fold}-{self.epochs}-{self.seed}"
        kept = folder.with_name(f"{folder.name}.json")
        if not kept.exists():
            source = open_series(DATA) if self.fold is None else held_out(open_series(DATA), self.fold)
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                recipe = myow(source, **{**METHODS[self.method], **SETTINGS[self.setting]}, epochs=self.epochs)
            began = time.process_time()
            run = anyview.pretrain(recipe, folder, seed=self.seed, overwrite=True)
            seconds = time.process_time() - began
            (found,) = run.evaluate(["reach_angle"], seeds=3)
            scores = {column: {score: found.mean(column, score) for score in SCORES} for column in (TRAINED, RANDOM, RAW)}
            told = {key: str(value) for key, value in asdict(self).items() if key != "out"}
            kept.write_text(json.dumps({"trial": told, "seconds": seconds, "scores": scores}, indent=2))
        return json.loads(kept.read_text())


def held_out(source: SeriesSource, fold: int) -> SeriesSource:
    """The training trials alone, with every third of them as the test part, and none of these in pre-training."""
    other, trial = copy.copy(source), source.members["trial"]
    trials = trial[source.train_rows].unique()
    outside = torch.isin(trial, trials[fold::FOLDS])
    train, validation, _ = source.published.train, source.published.validation, source.published.test
    other.published = Split(train[~outside[train]], validation, train[outside[train]], name=f"training trials, fold {fold} of {FOLDS}")
    other.train_rows = source.train_rows[~outside[source.train_rows]]
    return other


def result_of(trial: Trial) -> dict[str, Any]:
    """For a pool of processes."""
    torch.set_num_threads(1)
    return trial.result()


def results_of(trials: list[Trial], jobs: int) -> list[dict[str, Any]]:
    """The results of all trials, in order."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(result_of, trials))


def choose(options: Any) -> None:
    """Accuracy on held-out training trials, by setting and method."""
    trials = [
        Trial(method, setting, options.seeds[0], fold, options.epochs, options.out)
        for setting in SETTINGS
        for method in METHODS
        for fold in range(FOLDS)
    ]
    found = dict(zip(trials, results_of(trials, options.jobs), strict=True))
    rows = []
    for setting in SETTINGS:
        cells = [
            spread([100 * found[one]["scores"][TRAINED]["accuracy"] for one in trials if (one.method, one.setting) == (method, setting)])
            for method in METHODS
        ]
        rows.append([setting, *cells])
    rates = [found[one]["scores"][RAW]["accuracy"] for one in trials if (one.method, one.setting) == ("MYOW", "published")]
    rows.append(["rates", *[spread([100 * rate for rate in rates])] * len(METHODS)])
    show(("setting", *METHODS), rows, markdown=options.markdown)


def compare(options: Any) -> None:
    """Scores on the test trials."""
    trials = [Trial(method, CHOSEN[method], seed, None, options.epochs, options.out) for seed in options.seeds for method in METHODS]
    found = dict(zip(trials, results_of(trials, options.jobs), strict=True))
    by_method = {method: [found[one] for one in trials if one.method == method] for method in METHODS}
    rows = [row(f"{method}, {CHOSEN[method]}", results, TRAINED) for method, results in by_method.items()]
    rows += [row("the network untrained", by_method["MYOW"], RANDOM), row("rates", by_method["MYOW"], RAW)]
    show(("encoder", "accuracy", "delta accuracy", "seconds"), rows, markdown=options.markdown)


def row(name: str, results: list[dict[str, Any]], column: str) -> list[str]:
    """A line of the table, over seeds; seconds are those of a pre-training."""
    cells = [spread([100 * one["scores"][column][score] for one in results]) for score in SCORES]
    return [name, *cells, f"{sum(one['seconds'] for one in results) / len(results):.0f}" if column == TRAINED else ""]


def main() -> None:
    """Train what is missing, and print a table."""
    parser = study_parser(__doc__, "runs/myow")
    parser.set_defaults(seeds=list(range(5)))
    parser.add_argument("--choose", action="store_true", help="compare settings on held-out training trials")
    parser.add_argument("--epochs", type=int, default=1000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (choose if options.choose else compare)(options)


if __name__ == "__main__":
    main()
