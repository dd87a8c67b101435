"""What an encoder of time series has to beat: controls alone, on real data, by the protocols that encoders are scored by.

    python benchmarks/timeseries_controls.py
    python benchmarks/timeseries_controls.py --sets ieee_spc12 --seeds 5

IEEE SPC12: each of subjects 0 to 4 is the target once, and the probe learns from the other four; values by target, then their mean and the
deviation over seeds of that mean. The others: official splits. MiniRocket is among the controls where aeon is installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from anyview.console import make_console, make_table
from anyview.data.source import Source
from anyview.evaluation.logistic import logistic
from anyview.evaluation.protocol import RAW, Result, evaluate_rows
from anyview.evaluation.subject import RawFeatures
from anyview_timeseries.datasets import open_series
from anyview_timeseries.evaluations import heart_rate
from anyview_timeseries.evaluations_classes import reach_angle

CLASSES = ("uci_har_subset", "ArrowHead", "BasicMotions", "ECG200", "GunPoint", "ItalyPowerDemand", "Lightning7", "Plane")
SETS = ("ieee_spc12", "monkey_reach_chewie1", *CLASSES)
TARGETS = range(5)


def result_of(source: Source, protocol: Any, seeds: Sequence[int]) -> Result:
    """The protocol on every control of a source."""
    columns = {RAW: RawFeatures(source)} | {name: RawFeatures(source, control=name) for name in source.controls()}
    return evaluate_rows(columns, source.labels, source.split, protocol, seeds, baselines=source.baselines())


def heart_rates(seeds: Sequence[int]) -> None:
    """Errors in bpm by target, and their mean."""
    results = [result_of(open_series("ieee_spc12", target=target), heart_rate, seeds) for target in TARGETS]
    table = make_table("control", *(f"MAE {target}" for target in TARGETS), "MAE", "RMSE", "correlation", title="ieee_spc12, bpm")
    for control in results[0].values:
        by_target = [f"{result.mean(control):.1f}" for result in results]
        table.add_row(control, *by_target, *(spread(results, control, score) for score in ("mae", "rmse", "correlation")))
    make_console().print(table)


def spread(results: Sequence[Result], control: str, score: str) -> str:
    """Mean over targets and seeds, and the deviation over seeds of the mean over targets."""
    by_seed = np.mean([result.values[control][score] for result in results], axis=0)
    return f"{by_seed.mean():.2f}" + (f" ± {by_seed.std(ddof=1):.2f}" if len(by_seed) > 1 else "")


def scores(name: str, protocol: Any, shown: Sequence[str], seeds: Sequence[int]) -> None:
    """Scores in percent of one set."""
    result = result_of(open_series(name), protocol, seeds)
    table = make_table("control", *(result.label(score) for score in shown), title=f"{name}, {protocol.__name__}, %")
    for control in result.values:
        table.add_row(control, *(result.cell(control, score) for score in shown))
    make_console().print(table)
    for warning in result.warnings[1:]:
        print(warning)


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    seeds = range(chosen.seeds)
    for name in chosen.sets:
        if name == "ieee_spc12":
            heart_rates(seeds)
        elif name in CLASSES:
            scores(name, logistic, ("accuracy", "macro_f1", "kappa", "auroc_one_versus_rest"), seeds)
        else:
            scores(name, reach_angle, ("accuracy", "delta_accuracy"), seeds)


if __name__ == "__main__":
    main()
