"""Tells what self-supervision of items does for two towers on films: on all and on a tenth of the training pairs, for head and tail.

    python benchmarks/recommenders_towers.py --seeds 0 1 2 3 4 --jobs 1
    python benchmarks/recommenders_towers.py --seeds 0 --shares 0.1 --only none correlated
    python benchmarks/recommenders_towers.py --quick --uncorrected --only none correlated

Temperature of the ranking, weight and dropout of each row are those of GRID with the best recall@20 on the validation part, with the first
seed, for each share of the pairs; the test part is not looked at for it. Classical rows are fixed, and LightGCN's settings are its own.
Runs that are finished are kept and not trained again, so the command may be interrupted and given again.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from study import TRAINED, StudyRun, execute, make, mean_score, show, spread, study_parser

DATA = "--data ml-latest-small"
TOWERS = ("none", "spread_out", "feature_dropout", "random", "correlated")
LIGHTGCN = "lightgcn"
CLASSICAL = ("popularity", "ItemKNN")
MEASURES = ("recall", "recall_head", "recall_tail", "ndcg", "ndcg_head", "ndcg_tail")
WEIGHTS, DROPOUTS, TEMPERATURES = (0.3, 1.0, 3.0), (0.1, 0.3), (0.07, 0.2)
WEIGHED = [{"temperature": temperature, "weight": weight} for temperature, weight in itertools.product(TEMPERATURES, WEIGHTS)]
HIDDEN = [{"temperature": temperature, "dropout": dropout} for temperature, dropout in itertools.product((*TEMPERATURES, 0.1), DROPOUTS)]
GRID: dict[str, list[dict[str, float]]] = {
    "none": [{"temperature": temperature} for temperature in (0.05, *TEMPERATURES, 0.1, 0.15, 0.3)],
    "spread_out": WEIGHED,
    "feature_dropout": HIDDEN,
    "random": WEIGHED,
    "correlated": WEIGHED,
}
"""Six settings for each; the temperature is that of the softmax that ranks."""


class TowersRun(StudyRun):
    """A run that is judged by full ranking: every measure by encoder and baseline, in percent, and the best look at the validation part."""

    def make(self) -> dict[str, Any]:
        pretrain, _ = self.commands
        seconds = execute(f"{pretrain} --overwrite").seconds
        content = json.loads(execute(f"anyview evaluate {self.folder} --protocol ranking --seeds 1 --baselines ItemKNN --json").output)
        results = content["protocols"]["ranking"]["results"]
        scores = {name: {measure: [100 * found[measure]["values"][0]] for measure in MEASURES} for name, found in results.items()}
        return {"seconds": round(seconds, 1), "scores": scores, "validation": self._validation(), "commands": self.commands}

    def told(self, result: dict[str, Any]) -> str:
        return f"validation {100 * result['validation']:.1f}, test {mean_score(result, TRAINED, 'recall'):.1f}"

    def _validation(self) -> float:
        lines = map(json.loads, (self.folder / "metrics.jsonl").read_text().splitlines())
        return max(line["validation recall@20"] for line in lines if "validation recall@20" in line)


def towers_run(kind: str, options: dict[str, float], share: float, seed: int, *, loss: str, folder: Path) -> TowersRun:
    """Two towers with one kind of self-supervision; loss: flags of the softmax that ranks."""
    told = "".join(f" --{name} {value}" for name, value in options.items())
    place = folder / "-".join([kind, *(f"{name}{value}" for name, value in options.items()), f"share{share:g}", str(seed)])
    return TowersRun(f"recommenders/two_towers {DATA} --reading.train_share {share:g} --self-supervision {kind}{told}{loss}", place, seed)


def lightgcn_run(share: float, seed: int, folder: Path) -> TowersRun:
    """LightGCN on the same pairs, with the settings of its preset for a small log."""
    recipe = f"recommenders/lightgcn {DATA} --reading.train_share {share:g} --lr 0.005 --l2 0.001 --epochs 200"
    return TowersRun(recipe, folder / f"lightgcn-share{share:g}-{seed}", seed)


def chosen(kind: str, share: float, towers: Callable[..., TowersRun], seed: int, jobs: int) -> dict[str, float]:
    """Of a row's grid, the options that rank the validation part best; towers: makes a run."""
    results = make([towers(kind, options, share, seed) for options in GRID[kind]], jobs)
    scores = [result["validation"] for result in results]
    return GRID[kind][scores.index(max(scores))]


def row(name: str, share: float, results: Sequence[dict[str, Any]], encoder: str, told: str = "") -> list[str]:
    """A line of the table, over seeds."""
    means = ([mean_score(result, encoder, measure) for result in results] for measure in MEASURES)
    return [f"{100 * share:g} %", name, told, *map(spread, means)]


def main() -> None:
    """Train what is missing; print the table, and how far correlated masking is above none, seed by seed."""
    parser = study_parser(__doc__, "runs/towers")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.1], help="of the training pairs")
    parser.add_argument("--only", nargs="+", choices=(*TOWERS, LIGHTGCN), default=[*TOWERS, LIGHTGCN], help="these rows alone")
    parser.add_argument("--uncorrected", action="store_true", help="without what the softmax is corrected by, which keeps the tail low")
    parser.add_argument("--quick", action="store_true", help="choose nothing: the recipe's own weight and dropout")
    options = parser.parse_args()
    kinds = [kind for kind in TOWERS if kind in options.only]
    folder, loss = (options.out / "uncorrected", " --correct false") if options.uncorrected else (options.out, "")
    towers = partial(towers_run, loss=loss, folder=folder)
    rows, tails = [], []
    for share in options.shares:
        settings = {kind: {} if options.quick else chosen(kind, share, towers, options.seeds[0], options.jobs) for kind in kinds}
        makers: dict[str, Callable[..., TowersRun]] = {kind: partial(towers, kind, settings[kind], share) for kind in kinds}
        if LIGHTGCN in options.only:
            makers[LIGHTGCN] = partial(lightgcn_run, share, folder=options.out)
        by_seed = iter(make([maker(seed=seed) for seed in options.seeds for maker in makers.values()], options.jobs))
        every = [{name: next(by_seed) for name in makers} for _ in options.seeds]
        results = {name: [found[name] for found in every] for name in makers}
        rows += [row(name, share, next(iter(results.values()))[:1], name) for name in CLASSICAL]
        for name, found in results.items():
            told = ", ".join(f"{option} {value:g}" for option, value in settings.get(name, {}).items())
            rows.append(row(name, share, found, TRAINED, told))
        if {"none", "correlated"} <= results.keys():
            tails += [f"{100 * share:g} %, {measure}: {_differences(results, measure)}" for measure in ("recall", "recall_tail")]
    show(("pairs", "row", "chosen", *MEASURES), rows, markdown=options.markdown)
    print("\ncorrelated masking above none, seed by seed\n" + "\n".join(tails))


def _differences(results: dict[str, list[dict[str, Any]]], measure: str) -> str:
    """Of each seed, and their mean."""
    scores = ([mean_score(one, TRAINED, measure) for one in results[kind]] for kind in ("correlated", "none"))
    found = [ours - theirs for ours, theirs in zip(*scores, strict=True)]
    return f"{', '.join(f'{one:+.2f}' for one in found)}; mean {statistics.fmean(found):+.2f}"


if __name__ == "__main__":
    main()
