"""Every recipe for time series on the archives' sets, beside its encoder untrained, the values themselves and MiniRocket.

    pip install -e ".[minirocket]"
    python benchmarks/timeseries_recipes.py --figure docs/results/timeseries_ranks.svg
    python benchmarks/timeseries_recipes.py --sets uci_har_subset --protocol linear

Official splits: a recipe is shown the training part without labels, a probe learns from it with labels, the test part is scored once. Each
run is judged by two probes; `--protocol` says whose scores are printed.
The picture has mean ranks over sets; methods that a bar joins are not told apart by Nemenyi's test at 5 %. Runs that are finished are kept.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range
from study import RAW, TRAINED, UNTRAINED, StudyRun, figure, make, show, spread, study_parser

ARCHIVE = ("ArrowHead", "BasicMotions", "Coffee", "ECG200", "FaceFour", "GunPoint", "ItalyPowerDemand", "Lightning7", "Plane")
LARGE = "uci_har_subset"
SETS = (LARGE, *ARCHIVE)
RECIPES = {
    "frame_projections": "--preset chirps --encoder.dropout 0.2 --epochs 150 --mapper-epochs 20",
    "pair": "--preset chirps --epochs 200",
    "ts2vec": "--preset quick --iterations 200",
    "ts_tcc": "--preset quick --epochs 150",
    "tf_c": "--preset quick --epochs 150",
}
LARGE_RECIPES = {
    "frame_projections": "",
    "pair": "",
    "ts2vec": "",
    "ts_tcc": "--epochs 20",
    "tf_c": "--preset quick --epochs 20",
}
PROTOCOLS = ("logistic", "linear")
ROCKET = "MiniRocket"
CONTROLS = {"values": RAW, "statistics": "statistics + spectrum", ROCKET: ROCKET}
"""Columns of any recipe's evaluation that stand as methods of their own."""
RESNET = "untrained ResNet"
"""That of `pair`, whose encoder is the 1-D ResNet."""


def run(recipe: str, name: str, seed: int, out: Path) -> StudyRun:
    """One recipe on one set."""
    flags = (LARGE_RECIPES if name == LARGE else RECIPES)[recipe]
    return StudyRun(f"timeseries/{recipe} --data {name} {flags}", out / f"{name}-{recipe}-{seed}", seed, ",".join(PROTOCOLS), "--seeds 1")


def scores_of(results: list[dict[str, Any]], encoder: str, protocol: str) -> list[float]:
    """A score in percent for each seed; empty where a control could not be had."""
    return [value for one in results for value in one["scores"].get(encoder, {}).get(protocol, [])]


def table(found: dict[tuple[str, str], list[dict[str, Any]]], sets: list[str], protocol: str, *, markdown: bool) -> dict[str, list[float]]:
    """Print scores by set; returns for each method its mean score on every set."""
    recipes = list(dict.fromkeys(recipe for _, recipe in found))
    controls = {RESNET: UNTRAINED, **CONTROLS} if "pair" in recipes else CONTROLS
    of_controls = "pair" if "pair" in recipes else recipes[0]
    means: dict[str, list[float]] = {}
    rows = []
    for name in sets:
        cells = [name]
        for recipe in recipes:
            trained = scores_of(found[name, recipe], TRAINED, protocol)
            untrained = scores_of(found[name, recipe], UNTRAINED, protocol)
            cells.append(f"{spread(trained)} ({statistics.fmean(untrained):.1f})")
            means.setdefault(recipe, []).append(statistics.fmean(trained))
        for title, column in controls.items():
            values = scores_of(found[name, of_controls], column, protocol)
            cells.append(f"{statistics.fmean(values):.1f}" if values else "")
            means.setdefault(title, []).append(statistics.fmean(values) if values else math.nan)
        rows.append(cells)
    seconds = [statistics.fmean(one["seconds"] for name in sets for one in found[name, recipe]) for recipe in recipes]
    rows.append(["seconds", *(f"{each:.0f}" for each in seconds), *[""] * len(controls)])
    show(("set", *recipes, *controls), rows, markdown=markdown)
    return {name: values for name, values in means.items() if not any(math.isnan(value) for value in values)}


def mean_ranks(means: dict[str, list[float]]) -> dict[str, float]:
    """Mean rank over sets of each method, 1 = best; equal scores share their ranks."""
    ranks = np.array([rankdata([-score for score in of_set]) for of_set in zip(*means.values(), strict=True)])
    return dict(zip(means, ranks.mean(0), strict=True))


def critical_difference(methods: int, sets: int, level: float = 0.05) -> float:
    """Nemenyi's: mean ranks nearer than this are not told apart (Demsar, JMLR 2006)."""
    return float(studentized_range.ppf(1 - level, methods, np.inf) / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * sets)))


def joined(ranks: list[float], difference: float) -> list[tuple[int, int]]:
    """The largest runs of neighbours, first and last place each, in sorted mean ranks that are not told apart."""
    spans = [(first, max(place for place, rank in enumerate(ranks) if rank - ranks[first] < difference)) for first in range(len(ranks))]
    wide = [(first, last) for first, last in spans if last > first]
    return [(first, last) for first, last in wide if not any(a <= first and last <= b and (a, b) != (first, last) for a, b in wide)]


def draw(ranks: dict[str, float], difference: float, sets: int, path: Path) -> None:
    """Mean ranks on a line, names below it, bars over those that are not told apart."""
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    groups = joined([rank for _, rank in ordered], difference)
    with figure(path) as (panel,):
        panel.figure.set_size_inches(7.5, 0.28 * (len(ordered) + len(groups)) + 1.2)
        for level, (first, last) in enumerate(groups):
            height = 0.45 * (level + 1)
            panel.plot(
                [ordered[first][1] - 0.04, ordered[last][1] + 0.04], [height, height], color="black", linewidth=3, solid_capstyle="butt"
            )
        for place, (name, rank) in enumerate(ordered):
            left = place < len(ordered) / 2
            depth = -(place + 1 if left else len(ordered) - place)
            end = 0.4 if left else len(ordered) + 0.6
            panel.plot([rank, rank, end], [0, depth, depth], color="grey", linewidth=0.8)
            panel.text(end, depth, f" {name} {rank:.2f} ", ha="right" if left else "left", va="center", fontsize=8)
        panel.axhline(0, color="black", linewidth=1)
        panel.set_xlim(-2.2, len(ordered) + 3.2)
        panel.set_xticks(range(1, len(ordered) + 1))
        panel.xaxis.set_ticks_position("top")
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        panel.set_title(f"mean rank over {sets} sets; critical difference {difference:.2f}", fontsize=9)


def main() -> None:
    """Train what is missing; print scores and mean ranks, draw the picture."""
    parser = study_parser(__doc__, "runs/timeseries_recipes")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--protocol", default="logistic", choices=PROTOCOLS)
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="these recipes alone")
    parser.add_argument("--figure", type=Path, help="where the picture goes (.svg)")
    options = parser.parse_args()
    keys = [(seed, name, recipe) for seed in options.seeds for name in options.sets for recipe in options.only]
    results = make([run(recipe, name, seed, options.out) for seed, name, recipe in keys], options.jobs)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (_, name, recipe), result in zip(keys, results, strict=True):
        found.setdefault((name, recipe), []).append(result)
    means = table(found, options.sets, options.protocol, markdown=options.markdown)
    if len(options.sets) < 3:
        return
    ranks, difference = mean_ranks(means), critical_difference(len(means), len(options.sets))
    print(f"\nmean ranks: {', '.join(f'{name} {rank:.2f}' for name, rank in sorted(ranks.items(), key=lambda item: item[1]))}")
    print(f"Friedman p {friedmanchisquare(*means.values()).pvalue:.1e}, critical difference {difference:.2f}")
    if options.figure:
        draw(ranks, difference, len(options.sets), options.figure)


if __name__ == "__main__":
    main()
