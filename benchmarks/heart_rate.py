"""Heart rates of unseen people on IEEE SPC12 by frozen encoders, beside the controls of the same split.

    python benchmarks/heart_rate.py
    python benchmarks/heart_rate.py --values '{"frames": ["identity"]}' --out runs/identity

For each of subjects 0 to 4: a recipe is pre-trained on the windows of all others, a linear probe (the protocol heart_rate) learns from the
other four of 0 to 4, and is tested on the target. Runs are kept in --out, and what is there is not trained again. Errors in beats a minute:
means over targets, then mean and deviation over seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import anyview
from anyview.console import make_console, make_table
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED, Result, evaluate_rows
from anyview.evaluation.subject import RawFeatures, TrainedEncoder, UntrainedEncoder
from anyview.run import Run
from anyview_timeseries.evaluations import heart_rate
from anyview_timeseries.mappers import MappedTime

SCORES = ("mae", "rmse", "correlation")
TIME = "time encoder alone"


def trained(recipe: str, values: dict[str, Any], target: int, seed: int, out: Path) -> Run:
    """The run of a target and a seed, trained unless it is there."""
    folder = out / f"target{target}-seed{seed}"
    if (folder / "encoder.safetensors").is_file():
        return anyview.load(folder)
    begin = time.process_time()
    reading = {**(values.get("reading") or {}), "target": target}
    run = anyview.pretrain(recipe, folder, seed=seed, data="ieee_spc12", overwrite=True, **{**values, "reading": reading})
    (folder / "seconds.json").write_text(json.dumps(time.process_time() - begin))
    return run


def scored(run: Run, seed: int) -> Result:
    """The protocol on the run's encoder, on its time encoder alone, and on all controls."""
    source = run.source
    columns: dict[str, Any] = {TRAINED: TrainedEncoder(run.embedder, source)}
    if isinstance(run.embedder, MappedTime):
        columns[TIME] = TrainedEncoder(run.embedder.time, source)
    columns |= {RANDOM: UntrainedEncoder(run.fresh_encoder, source), RAW: RawFeatures(source)}
    columns |= {name: RawFeatures(source, control=name) for name in source.controls()}
    return evaluate_rows(columns, source.labels, source.split, heart_rate, [seed])


def show(results: dict[int, list[Result]], recipe: str) -> dict[str, dict[str, list[float]]]:
    """The table; returns scores by column and score, one for each seed."""
    table = make_table("bpm", *(name.upper() if name != "correlation" else name for name in SCORES), "MAE by target", title=recipe)
    found: dict[str, dict[str, list[float]]] = {}
    for column in next(iter(results.values()))[0].values:
        by_seed = {name: [float(np.mean([r.values[column][name][0] for r in of])) for of in results.values()] for name in SCORES}
        targets = np.mean([[r.values[column]["mae"][0] for r in of] for of in results.values()], axis=0)
        cells = [f"{np.mean(each):.2f} ± {np.std(each, ddof=1) if len(each) > 1 else 0:.2f}" for each in by_seed.values()]
        table.add_row(column, *cells, " ".join(f"{value:.1f}" for value in targets))
        found[column] = by_seed
    make_console().print(table)
    return found


def main() -> None:
    """Train what is missing, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="timeseries/frame_projections")
    parser.add_argument("--values", type=json.loads, default={}, help="values of the recipe, as JSON")
    parser.add_argument("--targets", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/heart_rate"))
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {}
    for seed in options.seeds:
        results[seed] = [scored(trained(options.recipe, options.values, target, seed, options.out), seed) for target in options.targets]
        show({seed: results[seed]}, f"{options.recipe}, seed {seed}")
    found = show(results, f"{options.recipe}, seeds {' '.join(map(str, options.seeds))}")
    seconds = [json.loads(path.read_text()) for path in options.out.glob("*/seconds.json")]
    print(f"{np.mean(seconds):.0f} CPU seconds for a pre-training" if seconds else "")
    if options.json:
        options.json.write_text(
            json.dumps({"recipe": options.recipe, "values": options.values, "seconds": seconds, "scores": found}, indent=2)
        )


if __name__ == "__main__":
    main()
