"""How fast graph convolution is, forward and backward, how long an epoch of each recommender takes, and a full ranking; RecBole's beside.

    make bench-recommenders
    python benchmarks/recommenders.py --threads 1 2 --json recommenders.json

First tables: a product of the normalised adjacency with rows of width 64 and its gradient, by our CSR product that is its own backward, and
by `torch.sparse.mm` on the same matrix in COO. Both must agree to 1e-5. Then seconds of an epoch on lastfm: width 64, three layers, batches
of 2048, one drawn item for each pair. RecBole's LightGCN and SGL read the same parts; its SGL contrasts with all nodes, ours with those of
the batch. Last, all 40,000 items ranked for each of 30,000 users by random embeddings; recall and NDCG of both must agree. RecBole's rows
appear where it is installed, as `make bench-recommenders` does in an environment of its own. Cases take turns, so that a machine that slows
down slows all of them; medians are shown.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole_models import RecBole, installed
from scipy import sparse
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.console import make_console, make_table
from anyview.data.source import Epoch
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import RecipeFunction
from anyview.views.draws import Draws
from anyview_recommenders.graph_convolution import normalised_adjacency, propagate
from anyview_recommenders.ranking import rank
from anyview_recommenders.recipes.lightgcn import lightgcn
from anyview_recommenders.recipes.sgl import sgl
from anyview_recommenders.recipes.simgcl import simgcl
from anyview_recommenders.recipes.xsimgcl import xsimgcl
from anyview_recommenders.scorer import DotProduct

WIDTH = 64
SIZES = {"lastfm": (1892, 4489, 42_135), "gowalla": (29_858, 40_981, 810_128)}
"""Users, items and interactions of generated logs that are as large as these data sets."""
RECIPES = {"lightgcn": lightgcn, "sgl": sgl, "simgcl": simgcl, "xsimgcl": xsimgcl}
RECBOLE: dict[str, dict[str, Any]] = {"LightGCN": {"n_layers": 3}, "SGL": {"n_layers": 3, "type": "ED", "drop_ratio": 0.1}}
RANKED = (30_000, 40_000, 1_030_000)
"""Users, items and interactions of what is ranked in full; a fifth is the test part."""
SECTIONS = ("products", "epochs", "rankings")
MEMORIES = (16, 64, 256)
"""MB of scores that are held at once."""


def generated(users: int, items: int, interactions: int) -> sparse.csr_array:
    """A log whose users and items have degrees that fall off as a power."""
    random = np.random.default_rng(0)
    drawn = [(count * random.random(2 * interactions) ** 2).astype(np.int64) for count in (users, items)]
    keys = np.unique(drawn[0] * items + drawn[1])
    keys = random.choice(keys, min(interactions, len(keys)), replace=False)
    return sparse.csr_array((np.ones(len(keys), np.float32), np.divmod(keys, items)), shape=(users, items))


def products(log: sparse.csr_array) -> tuple[Tensor, dict[str, Callable[[Tensor], Tensor]]]:
    """Rows with gradient, and the product of the log's adjacency with them by each way."""
    adjacency = normalised_adjacency(log)
    coordinates = adjacency.matrix.to_sparse_coo().coalesce()
    rows = torch.randn(adjacency.nodes, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return rows, {"anyview": lambda x: propagate(adjacency, x), "torch.sparse.mm, COO": lambda x: torch.sparse.mm(coordinates, x)}


def time_products(log: sparse.csr_array, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of forward and backward, the median ratio to ours of the same turn, and the largest difference from ours."""
    rows, ways = products(log)
    weights = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))

    def both(way: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        product = way(rows)
        return product.detach(), torch.autograd.grad(product, rows, weights)[0]

    found = {name: both(way) for name, way in ways.items()}  # which also makes what is made once
    turns = [{name: _timed(functools.partial(both, way)) for name, way in ways.items()} for _ in range(repeats)]
    return {
        name: {
            "seconds": statistics.median(turn[name] for turn in turns),
            "ratio": statistics.median(turn[name] / turn["anyview"] for turn in turns),
            "difference": max(float((a - b).abs().max()) for a, b in zip(found[name], found["anyview"], strict=True)),
        }
        for name in ways
    }


def _timed(act: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


class Training:
    """A recipe on a data set; `epoch` trains one."""

    def __init__(self, make: RecipeFunction, data: str) -> None:
        torch.manual_seed(0)
        recipe = make(data=data)
        self.source, self.stage, self.number = recipe.source, recipe.stages[0], 0
        self.pretrainer = Pretrainer(self.stage)
        self.pretrainer.prepare(next(self._shown()), len(self.source))
        self.pretrainer.start()
        self.optimizer = self.stage.make_optimizer(self.pretrainer.parameters())

    def epoch(self) -> None:
        """Train on every interaction once."""
        self.pretrainer.before_epoch(self.number, self._shown)
        for shown in self._shown():
            self.pretrainer(shown).total.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.pretrainer.after_step(1, 1)
        self.number += 1

    def _shown(self) -> Iterator[StepInput]:
        for count, batch in enumerate(self.source.batches(Epoch(self.number, batch_size=self.stage.batch_size))):
            yield StepInput(batch, Draws.seeded(1000 * self.number + count, total=batch.total), 0, 1)


def time_epochs(data: str, repeats: int, folder: Path) -> dict[str, dict[str, float]]:
    """Median seconds of an epoch of each recipe and of RecBole's models, and the median ratio to LightGCN's of the same turn."""
    trainings: dict[str, Any] = {name: Training(make, data) for name, make in RECIPES.items()}
    if installed():
        of_log = trainings["lightgcn"].source.parts
        parts = {"train": of_log.train.matrix(), "valid": of_log.validation.matrix(), "test": of_log.test.matrix()}
        for name, options in RECBOLE.items():
            settings = {"embedding_size": WIDTH, "train_batch_size": 2048, **options}
            trainings[f"{name}, RecBole"] = RecBole(name, parts, folder / name, **settings)
    for training in trainings.values():
        training.epoch()
    turns = [{name: _timed(training.epoch) for name, training in trainings.items()} for _ in range(repeats)]
    rivals = {name: name.partition(",")[0].lower() for name in trainings}
    return {
        name: {
            "seconds": statistics.median(turn[name] for turn in turns),
            "lightgcn": statistics.median(turn[name] / turn["lightgcn"] for turn in turns),
            "ours": statistics.median(turn[name] / turn[rivals[name]] for turn in turns),
        }
        for name in trainings
    }


def time_rankings(repeats: int, folder: Path) -> dict[str, dict[str, float]]:
    """Median seconds of a full ranking by random rows, the median ratio to ours at its usual 16 MB of the same turn, and its scores."""
    log = generated(*RANKED)
    users, items = (torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(count)) for count in RANKED[:2])
    drawn = np.random.default_rng(1).random(log.nnz) < 0.2
    train, test = (_kept(log, chosen) for chosen in (~drawn, drawn))

    def ours(memory: int) -> dict[str, float]:
        return rank(DotProduct(users, items), train, test, k=[20], memory=memory * 1_000_000).means()

    ways: dict[str, Callable[[], dict[str, float]]] = {f"anyview, {memory} MB": functools.partial(ours, memory) for memory in MEMORIES}
    if installed():
        nothing = sparse.csr_array(log.shape)
        model = RecBole("BPR", {"train": train, "valid": nothing, "test": test}, folder / "ranking", embedding_size=WIDTH)
        model.take(users, items)
        ways["RecBole"] = model.rank
    found = {name: way() for name, way in ways.items()}
    turns = [{name: _timed(way) for name, way in ways.items()} for _ in range(repeats)]
    return {
        name: {
            "seconds": statistics.median(turn[name] for turn in turns),
            "ratio": statistics.median(turn[name] / turn["anyview, 16 MB"] for turn in turns),
            **{measure: found[name][f"{measure}@20"] for measure in ("recall", "ndcg")},
        }
        for name in ways
    }


def _kept(log: sparse.csr_array, chosen: np.ndarray) -> csr_matrix:
    """The chosen interactions of a log."""
    coordinates = [of_axis[chosen] for of_axis in log.tocoo().coords]
    return csr_matrix((np.ones(int(chosen.sum()), np.float32), coordinates), shape=log.shape)


def show_products(found: dict[str, Any], threads: int) -> None:
    """A table for each size of log."""
    for size, rows in found.items():
        table = make_table(f"product and gradient, as large as {size}, threads {threads}", "ms", "times ours", "largest difference")
        for name, row in rows.items():
            table.add_row(name, f"{1000 * row['seconds']:.2f}", f"{row['ratio']:.1f}", f"{row['difference']:.1e}")
        make_console().print(table)


def show_epochs(found: dict[str, Any], threads: int) -> None:
    """The table of epochs."""
    table = make_table(f"an epoch, threads {threads}", "seconds", "times lightgcn", "times ours")
    for name, row in found.items():
        table.add_row(name, f"{row['seconds']:.2f}", f"{row['lightgcn']:.1f}", f"{row['ours']:.1f}")
    make_console().print(table)


def show_rankings(found: dict[str, Any], threads: int) -> None:
    """The table of full rankings."""
    table = make_table(f"a full ranking, threads {threads}", "seconds", "times ours", "recall@20", "NDCG@20")
    for name, row in found.items():
        table.add_row(name, f"{row['seconds']:.1f}", f"{row['ratio']:.1f}", f"{row['recall']:.6f}", f"{row['ndcg']:.6f}")
    make_console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads, one after the other")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data", default="lastfm", help="what epochs are timed on")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[*SECTIONS], help="these tables alone")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    logs = {name: generated(*size) for name, size in SIZES.items()}
    results: dict[str, dict[str, Any]] = {str(threads): {} for threads in options.threads}
    with tempfile.TemporaryDirectory() as folder:
        sections: dict[str, tuple[Callable[[Path], Any], Callable[[Any, int], None]]] = {
            "products": (lambda _: {name: time_products(log, options.repeats) for name, log in logs.items()}, show_products),
            "epochs": (lambda place: time_epochs(options.data, options.repeats, place), show_epochs),
            "rankings": (lambda place: time_rankings(options.repeats, place), show_rankings),
        }
        for threads in options.threads:
            torch.set_num_threads(threads)
            for name in options.only:
                measure, show = sections[name]
                found = results[str(threads)][name] = measure(Path(folder) / str(threads))
                show(found, threads)
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "threads": results}, indent=2))
    products = [row for found in results.values() for rows in found.get("products", {}).values() for row in rows.values()]
    worst = max((row["difference"] for row in products), default=0.0)
    if worst > 1e-5:
        raise SystemExit(f"products differ by {worst:.1e}, and 1e-5 was promised")
    rankings = [row for found in results.values() for row in found.get("rankings", {}).values()]
    if any(abs(row[measure] - rankings[0][measure]) > 1e-4 for row in rankings for measure in ("recall", "ndcg")):
        raise SystemExit("rankings differ, and the same was promised")


if __name__ == "__main__":
    main()
