"""Logs that a few lines of numbers make: users with latent tastes, items of which a few are used by many; friends, and behaviours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anyview_recommenders.interactions import Interactions


def generate(
    users: int = 600, items: int = 400, *, tastes: int = 8, median: int = 15, exponent: float = 0.7, sharpness: float = 6.0, seed: int = 0
) -> Interactions:
    """A log of `users` users and `items` items, with times in days and string ids.

    Every user has a mixture of `tastes` tastes from a Dirichlet distribution of concentration 0.2, every item one from another, of 0.05.
    The item of rank r is as popular as r to the power of -exponent. User u prefers item i by ln popularity_i + sharpness · taste_u ·
    taste_i plus Gumbel noise, and uses as many of the most preferred as a log-normal number around `median` says, at least 5: so items are
    drawn without replacement, in proportion to exp of the preference. They are used in a random order, one a day, from a random day of the
    first year on. Every item that nobody used is left out.

    >>> log = generate(50, 40)
    >>> log.users, int(np.bincount(log.user).min()) >= 5, log.user_ids[0]
    (50, True, 'user-0001')
    """
    drawn = _draw(users, items, tastes, median, exponent, sharpness, seed)
    return Interactions(drawn.user, drawn.item, _ids("user", users), _ids("item", items), time=drawn.day).without_unused()


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
    of_users = _of_users(np.random.default_rng(seed), users, tastes)
    random = np.random.default_rng([seed, 1])
    unit = of_users / np.linalg.norm(of_users, axis=1, keepdims=True)
    drawn_to = closeness * unit @ unit.T + random.gumbel(size=(users, users))
    np.fill_diagonal(drawn_to, -np.inf)
    counts = np.clip(np.round(median * np.exp(0.5 * random.normal(size=users))), 1, users - 1).astype(np.int64)
    place = np.argsort(np.argsort(-drawn_to, axis=1, kind="stable"), axis=1, kind="stable")
    trusts = place < counts[:, None]
    trusts |= (trusts & (random.random((users, users)) < mutual)).T
    truster, trusted = np.nonzero(trusts)
    return Interactions(truster, trusted, _ids("user", users), _ids("user", users))


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
    drawn = _draw(users, items, tastes, median, exponent, sharpness, seed)
    random = np.random.default_rng([seed, 2])
    match = (drawn.of_users[drawn.user] * drawn.of_items[drawn.item]).sum(1)
    first = np.diff(drawn.user, prepend=-1) > 0
    carts = first | (random.random(len(match)) < 0.1 + 0.8 * match)
    buys = first | (carts & (random.random(len(match)) < 0.7))
    rows = [np.arange(len(match)), np.flatnonzero(carts), np.flatnonzero(buys)]
    behaviour, at = np.repeat(np.arange(3), [len(part) for part in rows]), np.concatenate(rows)
    log = Interactions(
        drawn.user[at],
        drawn.item[at],
        _ids("user", users),
        _ids("item", items),
        time=drawn.day[at] + 0.1 * behaviour,
        behaviour=behaviour,
        behaviours=("view", "cart", "buy"),
    )
    return log.without_unused()


class _Drawn(NamedTuple):
    """Interactions user, item, day (n,), a user's together and in order, and the tastes (U, T) and (I, T) that they follow from."""

    user: np.ndarray
    item: np.ndarray
    day: np.ndarray
    of_users: np.ndarray
    of_items: np.ndarray


def _draw(users: int, items: int, tastes: int, median: int, exponent: float, sharpness: float, seed: int) -> _Drawn:
    random = np.random.default_rng(seed)
    of_users, of_items = _of_users(random, users, tastes), random.dirichlet(np.full(tastes, 0.05), items)
    popularity = -exponent * np.log(random.permutation(items) + 1.0)
    preference = popularity + sharpness * of_users @ of_items.T + random.gumbel(size=(users, items))
    counts = np.clip(np.round(median * np.exp(0.6 * random.normal(size=users))), min(5, items - 1), items // 2).astype(np.int64)
    ranked = np.argsort(-preference, axis=1, kind="stable")
    user = np.repeat(np.arange(users), counts)
    item = np.concatenate([random.permutation(row[:count]) for row, count in zip(ranked, counts, strict=True)])
    day = np.concatenate([np.arange(count) for count in counts]) + np.repeat(random.integers(0, 365, users), counts)
    return _Drawn(user, item, day.astype(np.float64), of_users, of_items)


def _of_users(random: np.random.Generator, users: int, tastes: int) -> np.ndarray:
    """(U, T) the first thing that a log's generator draws."""
    return random.dirichlet(np.full(tastes, 0.2), users)


def _ids(kind: str, count: int) -> np.ndarray:
    return np.array([f"{kind}-{number + 1:04}" for number in range(count)], dtype=object)
