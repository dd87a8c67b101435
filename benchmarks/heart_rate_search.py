"""Settings of frame projections for IEEE SPC12, judged on people that the results will not be tested on.

    python benchmarks/heart_rate_search.py
    python benchmarks/heart_rate_search.py --only preset wider --seeds 0 1

One pre-training without labels on subjects 0 to 4, 10 and 11; then for each of subjects 5, 6, 7, 8, 10 and 11 the probe of the protocol
heart_rate learns from the other five and is tested on that one. Mean absolute errors in beats a minute, means over the six. Seconds are
processor seconds on one thread. Runs that are finished are kept.
"""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from heart_rate import TIME, scored
from study import Trial, make, show, spread, study_parser

import anyview
from anyview.evaluation.protocol import RANDOM, TRAINED
from anyview_timeseries.datasets import open_series
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.objectives import FrameContrast
from anyview_timeseries.recipes.frame_projections import frame_projections
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.windows import hold_out

SHOWN, JUDGED = (0, 1, 2, 3, 4, 10, 11), (5, 6, 7, 8, 10, 11)
network = functools.partial(ResNet1d, stride=4, dropout=0.0)
narrow = functools.partial(ResNet1d, width=16, dropout=0.0, stride=2)
SETTINGS: dict[str, dict[str, Any]] = {
    "no dropout": {"encoder": network},
    "narrow": {"encoder": narrow},
    "narrow, 120 epochs": {"encoder": narrow, "epochs": 120},
    "kernel 9": {"encoder": functools.partial(network, kernel=9)},
    "dropout .2": {"encoder": functools.partial(network, dropout=0.2)},
    "dropout .5": {"encoder": functools.partial(network, dropout=0.5)},
    "kernel 9, dropout .2": {"encoder": functools.partial(network, kernel=9, dropout=0.2)},
    "temperature .07": {"encoder": network, "objective": functools.partial(FrameContrast, temperature=0.07)},
    "temperature .3": {"encoder": network, "objective": functools.partial(FrameContrast, temperature=0.3)},
    "rate .003": {"encoder": network, "lr": 3e-3},
    "batch 64": {"encoder": network, "batch_size": 64},
}


@dataclass(frozen=True)
class Setting(Trial):
    """A setting and a seed."""

    setting: str
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """Where the run is kept; its scores lie beside it."""
        return self.out / f"{self.setting.replace(' ', '_').replace(',', '').replace('.', '')}-seed{self.seed}"

    def make(self) -> dict[str, Any]:
        """Errors by column, one for each of the people, and processor seconds."""
        source = shown_source()
        recipe = frame_projections(source, preset="ieee_spc12", **SETTINGS[self.setting])
        began = time.process_time()
        run = anyview.pretrain(recipe, self.folder, seed=self.seed, overwrite=True)
        seconds = time.process_time() - began
        errors: dict[str, list[float]] = {}
        for person in JUDGED:
            hold_out(source, person, JUDGED)
            for column, scores in scored(run, self.seed).items():
                errors.setdefault(column, []).append(scores["mae"])
        return {"seconds": seconds, "errors": errors}

    def told(self, result: dict[str, Any]) -> str:
        return ", ".join(f"{column} {statistics.fmean(result['errors'][column]):.2f} bpm" for column in (TRAINED, TIME, RANDOM))


def shown_source() -> SeriesSource:
    """All windows, of which pre-training is shown those of the people that it may see."""
    source = open_series("ieee_spc12")
    assert isinstance(source, SeriesSource)
    names = source.group_names["subject"]
    seen = torch.tensor([names.index(str(person)) for person in SHOWN])
    source.train_rows = torch.isin(source.members["subject"], seen).nonzero().flatten()
    return source


def main() -> None:
    """Train what is missing; print the table."""
    parser = study_parser(__doc__, "runs/heart_rate_search")
    parser.set_defaults(seeds=[0])
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), help="these settings alone")
    options = parser.parse_args()
    trials = [Setting(setting, seed, options.out) for setting in options.only for seed in options.seeds]
    found = dict(zip(trials, make(trials, options.jobs), strict=True))
    columns = (TRAINED, TIME, RANDOM)
    lines = []
    for setting in options.only:
        results = [result for trial, result in found.items() if trial.setting == setting]
        cells = [spread([statistics.fmean(result["errors"][column]) for result in results]) for column in columns]
        lines.append([setting, *cells, f"{statistics.fmean(result['seconds'] for result in results):.0f}"])
    first = next(iter(found.values()))["errors"]
    lines += [[column, f"{statistics.fmean(errors):.1f}", "", "", ""] for column, errors in first.items() if column not in columns]
    show(("setting", *columns, "seconds"), lines, markdown=options.markdown)


if __name__ == "__main__":
    main()
