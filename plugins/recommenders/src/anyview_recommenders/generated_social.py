"""What goes with generated logs beside what was used: ratings, whom users trust, kinds of items, and which views become purchases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from anyview_recommenders.generated import by_taste, log_of, numbered_names, tastes_of_users
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.knowledge import Knowledge


def generate_trust(
    users: int = 600, *, tastes: int = 8, median: int = 6, closeness: float = 8.0, mutual: float = 0.5, seed: int = 0
) -> Interactions:
    """Links of trust between the users of `generate`, of the same number, tastes and seed: `user` trusts `item`.

    User u is drawn to user v by closeness · cos(taste_u, taste_v) plus Gumbel noise, and trusts the first of those; how many, a log-normal
    number around `median` says, at least 1. A share `mutual` of the links is answered.

    >>> links = generate_trust(50)
    >>> links.user_ids[0], bool((links.user != links.item).all())
    ('user-0001', True)
    """
    of_users = tastes_of_users(np.random.default_rng(seed), users, tastes)
    random = np.random.default_rng([seed, 1])
    unit = of_users / np.linalg.norm(of_users, axis=1, keepdims=True)
    drawn_to = closeness * unit @ unit.T + random.gumbel(size=(users, users))
    np.fill_diagonal(drawn_to, -np.inf)
    counts = np.clip(np.round(median * np.exp(0.5 * random.normal(size=users))), 1, users - 1).astype(np.int64)
    place = np.argsort(np.argsort(-drawn_to, axis=1, kind="stable"), axis=1, kind="stable")
    trusts = place < counts[:, None]
    trusts |= (trusts & (random.random((users, users)) < mutual)).T
    truster, trusted = np.nonzero(trusts)
    return Interactions(truster, trusted, numbered_names("user", users), numbered_names("user", users))


def generate_rated(
    users: int = 600, items: int = 400, *, tastes: int = 8, median: int = 8, exponent: float = 0.7, sharpness: float = 6.0, seed: int = 0
) -> Interactions:
    """The log of `generate` of these numbers and seed, with ratings from 1 to 5: how well tastes of user and item meet, and noise.

    >>> log = generate_rated(50, 40)
    >>> sorted(set(log.rating.tolist()))
    [1.0, 2.0, 3.0, 4.0, 5.0]
    """
    drawn, used = by_taste(users, items, tastes=tastes, median=median, exponent=exponent, sharpness=sharpness, seed=seed)
    match = (drawn.of_users[used.user] * drawn.of_items[used.item]).sum(1)
    noise = np.random.default_rng([seed, 4]).normal(size=len(match))
    return replace(log_of(used, users, items), rating=np.clip(np.round(1 + 4 * match + noise), 1, 5))


def generate_kinds(
    users: int = 600, items: int = 400, *, tastes: int = 8, median: int = 8, exponent: float = 0.7, sharpness: float = 6.0, seed: int = 0
) -> pd.DataFrame:
    """A table of the items of `generate`, of the same numbers and seed: of what "kind" each is, the taste that it has most of.

    Of a quarter of the items it is any.

    >>> generate_kinds(50, 40)["kind"].nunique()
    8
    """
    drawn, _ = by_taste(users, items, tastes=tastes, median=median, exponent=exponent, sharpness=sharpness, seed=seed)
    random = np.random.default_rng([seed, 3])
    kind = np.where(random.random(items) < 0.25, random.integers(0, tastes, items), drawn.of_items.argmax(1))
    return pd.DataFrame({"item": numbered_names("item", items).tolist(), "kind": [f"kind-{number}" for number in kind]})


def kinds_as_knowledge(kinds: pd.DataFrame, shops: int = 10, *, seed: int = 0) -> Knowledge:
    """Triples of the items in a table of `generate_kinds`: of what kind each is, and in which of so many shops it is sold, by chance.

    >>> sorted(kinds_as_knowledge(generate_kinds(50, 40)).relation_ids.tolist())
    ['of_kind', 'sold_in']
    """
    shop = np.random.default_rng([seed, 5]).integers(0, shops, len(kinds))
    sold = pd.DataFrame({"item": kinds["item"], "kind": [f"shop-{number}" for number in shop]})
    both = pd.concat([kinds, sold])
    relation = np.repeat(np.array(["of_kind", "sold_in"], dtype=object), len(kinds))
    return Knowledge.from_ids(both["item"].to_numpy(), relation, both["kind"].to_numpy())


def generate_behaviours(
    users: int = 600, items: int = 400, *, tastes: int = 8, median: int = 30, exponent: float = 0.7, sharpness: float = 4.0, seed: int = 0
) -> Interactions:
    """A log of views, cart additions and purchases: each purchase follows a cart addition, and that a view, on one day.

    Views are a log of `generate`. A view leads to a cart with a probability of 0.1 + 0.8 · taste_u · taste_i, a cart to a purchase with one
    of 0.7; so purchases are few and say more of tastes, and a user's views tell of them too. Each user's first view leads to a purchase.

    >>> log = generate_behaviours(50, 40)
    >>> views, carts, purchases = np.bincount(log.behaviour).tolist()
    >>> log.behaviours, views > carts > purchases
    (('view', 'cart', 'buy'), True)
    """
    drawn, viewed = by_taste(users, items, tastes=tastes, median=median, exponent=exponent, sharpness=sharpness, seed=seed)
    random = np.random.default_rng([seed, 2])
    match = (drawn.of_users[viewed.user] * drawn.of_items[viewed.item]).sum(1)
    first = np.diff(viewed.user, prepend=-1) > 0
    carts = first | (random.random(len(match)) < 0.1 + 0.8 * match)
    buys = first | (carts & (random.random(len(match)) < 0.7))
    rows = [np.arange(len(match)), np.flatnonzero(carts), np.flatnonzero(buys)]
    behaviour, at = np.repeat(np.arange(3), [len(part) for part in rows]), np.concatenate(rows)
    log = Interactions(
        viewed.user[at],
        viewed.item[at],
        numbered_names("user", users),
        numbered_names("item", items),
        time=viewed.day[at] + 0.1 * behaviour,
        behaviour=behaviour,
        behaviours=("view", "cart", "buy"),
    )
    return log.without_unused()
