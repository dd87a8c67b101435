"""Ranks settings of Barlow Twins and VICReg by RankMe, without labels, and holds the order against linear accuracy.

    python benchmarks/rankme.py --seeds 0 1 --figure docs/results/rankme.svg

RankMe is that of the encoder's rows, as `anyview evaluate` reports it; linear accuracy is that of the test part. Garrido et al. (2022,
arXiv 2210.02885) choose hyper-parameters of one method on one data set by it, so there is a correlation for each method and one for both.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr
from study import TRAINED, StudyRun, figure, make, mean_score, show, spread, study_parser

RECIPE = "images/pair --data mnist --epochs 3"
BARLOW_TWINS = {"redundancy": 0.004, "width": 256, "lr": 0.1}
VICREG = {"covariance": 1.0, "width": 256, "lr": 0.1}
VARIED: dict[str, dict[str, list[float]]] = {
    "barlow_twins": {"redundancy": [0.00004, 0.0004, 0.04, 0.4], "width": [16, 64, 1024], "lr": [0.001, 0.01, 1.0]},
    "vicreg": {"covariance": [0.0, 0.01, 0.1, 10.0], "width": [16, 64, 1024], "lr": [0.001, 0.01, 1.0]},
}


def main() -> None:
    """Train what is missing; print the table and the correlations, draw the figure."""
    parser = study_parser(__doc__, "runs/rankme")
    parser.add_argument("--figure", type=Path, help="where the picture goes (.svg)")
    options = parser.parse_args()
    settings = all_settings()
    runs = [
        StudyRun(flags, options.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}", seed)
        for seed in options.seeds
        for name, flags in settings.items()
    ]
    results = make(runs, options.jobs)
    by_name = {name: results[position :: len(settings)] for position, name in enumerate(settings)}
    points = [point(name, found) for name, found in by_name.items()]
    points.sort(key=lambda one: -float(one["rankme"]))
    cells = [[one["name"], f"{one['rankme']:.1f}", one["linear_spread"], one["knn_spread"]] for one in points]
    show(("setting", "RankMe", "linear", "kNN"), cells, markdown=options.markdown)
    for method in ("barlow_twins", "vicreg", ""):
        chosen = [one for one in points if one["name"].startswith(method)]
        rho = spearmanr([one["rankme"] for one in chosen], [one["linear"] for one in chosen]).statistic
        print(f"Spearman correlation, {method or 'both'} ({len(chosen)} settings): {rho:.2f}")
    if options.figure:
        draw(points, options.figure)


def all_settings() -> dict[str, str]:
    """Each method's base and, from it, one value changed at a time: name to command."""
    flags = {}
    for method, base in (("barlow_twins", BARLOW_TWINS), ("vicreg", VICREG)):
        flags[f"{method}, base"] = command(method, base)
        for name, values in VARIED[method].items():
            for value in values:
                flags[f"{method}, {name} {value:g}"] = command(method, {**base, name: value})
    return flags


def command(method: str, values: dict[str, float]) -> str:
    """The recipe with a method and its values; lr is the recipe's, the others are the objective's."""
    own = " ".join(f"--objective.{name} {value:g}" for name, value in values.items() if name != "lr")
    return f"{RECIPE} --objective core/{method} {own} --lr {values['lr']:g}"


def point(name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """A setting's means over seeds."""
    linear, knn = ([mean_score(one, TRAINED, protocol) for one in results] for protocol in ("linear", "knn"))
    rankme = statistics.fmean(one["label_free"]["rankme"] for one in results)
    return {
        "name": name,
        "rankme": rankme,
        "linear": statistics.fmean(linear),
        "linear_spread": spread(linear),
        "knn_spread": spread(knn),
    }


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Linear accuracy against RankMe, a point per setting."""
    with figure(path) as (axes,):
        for method, marker in (("barlow_twins", "o"), ("vicreg", "s")):
            chosen = [one for one in points if one["name"].startswith(method)]
            rankmes, scores = [one["rankme"] for one in chosen], [one["linear"] for one in chosen]
            axes.scatter(rankmes, scores, marker=marker, label=method.replace("_", " "))
        axes.set(xlabel="RankMe of the training rows (no labels)", ylabel="linear accuracy on test, %")
        axes.legend(frameon=False)


if __name__ == "__main__":
    main()
