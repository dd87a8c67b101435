"""Trains every objective on real images and tells what its encoder is worth beside the same encoder untrained.

    python benchmarks/objectives.py --data mnist --seeds 0 1 2 --jobs 2
    python benchmarks/objectives.py --data digits --only simclr barlow_twins
    python benchmarks/objectives.py --data digits --only data2vec --seeds 0 --flags="--objective.momentum 0.99 --lr 5e-3"

Runs that are finished are kept and not trained again, so the command may be interrupted and given again. Seconds are processor seconds of
one `anyview pretrain` on one thread, start and data reading included.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from objectives_settings import settings
from study import RAW, TRAINED, UNTRAINED, StudyRun, make, mean_score, show, spread, study_parser

UNTRAINED_SEEDS = 3
COLUMNS = ("objective", "recipe", "linear", "untrained", "kNN", "untrained", "RankMe", "deviation", "seconds")


def main() -> None:
    """Train what is missing; print the table, best linear score first."""
    parser = study_parser(__doc__, "runs/objectives")
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist")
    parser.add_argument("--only", nargs="+", help="these objectives alone")
    parser.add_argument("--epochs", type=int, help="passes over the training images, instead of each recipe's own")
    parser.add_argument("--flags", default="", help="options of recipes, in place of those of objectives_settings.py or beside them")
    options = parser.parse_args()
    recipes = {name: changed(recipe, options.flags) for name, recipe in settings(options.data, options.epochs).items()}
    names = options.only or list(recipes)
    words = [options.data, *([str(options.epochs)] if options.epochs else []), *options.flags.replace("--", "").split()]
    folder = options.out / "-".join(words)
    runs = {
        name: [run(recipes[name], folder / f"{name}-{seed}", seed, seed == options.seeds[0]) for seed in options.seeds] for name in names
    }
    results = iter(make([run for seed in range(len(options.seeds)) for run in (runs[name][seed] for name in names)], options.jobs))
    by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in options.seeds:
        for name in names:
            by_name[name].append(next(results))
    ordered = sorted(names, key=lambda name: -statistics.fmean(mean_score(one, TRAINED, "linear") for one in by_name[name]))
    show(COLUMNS, [row(name, by_name[name]) for name in ordered], markdown=options.markdown)
    raw = by_name[names[0]][0]
    print(f"\nraw pixels: linear {mean_score(raw, RAW, 'linear'):.1f}, kNN {mean_score(raw, RAW, 'knn'):.1f}")


def changed(recipe: str, flags: str) -> str:
    """A recipe's flags as typed, `name --flag value --flag value`, with others added or put in their place.

    >>> changed("images/pair --lr 0.1 --epochs 2", "--lr 1 --clip 3")
    'images/pair --epochs 2 --lr 1 --clip 3'
    """
    name, *own = recipe.split()
    words = flags.split()
    given = words[::2]
    kept = [word for flag, value in zip(own[::2], own[1::2], strict=True) if flag not in given for word in (flag, value)]
    return " ".join([name, *kept, *words])


def run(recipe: str, folder: Path, seed: int, first: bool) -> StudyRun:
    """A run; with the first seed's, as many untrained encoders are scored as there are seeds by default."""
    return StudyRun(recipe, folder, seed, evaluation=f"--linear.lr 0.05 --seeds {UNTRAINED_SEEDS if first else 1}")


def row(name: str, results: list[dict[str, Any]]) -> list[str]:
    """An objective's line, over seeds."""

    def score(protocol: str) -> str:
        return spread([mean_score(one, TRAINED, protocol) for one in results])

    untrained = results[0]["scores"][UNTRAINED]
    facts = [one["label_free"] for one in results]
    return [
        name,
        results[0]["commands"][0].split()[2],
        score("linear"),
        spread(untrained["linear"]),
        score("knn"),
        spread(untrained["knn"]),
        f"{statistics.fmean(one['rankme'] for one in facts):.1f}",
        f"{min(one['mean_standard_deviation'] for one in facts):.2f}",
        f"{statistics.fmean(one['seconds'] for one in results):.0f}",
    ]


if __name__ == "__main__":
    main()
