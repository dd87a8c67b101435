"""RecBole's models on a log of ours, one epoch or one full ranking at a time, for `recommenders.py` to time.

RecBole 1.2.1 asks for NumPy 1 and an older SciPy by a handful of names that newer ones dropped; they are given back here, and nothing else
of it is changed. Its quick start needs ray, which is not used.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

NAME = "log"
PARTS = ("train", "valid", "test")
SCORES = 16_000_000
"""Scores that RecBole holds at once when it ranks: 64 MB of them."""


def installed() -> bool:
    """Whether there is a RecBole to compare with."""
    return importlib.util.find_spec("recbole") is not None


class RecBole:
    """One of RecBole's models on the parts of a log.

    model: its name there. parts: train, valid and test as matrices (U, I). folder: where they are written for it to read. options: of its
    configuration.
    """

    def __init__(self, model: str, parts: Mapping[str, sparse.csr_array], folder: Path, **options: Any) -> None:
        _restore_names()
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import get_model, get_trainer

        _write(parts, folder / NAME)
        settings = {
            "data_path": str(folder),
            "checkpoint_dir": str(folder),
            "benchmark_filename": [*PARTS],
            "load_col": {"inter": ["user_id", "item_id"]},
            "eval_args": {"order": "RO", "mode": "full"},
            "eval_batch_size": SCORES,
            "topk": 20,
            "metric_decimal_place": 6,
            "metrics": ["Recall", "NDCG"],
            "valid_metric": "Recall@20",
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            **options,
        }
        with warnings.catch_warnings(), chdir(folder):  # where its logs go
            warnings.simplefilter("ignore")
            config = Config(model=model, dataset=NAME, config_dict=settings)
            self.dataset = create_dataset(config)
            self.train, _, self.test = data_preparation(config, self.dataset)
            self.model = get_model(model)(config, self.train.dataset)
            self.trainer = get_trainer(config["MODEL_TYPE"], model)(config, self.model)
        self.number = 0

    def epoch(self) -> None:
        """Train on every interaction once."""
        self.trainer._train_epoch(self.train, self.number, show_progress=False)
        self.number += 1

    def take(self, users: torch.Tensor, items: torch.Tensor) -> None:
        """Give a model of embeddings (BPR) these rows (U, D) and (I, D), in our order."""
        for field, rows, table in (("user_id", users, self.model.user_embedding), ("item_id", items, self.model.item_embedding)):
            known = self.dataset.field2token_id[field]
            ours = torch.tensor([int(token) for token in known if token != "[PAD]"])
            theirs = torch.tensor([position for token, position in known.items() if token != "[PAD]"])
            table.weight.data[theirs] = rows[ours]

    def rank(self) -> dict[str, float]:
        """Recall and NDCG of lists of 20 items on the test part."""
        found = self.trainer.evaluate(self.test, load_best_model=False, show_progress=False)
        return {name: float(value) for name, value in found.items()}


def _write(parts: Mapping[str, sparse.csr_array], folder: Path) -> None:
    """Atomic files of (user, item) positions."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        pairs = np.column_stack(parts[name].tocoo().coords)
        np.savetxt(folder / f"{NAME}.{name}.inter", pairs, fmt="%d", delimiter="\t", header="user_id:token\titem_id:token", comments="")


def _restore_names() -> None:
    """What RecBole still calls by names that NumPy 2 and SciPy 1.13 dropped; and no command line, which it would read."""
    for name, kind in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "bool8": np.bool_}.items():
        if name not in vars(np):
            setattr(np, name, kind)
    if not hasattr(sparse.dok_matrix, "_update"):
        sparse.dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)
    sys.argv = sys.argv[:1]
