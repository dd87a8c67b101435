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
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from study import Trial, make, show, spread, study_parser

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
    "lookahead 1, dropout 0.4": {"lookahead": 1, "dropout": 0.4},
    "lookahead 2, dropout 0.4": {"lookahead": 2, "dropout": 0.4},
    "lookahead 2, dropout 0.2": {"lookahead": 2, "dropout": 0.2},
    "mining 0.5": {"lookahead": 2, "dropout": 0.4, "objective": functools.partial(MYOW, weight=0.5)},
    "mining 1, nearest": {"lookahead": 2, "dropout": 0.4, "objective": functools.partial(MYOW, weight=1.0, neighbours=1)},
}
"""The last two are the one that was chosen, with more mining."""
CHOSEN = {"MYOW": "lookahead 2, dropout 0.4", "BYOL": "lookahead 2, dropout 0.4"}
SCORES = ("accuracy", "delta_accuracy")


@dataclass(frozen=True)
class Training(Trial):
    """A method with a setting, and what it is trained on: all training trials (fold None), or those outside of a fold."""

    method: str
    setting: str
    seed: int
    fold: int | None
    epochs: int
    out: Path = field(default=Path(), compare=False)

    @property
    def folder(self) -> Path:
        """Where the run is kept; its scores lie beside it."""
        fold = "test" if self.fold is None else f"fold{self.fold}"
        return self.out / f"{self.method}-{self.setting.replace(', ', '-').replace(' ', '')}-{fold}-{self.epochs}-{self.seed}"

    def make(self) -> dict[str, Any]:
        """Scores by column, and processor seconds."""
        source: Any = open_series(DATA)
        if self.fold is not None:
            source = held_out(source, self.fold)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            recipe = myow(source, **{**METHODS[self.method], **SETTINGS[self.setting]}, epochs=self.epochs)
        began = time.process_time()
        run = anyview.pretrain(recipe, self.folder, seed=self.seed, overwrite=True)
        seconds = time.process_time() - began
        (found,) = run.evaluate(["reach_angle"], seeds=3)
        return {"seconds": seconds, "scores": {c: {score: found.mean(c, score) for score in SCORES} for c in (TRAINED, RANDOM, RAW)}}

    def told(self, result: dict[str, Any]) -> str:
        return ", ".join(f"{column} {100 * result['scores'][column]['accuracy']:.1f}" for column in (TRAINED, RANDOM, RAW))


def held_out(source: SeriesSource, fold: int) -> SeriesSource:
    """The training trials alone, with every third of them as the test part, and none of these in pre-training."""
    other, trial = copy.copy(source), source.members["trial"]
    trials = trial[source.train_rows].unique()
    outside = torch.isin(trial, trials[fold::FOLDS])
    assert source.published is not None
    train, validation = source.published.train, source.published.validation
    other.published = Split(train[~outside[train]], validation, train[outside[train]], name=f"training trials, fold {fold} of {FOLDS}")
    other.train_rows = source.train_rows[~outside[source.train_rows]]
    return other


def methods(setting: str) -> tuple[str, ...]:
    """Those that a setting is for: mining is MYOW's alone."""
    return tuple(method for method in METHODS if method == "MYOW" or "objective" not in SETTINGS[setting])


def choose(options: Any) -> None:
    """Accuracy on held-out training trials, by setting and method."""
    trials = [
        Training(method, setting, options.seeds[0], fold, options.epochs, options.out)
        for setting in options.only
        for method in methods(setting)
        for fold in range(FOLDS)
    ]
    found = dict(zip(trials, make(trials, options.jobs), strict=True))
    rows = []
    for setting in options.only:
        scores = {
            method: [100 * found[one]["scores"][TRAINED]["accuracy"] for one in trials if (one.method, one.setting) == (method, setting)]
            for method in methods(setting)
        }
        rows.append([setting, *(spread(scores[method]) if method in scores else "" for method in METHODS)])
    rates = [found[one]["scores"][RAW]["accuracy"] for one in trials if (one.method, one.setting) == ("MYOW", options.only[0])]
    rows.append(["rates", *[spread([100 * rate for rate in rates])] * len(METHODS)])
    show(("setting", *METHODS), rows, markdown=options.markdown)


def compare(options: Any) -> None:
    """Scores on the test trials."""
    trials = [Training(method, CHOSEN[method], seed, None, options.epochs, options.out) for seed in options.seeds for method in METHODS]
    found = dict(zip(trials, make(trials, options.jobs), strict=True))
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
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="these settings alone, with --choose")
    parser.add_argument("--epochs", type=int, default=4000, help="4000 are the published script's steps, and best for MYOW with --choose")
    options = parser.parse_args()
    (choose if options.choose else compare)(options)


if __name__ == "__main__":
    main()
