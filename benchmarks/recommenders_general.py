"""Tunes, trains and ranks every recommender that learns from a log, beside classical ones that were given as many trials.

    python benchmarks/recommenders_general.py --data lastfm --trials 6
    python benchmarks/recommenders_general.py --data ml-latest-small --only LightGCN XSimGCL --jobs 2
    python benchmarks/recommenders_general.py --data lastfm --scenario social
    python benchmarks/recommenders_general.py --data retail_rocket --scenario behaviours

Models of the other scenarios also read who trusts whom, or what else was done with an item; LightGCN, which does not, stands beside them on
the same parts.

Each model is tuned by `anyview tune --retrain`: validation recall@20 chooses its values and its number of epochs, then it learns from all
that is not tested, once for each seed. Classical recommenders take as many draws from their ranges, are judged by the same validation part
and fitted to the same pairs. The test part is ranked once for each seed, and chooses nothing. Intervals are of the mean over users, seeds
averaged, drawn anew 1000 times. Whatever is finished is kept, so the command may be interrupted and given again. Seconds are processor
seconds of one thread: of all trials, and of one training.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from study import Trial, execute, make, show, spread, study_parser

from anyview.errors import UserError
from anyview.ranges import Choices, LogUniform, Range
from anyview.run import load
from anyview_recommenders.baselines.als import als
from anyview_recommenders.baselines.ease import ease
from anyview_recommenders.baselines.item_knn import item_knn
from anyview_recommenders.baselines.popularity import popularity
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.ranking import rank
from anyview_recommenders.scorer import Scorer
from anyview_recommenders.source import InteractionSource

K = (10, 20)
MEASURES = ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "recall_tail@20", "coverage@20")
LEARNED = {
    "MF-BPR": "recommenders/lightgcn --layers 0",
    "LightGCN": "recommenders/lightgcn",
    "SGL": "recommenders/sgl",
    "SimGCL": "recommenders/simgcl",
    "XSimGCL": "recommenders/xsimgcl",
    "NCL": "recommenders/ncl",
    "LightGCL": "recommenders/lightgcl",
    "HCCF": "recommenders/hccf",
    "AutoCF": "recommenders/autocf",
    "DCCF": "recommenders/dccf",
    "DirectAU": "recommenders/direct_au",
    "AdaGCL": "recommenders/adagcl",
    "GFormer": "recommenders/gformer",
    "Barlow Twins beside BPR": "recommenders/contrast",
    "MHCN": "recommenders/mhcn",
    "DSL": "recommenders/dsl",
    "SMIN": "recommenders/smin",
    "KCGN": "recommenders/kcgn",
    "S-MBRec": "recommenders/smbrec",
    "CML": "recommenders/cml",
    "HMG-CR": "recommenders/hmgcr",
    "MBGMN": "recommenders/mbgmn",
    "KMCLR": "recommenders/kmclr",
    "KGIN": "recommenders/kgin",
    "KGCL": "recommenders/kgcl",
    "KGRec": "recommenders/kgrec",
    "DiffKG": "recommenders/diffkg",
}
BESIDE_LIGHTGCN = {
    "social": ("MHCN", "DSL", "SMIN", "KCGN"),
    "behaviours": ("S-MBRec", "CML", "HMG-CR", "MBGMN"),
    "knowledge": ("KGIN", "KGCL", "KGRec", "DiffKG"),
    "behaviours-and-knowledge": ("CML", "KMCLR"),
}
SCENARIOS = {scenario: ("LightGCN", *names) for scenario, names in BESIDE_LIGHTGCN.items()}
SCENARIOS["general"] = tuple(name for name in LEARNED if not any(name in others for others in BESIDE_LIGHTGCN.values()))
CLASSICAL: dict[str, tuple[Callable[..., Scorer], Mapping[str, Range]]] = {
    "popularity": (popularity, {}),
    "ItemKNN": (item_knn, {"neighbours": Choices(20, 50, 100, 200, 400), "shrinkage": LogUniform(1, 100)}),
    "EASE": (ease, {"regularisation": LogUniform(10, 2000)}),
    "ALS": (als, {"regularisation": LogUniform(0.1, 100), "confidence": LogUniform(1, 100)}),
}
BOOTSTRAPS = 1000
DIGITS = 4


@dataclass(frozen=True)
class Search(Trial):
    """The trials of one model."""

    name: str
    data: str
    trials: int
    folder: Path

    def make(self) -> dict[str, Any]:
        """What validation chose, with its score."""
        command = f"anyview tune {LEARNED[self.name]} --data {self.data} --trials {self.trials} --retrain --out {self.folder}"
        seconds = execute(command).seconds
        best = max(one["score"] for one in json.loads((self.folder / "tuning.json").read_text())["trials"] if one["score"] is not None)
        return {"seconds": seconds, "validation": best, "command": command}

    @property
    def summary(self) -> Path:
        """Of so many trials: more of them are another result."""
        return self.folder.with_name(f"{self.folder.name}-{self.trials}.json")

    def told(self, result: dict[str, Any]) -> str:
        return f"validation {result['validation']:.4f}"


@dataclass(frozen=True)
class LearnedRun(Trial):
    """A training on all that is not tested, with the values of a search, and its test scores."""

    search: Search
    seed: int

    @property
    def folder(self) -> Path:
        """Beside the search."""
        return self.search.summary.with_suffix("") / f"seed-{self.seed}"

    def make(self) -> dict[str, Any]:
        """Scores of the test part, by measure, and recall@20 of each user."""
        command = f"anyview pretrain --config {self.search.folder / 'best.yaml'} --seed {self.seed} --out {self.folder}"
        seconds = execute(f"{command} --overwrite").seconds
        run = load(self.folder)
        source: Any = run.source
        return {"seconds": seconds, "command": command, **test_scores(scorer_of(run.embedder.eval(), source.catalogue), source)}

    def told(self, result: dict[str, Any]) -> str:
        return f"recall@20 {result['means']['recall@20']:.4f}"


@dataclass(frozen=True)
class ClassicalFit(Trial):
    """A classical recommender at the best of as many draws, fitted to all that is not tested."""

    name: str
    data: str
    trials: int
    out: Path

    @property
    def folder(self) -> Path:
        """Beside the searches of the models; nothing but the summary is kept."""
        return self.out / f"{self.name}-{self.trials}"

    def make(self) -> dict[str, Any]:
        """What validation chose, with its score, and the test scores."""
        began = time.process_time()
        fit, ranges = CLASSICAL[self.name]
        random = np.random.default_rng(0)
        source: Any = open_interactions(self.data)
        draws = [{option: one.draw(random) for option, one in ranges.items()} for _ in range(self.trials if ranges else 1)]
        parts = source.parts
        scores = [score_part(fit(parts.train.matrix(), **values), source, k=20, part="validation")["recall"] for values in draws]
        best = scores.index(max(scores))
        scorer = fit(csr_matrix(parts.train.matrix() + parts.validation.matrix()), **draws[best])
        found = test_scores(scorer, source)
        return {"seconds": time.process_time() - began, "validation": scores[best], "values": draws[best], **found}

    def told(self, result: dict[str, Any]) -> str:
        return f"validation {result['validation']:.4f}, recall@20 {result['means']['recall@20']:.4f}"


def test_scores(scorer: Scorer, source: InteractionSource) -> dict[str, Any]:
    """Means by measure, and recall@20 of each user who counts."""
    known = csr_matrix(source.parts.train.matrix() + source.parts.validation.matrix())
    found = rank(scorer, known, source.parts.test.matrix(), k=K)
    means = found.means()
    return {"means": {name: means[name] for name in MEASURES}, "users": found.each["recall@20"].tolist()}


def interval(users: np.ndarray) -> tuple[float, float]:
    """95 % of the means of users (u,), drawn anew with replacement."""
    random = np.random.default_rng(0)
    means = [users[random.integers(len(users), size=len(users))].mean() for _ in range(BOOTSTRAPS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def row(name: str, results: Sequence[dict[str, Any]], validation: float, seconds: Sequence[str]) -> list[str]:
    """A line of the table: means over seeds and their deviation, and the interval of recall@20."""
    low, high = interval(_users(results))
    cells = [spread([one["means"][measure] for one in results], DIGITS) for measure in MEASURES]
    return [name, f"{validation:.4f}", *cells, f"{low:.4f} to {high:.4f}", *seconds]


def _users(results: Sequence[dict[str, Any]]) -> np.ndarray:
    """Recall@20 of each user (u,), a mean over seeds."""
    return np.mean([one["users"] for one in results], axis=0)


def main() -> None:
    """Tune and train what is missing; print the table, and how far the others are below the model that validation ranks first."""
    parser = study_parser(__doc__, "runs/general")
    parser.add_argument("--data", default="lastfm")
    parser.add_argument("--trials", type=int, default=20, help="for each model, its preset among them")
    parser.add_argument("--scenario", choices=[*SCENARIOS], default="general", help="its models, and the classical ones")
    parser.add_argument("--only", nargs="+", choices=[*LEARNED], help="these models, and the classical ones")
    options = parser.parse_args()
    folder, models = options.out / options.data, options.only or SCENARIOS[options.scenario]
    searches = [Search(name, options.data, options.trials, folder / name.replace(" ", "-")) for name in models]
    found = make(searches, options.jobs)
    runs = iter(make([LearnedRun(search, seed) for search in searches for seed in options.seeds], options.jobs))
    results = {search.name: [next(runs) for _ in options.seeds] for search in searches}
    validation = {search.name: result["validation"] for search, result in zip(searches, found, strict=True)}
    took = {
        search.name: (f"{result['seconds']:.0f}", f"{statistics.fmean(one['seconds'] for one in results[search.name]):.0f}")
        for search, result in zip(searches, found, strict=True)
    }
    for name in CLASSICAL:
        try:
            [fitted] = make([ClassicalFit(name, options.data, options.trials, folder)], options.jobs)
        except UserError as absent:
            print(f"{name} is left out: {absent}", file=sys.stderr)
            continue
        results[name], validation[name], took[name] = [fitted], fitted["validation"], ("", "")
    columns = ("model", "validation recall@20", *MEASURES, "recall@20, 95 % of users' means", "seconds of trials", "of one training")
    show(columns, [row(name, results[name], validation[name], took[name]) for name in results], markdown=options.markdown)
    first = max(models, key=validation.__getitem__)
    print(f"\n{first} (the best on validation data) above the others, recall@20, and 95 % of it over users")
    for name in results:
        if name != first:
            above = _users(results[first]) - _users(results[name])
            print(f"{name}: {above.mean():+.4f} ({interval(above)[0]:+.4f} to {interval(above)[1]:+.4f})")


if __name__ == "__main__":
    main()
