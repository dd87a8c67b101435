"""Trains the sequential recommenders and tells how they rank what comes next, beside Markov, ItemKNN and popularity.

    python benchmarks/recommenders_sequential.py --data amazon-beauty --seeds 0 1 2 --jobs 2
    python benchmarks/recommenders_sequential.py --data generated-walks --seeds 0

Weights are chosen by validation recall@20; the test part is ranked once for each length of list. Everything is fitted to the training part.
Runs that are finished are kept and not trained again, so the command may be interrupted and given again. Seconds are processor seconds of
one `anyview pretrain` on one thread, start and data reading included.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from study import Trial, execute, make, show, spread, study_parser

RECIPES = ("sasrec", "bert4rec", "cl4srec", "duorec", "iclrec", "maerec", "dcrec")
LENGTHS = (10, 20)
DIGITS = 4
COLUMNS = ("model", *(f"{measure}@{k}" for k in LENGTHS for measure in ("Recall", "NDCG")), "validation recall@20", "seconds")


@dataclass(frozen=True)
class SequentialRun(Trial):
    """One `anyview pretrain`, and the ranking of its test part."""

    recipe: str
    data: str
    folder: Path
    seed: int

    def make(self) -> dict[str, Any]:
        """Scores, the best validation score, processor seconds and the command."""
        command = f"anyview pretrain recommenders/{self.recipe} --data {self.data} --seed {self.seed} --out {self.folder}"
        seconds = execute(f"{command} --overwrite").seconds
        return {"seconds": seconds, "command": command, **_scores_of_run(self.folder)}

    def told(self, result: dict[str, Any]) -> str:
        return f"recall@10 {result['recall@10']:.4f}"


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
    makers: dict[str, Callable[[], Any]] = {
        "first-order Markov": partial(markov_of, source, "test"),
        "ItemKNN": partial(item_knn, train, neighbours=100, shrinkage=10.0),
        "popularity": partial(popularity, train),
    }
    return {name: _test_scores(make(), source) for name, make in makers.items()}


def row(name: str, results: Sequence[dict[str, Any]]) -> list[str]:
    """A model's line, over seeds."""
    keys = [name.lower() for name in COLUMNS[1:5]]
    scores = [spread([one[key] for one in results], DIGITS) for key in keys]
    if "seconds" not in results[0]:
        return [name, *scores, "", ""]
    seconds = statistics.fmean(one["seconds"] for one in results)
    return [name, *scores, spread([one["validation"] for one in results], DIGITS), f"{seconds:.0f}"]


def main() -> None:
    """Train what is missing; print the table."""
    parser = study_parser(__doc__, "runs/sequential")
    parser.add_argument("--data", default="amazon-beauty")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="these recipes alone")
    options = parser.parse_args()
    folder = options.out / options.data
    runs = {name: [SequentialRun(name, options.data, folder / f"{name}-{seed}", seed) for seed in options.seeds] for name in options.only}
    results = iter(make([run for of_recipe in runs.values() for run in of_recipe], options.jobs))
    rows = [row(f"recommenders/{name}", [next(results) for _ in of_recipe]) for name, of_recipe in runs.items()]
    rows += [row(name, [scores]) for name, scores in classical(options.data).items()]
    show(COLUMNS, rows, markdown=options.markdown)


if __name__ == "__main__":
    main()
