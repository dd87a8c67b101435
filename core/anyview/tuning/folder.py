"""A search's folder: tuning.json, a run for each trial, and best.yaml."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from anyview.errors import UserError
from anyview.folder import RunFolder, atomic
from anyview.tuning.trial import Trial

WEIGHTS = ("encoder.safetensors", "checkpoint", "data.npz")
"""What a run can lose and be made again from what is left: its recipe and its metrics."""
COMPARED = ("recipe", "seed", "precision", "by", "options", "parameters", "ranges")
"""What a search that goes on must have in common with its folder."""


class TuningFolder:
    """The files of one search.

    tuning.json: recipe, values, ranges, what trials are judged by, and what became of each. best.yaml: for `anyview pretrain --config`.
    trial-NNN, and trial-NNN-seed-S for further seeds: their runs.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def tuning_file(self) -> Path:
        """What was searched and found."""
        return self.path / "tuning.json"

    @property
    def best_file(self) -> Path:
        """The best values as a configuration."""
        return self.path / "best.yaml"

    def run_folder(self, number: int, seed: int | None = None) -> Path:
        """Where the run of a trial lies; seed: where it is another than the search's."""
        return self.path / (f"trial-{number:03d}" + ("" if seed is None else f"-seed-{seed}"))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing, as a run's."""
        with RunFolder(self.path).lock():
            yield

    def check(self, record: Mapping[str, Any]) -> None:
        """Raise UserError unless the folder is free, or holds the search of this record."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"the output {str(self.path)!r} is a file; name a folder with --out")
        strange = sorted({entry.name for entry in self.path.iterdir()} - {".lock"}) if self.path.exists() else []
        if not strange:
            return
        if not self.tuning_file.exists():
            found = ", ".join(strange[:3])
            raise UserError(f"the output folder {str(self.path)!r} holds something else than a search ({found}); choose another --out")
        saved = self.read()
        before, now = ({**{key: one[key] for key in COMPARED}, "data": one["data"]["fingerprint"]} for one in (saved, record))
        for name, old, new in _differences(before, now):
            told = "data that has changed since" if name == "data" else f"{name} {old!r}, and {new!r} was asked for"
            raise UserError(f"the search in {str(self.path)!r} has {told}; go on as it was begun, or choose another --out")

    def read(self) -> dict[str, Any]:
        """What tuning.json holds; raises UserError where it is damaged."""
        try:
            content: dict[str, Any] = json.loads(self.tuning_file.read_text())
            missing = {*COMPARED, "data", "trials"} - set(content)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{str(self.tuning_file)!r} cannot be read ({error}); restore it, or choose another --out") from error
        if missing:
            raise UserError(f"{str(self.tuning_file)!r} is not what a search wrote; restore it, or choose another --out")
        return content

    def trials(self) -> list[Trial]:
        """What became of the trials so far."""
        return [Trial(**one) for one in self.read()["trials"]] if self.tuning_file.exists() else []

    def write(self, record: Mapping[str, Any], trials: Collection[Trial]) -> None:
        """Save the search as it stands."""
        content = {**record, "trials": [asdict(trial) for trial in sorted(trials, key=lambda one: (one.number, one.seed))]}
        with atomic(self.tuning_file) as file:
            file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def write_best(self, configuration: Mapping[str, Any]) -> None:
        """Save the best values for `anyview pretrain --config`."""
        with atomic(self.best_file) as file:
            file.write(yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True).encode())

    def thin_out(self, kept: Collection[Path], trials: Collection[Path]) -> None:
        """Remove the weights of all runs among `trials` but those kept."""
        for folder in set(trials) - set(kept):
            for name in WEIGHTS:
                entry = folder / name
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where two records differ: name, before and now; of parameters and ranges each by its own name."""
    for name in now:
        if before[name] == now[name]:
            continue
        if not (isinstance(before[name], dict) and isinstance(now[name], dict)):
            yield name, before[name], now[name]
            continue
        what = {"ranges": "the range of ", "options": "the option "}.get(name, "")
        for key in dict.fromkeys([*now[name], *before[name]]):
            old, new = before[name].get(key), now[name].get(key)
            if old != new:
                yield f"{what}{key}", old, new
