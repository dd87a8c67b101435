"""Trains the sequential recommenders and tells how they rank what comes next, beside Markov, ItemKNN and popularity.

    python benchmarks/recommenders_sequential.py --data amazon-beauty --seeds 0 1 2 --jobs 2
    python benchmarks/recommenders_sequential.py --data generated-walks --seeds 0

Weights are chosen by validation recall@20; the test part is ranked once for each length of list. Everything is fitted to the training part.
Runs that are finished are kept and not trained again, so the command may be interrupted and given again. Seconds are processor seconds of
one `anyview pretrain` on one thread, start and data reading included.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from study import execute, show, study_parser

RECIPES = ("sasrec", "bert4rec", "cl4srec", "duorec")
LENGTHS = (10, 20)
COLUMNS = ("model", *(f"{measure}@{k}" for k in LENGTHS for measure in ("Recall", "NDCG")), "validation recall@20", "seconds")


@dataclass(frozen=True)
class SequentialRun:
    """One `anyview pretrain`, and the ranking of its test part; its summary lies beside its folder."""

    recipe: str
    data: str
    folder: Path
    seed: int

    @property
    def summary(self) -> Path:
        """Where the scores are kept."""
        return self.folder.with_name(f"{self.folder.name}.json")

    def result(self) -> dict[str, Any]:
        """Scores, the best validation score, processor seconds and the command; made when they are not there."""
        if not self.summary.exists():
            command = f"anyview pretrain recommenders/{self.recipe} --data {self.data} --seed {self.seed} --out {self.folder}"
            seconds = execute(f"{command} --overwrite").seconds
            found = {"seconds": seconds, "command": command, **_scores_of_run(self.folder)}
            self.summary.write_text(json.dumps(found, indent=2))
        loaded: dict[str, Any] = json.loads(self.summary.read_text())
        return loaded


def _scores_of_run(folder: Path) -> dict[str, Any]:
    from anyview.run import load
    from anyview_recommenders.evaluations import scorer_of

    run = load(folder)
    looks = [line["validation recall@20"] for line in run.folder.metrics() if "validation recall@20" in line]
    scorer = scorer_of(run.embedder.eval(), run.source.catalogue, until="validation")  # type: ignore[attr-defined]
    return {"validation": max(looks, default=float("nan")), **_test_scores(scorer, run.source)}


def _test_scores(scorer: Any, source: Any) -> dict[str, float]:
    from anyview_recommenders.evaluations import score_part

    found = {k: score_part(scorer, source, k=k, part="test") for k in LENGTHS}
    return {f"{measure.lower()}@{k}": found[k][measure.lower()] for k in LENGTHS for measure in ("Recall", "NDCG")}


def classical(data: str) -> dict[str, dict[str, Any]]:
    """Scores of the recommenders that are not trained by descent, fitted to the training part."""
    from anyview_recommenders.baselines.item_knn import item_knn
    from anyview_recommenders.baselines.popularity import popularity
    from anyview_recommenders.datasets import open_interactions
    from anyview_recommenders.evaluations import markov_of
    from anyview_recommenders.sequence_source import SequenceSource

    source: Any = SequenceSource.of(open_interactions(data), 50)
    train = source.parts.train.matrix()
    makers = {
        "first-order Markov": partial(markov_of, source, "test"),
        "ItemKNN": partial(item_knn, train, neighbours=100, shrinkage=10.0),
        "popularity": partial(popularity, train),
    }
    return {name: _test_scores(make(), source) for name, make in makers.items()}


def make(runs: Sequence[SequentialRun], jobs: int) -> list[dict[str, Any]]:
    """The results of all runs, in order; those that are missing are made, `jobs` at a time, each in a process of one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    missing = [run for run in runs if not run.summary.exists()]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for position, (run, result) in enumerate(zip(missing, pool.map(SequentialRun.result, missing), strict=True), start=1):
            told = f"recall@10 {result['recall@10']:.4f}, {result['seconds']:.0f} s"
            print(f"{position}/{len(missing)} {run.folder}: {told}", file=sys.stderr, flush=True)
    return [run.result() for run in runs]


def row(name: str, results: Sequence[dict[str, Any]]) -> list[str]:
    """A model's line, over seeds."""
    keys = [name.lower() for name in COLUMNS[1:5]]
    scores = [_spread([one[key] for one in results]) for key in keys]
    if "seconds" not in results[0]:
        return [name, *scores, "", ""]
    seconds = statistics.fmean(one["seconds"] for one in results)
    return [name, *scores, _spread([one["validation"] for one in results]), f"{seconds:.0f}"]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def main() -> None:
    """Train what is missing; print the table."""
    parser = study_parser(__doc__, "runs/sequential")
    parser.add_argument("--data", default="amazon-beauty")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="these recipes alone")
    options = parser.parse_args()
    folder = options.out / options.data
    folder.mkdir(parents=True, exist_ok=True)
    runs = {name: [SequentialRun(name, options.data, folder / f"{name}-{seed}", seed) for seed in options.seeds] for name in options.only}
    results = iter(make([run for of_recipe in runs.values() for run in of_recipe], options.jobs))
    rows = [row(f"recommenders/{name}", [next(results) for _ in of_recipe]) for name, of_recipe in runs.items()]
    rows += [row(name, [scores]) for name, scores in classical(options.data).items()]
    show(COLUMNS, rows, markdown=options.markdown)


if __name__ == "__main__":
    main()
