"""Logs that are prepared as published, by name; each takes the options of `open_interactions` that say how it is filtered and split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anyview.data.roots import data_root
from anyview.errors import UserError
from anyview_recommenders.datasets import prepare
from anyview_recommenders.generated import generate
from anyview_recommenders.generated_features import generate_with_features
from anyview_recommenders.generated_knowledge import generate_with_knowledge
from anyview_recommenders.generated_social import generate_behaviours, generate_kinds, generate_rated, generate_trust, kinds_as_knowledge
from anyview_recommenders.generated_walks import walk
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.raw import Raw, assemble
from anyview_recommenders.readers import read_path
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.tables import Columns

BEHAVIOURS = ("view", "cart", "buy")


def generated(**options: Any) -> InteractionSource:
    """600 users with latent tastes and 400 items of power-law popularity, with times; needs no file."""
    return prepare(Raw(generate(), layout="generated"), "generated", options)


def generated_features(**options: Any) -> InteractionSource:
    """600 users and 500 items with features that say who likes what, most items used by a few; needs no file."""
    log, items, users = generate_with_features()
    raw = Raw(log, layout="generated", tables={"item": lambda: items, "user": lambda: users})
    return prepare(raw, "generated-features", {"features": True, **options})


def generated_walks(**options: Any) -> InteractionSource:
    """1,000 users who walk from item to item among 200; the last of each user's is test, the one before validation; needs no file."""
    return prepare(Raw(walk().log, layout="generated"), "generated-walks", {"split": "leave_one_out", **options})


def generated_social(**options: Any) -> InteractionSource:
    """The generated log with shorter histories, ratings, trust between users who share tastes, and kinds of items; needs no file.

    features=True takes the kinds, details=True ratings and times.
    """
    raw = Raw(generate_rated(), layout="generated", trust=generate_trust(), tables={"item": generate_kinds})
    return prepare(raw, "generated-social", options)


def generated_behaviours(**options: Any) -> InteractionSource:
    """600 users who view items, put some of them into a cart and buy some of these, with times and kinds of items; needs no file.

    By default it is of purchases alone ("buy"); behaviour="all" keeps everything, target="buy" the others beside them. knowledge="own"
    takes kinds, and shops that say nothing, as triples.
    """
    raw = Raw(generate_behaviours(), layout="generated", knowledge=lambda: kinds_as_knowledge(generate_kinds()))
    return prepare(raw, "generated-behaviours", _of_purchases(options))


def generated_knowledge(**options: Any) -> InteractionSource:
    """600 users with short histories and 800 items, most used by a few, whose makers, schools and subjects are triples; needs no file."""
    log, knowledge = generate_with_knowledge()
    return prepare(Raw(log, layout="generated", knowledge=lambda: knowledge), "generated-knowledge", options)


def lastfm(**options: Any) -> InteractionSource:
    """Last.fm: 1,880 users, 4,489 artists, 52,668 listenings; the split of the LightGCN authors, 80/20 % of each user's.

    trust="own" takes the friendships of its trust.csv.
    """
    raw = read_path(_folder("lastfm", "train.txt and test.txt, a user and all items a line"), Columns(layout="lightgcn"))
    return prepare(raw, "lastfm", options)


def ml_latest_small(**options: Any) -> InteractionSource:
    """MovieLens, latest small of 2016: 671 users, 9,066 films, 100,004 ratings with times.

    knowledge="own" takes genres, years and tags of films as triples.
    """
    return prepare(read_path(_folder("ml-latest-small", "ratings.csv"), Columns()), "ml-latest-small", options)


def amazon_beauty(**options: Any) -> InteractionSource:
    """Amazon Beauty: 22,363 users, 12,101 items, 198,502 purchases in order; the last of each user's is test, the one before validation."""
    raw = read_path(_folder("amazon-beauty", "train.csv and test.csv"), Columns())
    return prepare(raw, "amazon-beauty", {"split": "leave_one_out", **options})


def retail_rocket(**options: Any) -> InteractionSource:
    """Retailrocket: 2,174 shoppers, 30,113 items, 97,381 views, carts and purchases in training; a purchase each is test.

    By default training keeps purchases alone ("buy"); behaviour="all" keeps everything, target="buy" the others beside them.
    """
    path = _folder("retail_rocket", "retail_rocket.npz") / "retail_rocket.npz"
    with np.load(path, allow_pickle=False) as arrays:
        found = dict(arrays)
    users, items = map(np.arange, found["shape"].tolist())
    columns = {name: np.concatenate([found[f"{behaviour}_{name}"] for behaviour in BEHAVIOURS]) for name in ("user", "item", "time")}
    done = np.repeat(np.arange(len(BEHAVIOURS)), [len(found[f"{behaviour}_user"]) for behaviour in BEHAVIOURS])
    user, item, time = (columns[name].astype(kind) for name, kind in (("user", np.int64), ("item", np.int64), ("time", np.float64)))
    train = Interactions(user, item, users, items, time=time, behaviour=done, behaviours=BEHAVIOURS)
    bought = np.full(len(found["test_user"]), BEHAVIOURS.index("buy"))
    test = Interactions(
        found["test_user"].astype(np.int64),
        found["test_item"].astype(np.int64),
        users,
        items,
        behaviour=bought,
        behaviours=BEHAVIOURS,
    )
    return prepare(assemble("arrays by behaviour", train, None, test), "retail_rocket", _of_purchases(options))


def _of_purchases(options: dict[str, Any]) -> dict[str, Any]:
    """Options that keep purchases alone unless they say otherwise."""
    return options if options.get("target") else {"behaviour": "buy", **options}


def _folder(name: str, files: str) -> Path:
    """The folder of a data set under the data root; raises UserError that says what to place where."""
    for folder in (data_root() / "recommenders" / name, data_root() / name):
        if folder.is_dir():
            return folder
    place = data_root() / "recommenders" / name
    raise UserError(f"the data set {name!r} is not under {str(data_root())!r}; put its files ({files}) into {str(place)!r}")
