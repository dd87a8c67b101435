"""What mining across trials adds to BYOL on reaches of a monkey: accuracy of a linear read-out of the direction, beside its controls.

    python benchmarks/myow.py            # 5 seeds of both, about 15 minutes of one core
    python benchmarks/myow.py --markdown

Both methods are `timeseries/myow`, with the same views, heads, steps and seeds; BYOL is the one with `--objective.weight 0`. Controls are
the raw rates and the same encoder untrained, by the same read-out on the same bins. Trials are split in time: the first 80 % are trained on.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.study import RAW, TRAINED, UNTRAINED, StudyRun, make, show, spread, study_parser

METHODS = {"MYOW": "timeseries/myow", "BYOL": "timeseries/myow --objective core/myow --objective.weight 0"}


def main() -> None:
    """Make the runs that are missing, and print the table."""
    parser = study_parser(__doc__, "runs/myow")
    parser.set_defaults(seeds=[0, 1, 2, 3, 4], jobs=1)
    parser.add_argument("--flags", default="", help="further flags of both methods, as typed")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = {name: [study_run(name, seed, options.flags, options.out) for seed in options.seeds] for name in METHODS}
    results = dict(zip(runs, split(make([run for each in runs.values() for run in each], options.jobs), len(options.seeds)), strict=True))
    rows = [[name, *scores(made, TRAINED), spread([one["seconds"] for one in made])] for name, made in results.items()]
    both = [one for made in results.values() for one in made]
    rows += [["untrained encoder", *scores(both, UNTRAINED), ""], ["raw rates", *scores(both, RAW), ""]]
    show(["", "accuracy", "within 3 pi / 16", "seconds"], rows, markdown=options.markdown)


def study_run(name: str, seed: int, flags: str, out: Path) -> StudyRun:
    """A run of a method; its probe has five seeds of its own."""
    recipe = f"{METHODS[name]} {flags}".strip()
    return StudyRun(recipe, out / f"{name.lower()}-{seed}", seed, protocols="reach_angle", evaluation="--seeds 5")
