"""A day of six channels at 100 Hz, trained on and embedded window by window: seconds, and the most memory that each command held.

    python benchmarks/recording.py
    python benchmarks/recording.py --hours 2 --formats npy csv parquet --epochs 1

The recording is made in --folder, unless it is there, and is never in memory as a whole; nor is it for the two commands, which are those
that a user types. A day is 8,640,000 steps, 207 MB as float32; windows of 2 s begin every second. Memory is the peak resident set of the
command's process, which counts the pages of the file that the system keeps mapped, and about 350 MB of it are Python and torch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from study import execute_apart

from anyview.console import make_console, make_table

RATE, CHANNELS = 100, 6
CHUNK = 360_000
WINDOWS = f"--reading.length 200 --reading.step 100 --reading.rate {RATE}"


@dataclass
class Measured:
    """One command: its seconds and its peak resident set in MB."""

    format: str
    command: str
    seconds: float
    memory: int


def make_recording(path: Path, hours: float) -> None:
    """A .npy file (T, 6) of waves whose frequency wanders, and noise; written an hour at a time."""
    steps = int(hours * 3600 * RATE)
    values = np.lib.format.open_memmap(path, "w+", np.float32, (steps, CHANNELS))
    random = np.random.default_rng(0)
    for start in range(0, steps, CHUNK):
        seconds = np.arange(start, min(start + CHUNK, steps)) / RATE
        angle = 2 * np.pi * (seconds + 30 * np.sin(seconds / 600))
        values[start : start + CHUNK] = np.sin(angle[:, None] + np.arange(CHANNELS)) + 0.3 * random.normal(size=(len(seconds), CHANNELS))
    values.flush()


def as_table(path: Path, made: Path) -> None:
    """The same recording as a .csv or .parquet table with a time, an hour at a time."""
    import pandas
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    values = np.load(made, mmap_mode="r")
    writer = None
    for start in range(0, len(values), CHUNK):
        frame = pandas.DataFrame(values[start : start + CHUNK], columns=[f"channel_{number}" for number in range(CHANNELS)])
        frame.insert(0, "time", np.arange(start, start + len(frame)) / RATE)
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        if writer is None:
            opened = pyarrow.csv.CSVWriter if path.suffix == ".csv" else pyarrow.parquet.ParquetWriter
            writer = opened(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(kind: str, command: str, folder: Path) -> Measured:
    """`anyview` with a command, which does not use what an earlier one cached."""
    done = execute_apart(f"anyview {command} --overwrite", ANYVIEW_CACHE=str(folder / "cache"))
    return Measured(kind, command.partition(" ")[0], round(done.seconds, 1), done.memory)


def main() -> None:
    """Make the recording and measure both commands on each format."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--formats", nargs="+", default=["npy"], choices=("npy", "csv", "parquet"))
    parser.add_argument("--recipe", default="timeseries/pair")
    parser.add_argument("--epochs", default="1")
    parser.add_argument("--batch-size", default="256")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    chosen, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{chosen.hours:g}h.npy"
        if not made.exists():
            make_recording(made, chosen.hours)
        found = []
        for kind in chosen.formats:
            data, run, rows = made.with_suffix(f".{kind}"), folder / f"run-{kind}", folder / f"rows-{kind}.parquet"
            if not data.exists():
                as_table(data, made)
            training = f"--data {data} {WINDOWS} --epochs {chosen.epochs} --batch-size {chosen.batch_size} {' '.join(more)}"
            found.append(measure(kind, f"pretrain {chosen.recipe} {training} --out {run}", folder))
            found.append(measure(kind, f"embed {run} --out {rows}", folder))
    if chosen.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    table = make_table("format", "command", "seconds", "peak memory (MB)")
    for one in found:
        table.add_row(one.format, one.command, f"{one.seconds:.1f}", str(one.memory))
    make_console().print(table)


if __name__ == "__main__":
    main()
