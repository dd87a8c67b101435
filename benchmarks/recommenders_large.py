"""How XSimGCL grows with the log, from one to twenty million interactions: time per interaction, and the most memory that is held.

    python benchmarks/recommenders_large.py
    python benchmarks/recommenders_large.py --millions 1 2 --threads 2

A log of N million interactions has N times 50,000 users and 10,000 items, as parquet with integer ids. Users have one of 64 tastes; four of
five items that they use are of their taste, and a few items are used by many. Each is trained for one epoch of 20 batches with
`anyview pretrain`, then `anyview evaluate` ranks all items for 10,000 users: both as a user types them, each in a process of its own.
Batches grow with the log, because a step propagates over the whole of it: with batches of one size the time would grow with its square.
Baselines, which cost more than the model, are left out. Memory is the peak resident set of the process. Seconds are those of
processors, start and data reading included: on one thread what an idle machine takes, however busy this one is.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from study import execute_apart, show

TASTES = 64
OF_TASTE = 0.8
USERS, ITEMS = 50_000, 10_000
"""For each million interactions."""
STEPS = 20
LEARNING = "--epochs 1 --lr 0.02 --weight 0.05 --noise 0.1 --temperature 0.2 --l2 0.001 --contrasted 4096"
RANKED = 10_000
SHOWN = ("trained encoder", "random encoder", "popularity")
COLUMNS = ("interactions", "users", "items", "batch", "training s", "µs each", "MB", "evaluation s", "MB", *SHOWN)


def write_log(path: Path, millions: int) -> None:
    """A log of so many million different pairs of users and items, in a random order."""
    random = np.random.default_rng(millions)
    users, items, wanted = millions * USERS, millions * ITEMS, millions * 1_000_000
    keys = np.empty(0, np.int64)
    while len(keys) < wanted:
        count = 2 * (wanted - len(keys)) + 1000
        user = (users * random.random(count) ** 1.5).astype(np.int64)
        rank = random.random(count) ** 3
        anywhere, own = (items * rank).astype(np.int64), (items // TASTES * rank).astype(np.int64) * TASTES + user % TASTES
        item = np.where(random.random(count) < OF_TASTE, own, anywhere)
        keys = np.unique(np.concatenate([keys, user * items + item]))
    user, item = np.divmod(random.permutation(keys)[:wanted], items)
    parquet.write_table(pa.table({"user": user, "item": item}), path)


def measured(millions: int, folder: Path) -> dict[str, Any]:
    """Seconds and memory of both commands, and recall@20."""
    log, run = folder / f"{millions}m.parquet", folder / f"run-{millions}m"
    write_log(log, millions)
    batch = millions * 1_000_000 * 72 // 100 // STEPS  # of what is neither tested nor chosen by
    training = execute_apart(f"anyview pretrain recommenders/xsimgcl --data {log} --batch-size {batch} {LEARNING} --out {run}")
    evaluation = execute_apart(f"anyview evaluate {run} --protocol ranking --ranking.users {RANKED} --baselines none --seeds 1 --json")
    results = json.loads(evaluation.output)["protocols"]["ranking"]["results"]
    return {
        "millions": millions,
        "batch": batch,
        "training": training._replace(output="")._asdict(),
        "evaluation": evaluation._replace(output="")._asdict(),
        "recall": {name: found["recall"]["values"][0] for name, found in results.items()},
    }


def row(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    millions, training, evaluation = found["millions"], found["training"], found["evaluation"]
    sizes = [f"{millions * each:,}" for each in (1_000_000, USERS, ITEMS)]
    used = [
        *(f"{training['processor']:.0f}", f"{training['processor'] / millions:.1f}", f"{training['memory']:,}"),
        *(f"{evaluation['processor']:.0f}", f"{evaluation['memory']:,}"),
    ]
    return [*sizes, f"{found['batch']:,}", *used, *(f"{found['recall'][name]:.3f}" for name in SHOWN)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 2, 5, 10, 20], help="interactions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = [measured(millions, Path(folder)) for millions in options.millions]
    show(COLUMNS, [row(one) for one in found], markdown=options.markdown)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
