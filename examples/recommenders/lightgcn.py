"""LightGCN on a log of one's own: train, hold against classical recommenders, recommend with the log's ids.

The log here is generated; put a DataFrame, or the path of a CSV, parquet or .inter file, in its place.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

import anyview
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated import generate
from anyview_recommenders.recipes.lightgcn import lightgcn
from anyview_recommenders.recommender import Recommender


def own_log() -> pd.DataFrame:
    """A table with one row for each interaction, as it may come out of a database."""
    log = generate()
    return pd.DataFrame({"customer": log.user_ids[log.user], "product": log.item_ids[log.item], "day": log.time})


def main() -> None:
    """Train, evaluate, recommend."""
    source = open_interactions(own_log(), user="customer", item="product", time="day", split="temporal")
    with TemporaryDirectory() as folder:
        run = anyview.pretrain(lightgcn(source, lr=5e-3, l2=1e-3, epochs=60), Path(folder) / "run")
        [result] = run.evaluate(["ranking"], seeds=1)
        for name in result.values:
            print(f"{name:18} recall@20 {result.mean(name):.3f}  ndcg@20 {result.mean(name, 'ndcg'):.3f}")
        for lists in Recommender(run).recommend(["user-0001", "user-0002"], k=5):
            for user, items in zip(lists.users, lists.items, strict=True):
                print(f"{user}: {', '.join(map(str, items))}")


if __name__ == "__main__":
    main()
