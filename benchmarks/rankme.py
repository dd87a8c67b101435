"""Ranks settings of Barlow Twins and VICReg by RankMe, without labels, and holds the order against linear accuracy.

    python benchmarks/rankme.py --seeds 0 1 --figure docs/results/rankme.svg

RankMe is taken of the training images' projections, as Garrido et al. (2022, arXiv 2210.02885) do and `anyview select --rows projector`
does, and beside that of the encoder's rows; linear accuracy is that of the encoder's rows on the test part. The paper chooses
hyper-parameters of one method on one data set, so there is a correlation for each method and one for both.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr
from study import TRAINED, StudyRun, figure, make, mean_score, show, spread, study_parser

import anyview
from anyview.evaluation.embedding import embed
from anyview.evaluation.spectra import rankme

RECIPE = "images/pair --data mnist --epochs {epochs}"
KINDS = {"projector": "RankMe, projections", "encoder": "RankMe, encoder"}
BARLOW_TWINS = {"redundancy": 0.004, "width": 256, "lr": 0.1}
VICREG = {"covariance": 1.0, "width": 256, "lr": 0.1}
VARIED: dict[str, dict[str, list[float]]] = {
    "barlow_twins": {"redundancy": [0.00004, 0.0004, 0.04, 0.4], "width": [16, 64, 512, 1024], "lr": [0.03, 0.3, 1.0]},
    "vicreg": {"covariance": [0.0, 0.01, 0.1, 10.0], "width": [16, 64, 512, 1024], "lr": [0.03, 0.3, 1.0]},
}


def main() -> None:
    """Train what is missing; print the table and the correlations, draw the figure."""
    parser = study_parser(__doc__, "runs/rankme")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training images")
    parser.add_argument("--figure", type=Path, help="where the picture goes (.svg)")
    options = parser.parse_args()
    settings = all_settings(options.epochs)
    runs = [
        StudyRun(flags, options.out / f"{name.replace(', ', '-').replace(' ', '-')}-{options.epochs}-{seed}", seed)
        for seed in options.seeds
        for name, flags in settings.items()
    ]
    results = [{**result, "rankme": ranks(run)} for run, result in zip(runs, make(runs, options.jobs), strict=True)]
    by_name = {name: results[position :: len(settings)] for position, name in enumerate(settings)}
    points = [point(name, found) for name, found in by_name.items()]
    points.sort(key=lambda one: -float(one["projector"]))
    cells = [[one["name"], *(f"{one[kind]:.1f}" for kind in KINDS), one["linear_spread"], one["knn_spread"]] for one in points]
    show(("setting", *KINDS.values(), "linear", "kNN"), cells, markdown=options.markdown)
    for kind, title in KINDS.items():
        for method in ("barlow_twins", "vicreg", ""):
            chosen = [one for one in points if one["name"].startswith(method)]
            rho = spearmanr([one[kind] for one in chosen], [one["linear"] for one in chosen]).statistic
            print(f"Spearman correlation with linear, {title}, {method or 'both'} ({len(chosen)} settings): {rho:.2f}")
    if options.figure:
        draw(points, options.figure)


def all_settings(epochs: int) -> dict[str, str]:
    """Each method's base and, from it, one value changed at a time: name to command."""
    flags = {}
    for method, base in (("barlow_twins", BARLOW_TWINS), ("vicreg", VICREG)):
        flags[f"{method}, base"] = command(method, base, epochs)
        for name, values in VARIED[method].items():
            for value in values:
                flags[f"{method}, {name} {value:g}"] = command(method, {**base, name: value}, epochs)
    return flags


def command(method: str, values: dict[str, float], epochs: int) -> str:
    """The recipe with a method and its values; lr is the recipe's, the others are the objective's."""
    own = " ".join(f"--objective.{name} {value:g}" for name, value in values.items() if name != "lr")
    return f"{RECIPE.format(epochs=epochs)} --objective core/{method} {own} --lr {values['lr']:g}"


def ranks(run: StudyRun) -> dict[str, float]:
    """RankMe of a run's training images, behind the encoder and behind the projector."""
    loaded = anyview.load(run.folder)
    encoders = {"encoder": loaded.embedder, "projector": loaded.projected_encoder()}
    source: Any = loaded.source
    shown = source.train_rows.numpy()
    return {kind: rankme(embed(encoder, source)[shown]) for kind, encoder in encoders.items()}


def point(name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """A setting's means over seeds."""
    linear, knn = ([mean_score(one, TRAINED, protocol) for one in results] for protocol in ("linear", "knn"))
    return {
        "name": name,
        **{kind: statistics.fmean(one["rankme"][kind] for one in results) for kind in KINDS},
        "linear": statistics.fmean(linear),
        "linear_spread": spread(linear),
        "knn_spread": spread(knn),
    }


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Linear accuracy against RankMe of projections and of the encoder's rows, a point per setting."""
    with figure(path, panels=len(KINDS)) as panels:
        for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
            for method, marker in (("barlow_twins", "o"), ("vicreg", "s")):
                chosen = [one for one in points if one["name"].startswith(method)]
                values, scores = [one[kind] for one in chosen], [one["linear"] for one in chosen]
                axes.scatter(values, scores, marker=marker, label=method.replace("_", " "))
            axes.set(xlabel=f"{title} (no labels)", ylabel="linear accuracy on test, %")
        panels[0].legend(frameon=False)


if __name__ == "__main__":
    main()
