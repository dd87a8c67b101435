"""Logs that a few lines of numbers make: users with latent tastes, and items of which a few are used by many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anyview_recommenders.interactions import Interactions


class Used(NamedTuple):
    """Who used what, on which day: user, item, day (n,), a user's together and in order."""

    user: np.ndarray
    item: np.ndarray
    day: np.ndarray


class Tastes(NamedTuple):
    """Mixtures of T tastes, rows that sum to 1: of users (U, T), of items (I, T)."""

    of_users: np.ndarray
    of_items: np.ndarray


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
    _, used = by_taste(users, items, tastes=tastes, median=median, exponent=exponent, sharpness=sharpness, seed=seed)
    return log_of(used, users, items)


def by_taste(users: int, items: int, *, tastes: int, median: int, exponent: float, sharpness: float, seed: int) -> tuple[Tastes, Used]:
    """The tastes that a log of `generate` follows from, and what was used."""
    random = np.random.default_rng(seed)
    drawn = Tastes(tastes_of_users(random, users, tastes), random.dirichlet(np.full(tastes, 0.05), items))
    preference = power_law(random, items, exponent) + sharpness * drawn.of_users @ drawn.of_items.T
    return drawn, preferred(random, preference, median)


def tastes_of_users(random: np.random.Generator, users: int, tastes: int) -> np.ndarray:
    """(U, T) the first that is drawn of a log of `generate`."""
    return random.dirichlet(np.full(tastes, 0.2), users)


def power_law(random: np.random.Generator, items: int, exponent: float) -> np.ndarray:
    """(I,) logarithms of a power law over items in a random order."""
    return -exponent * np.log(random.permutation(items) + 1.0)


def preferred(random: np.random.Generator, preference: np.ndarray, median: int) -> Used:
    """What users use of what they prefer (U, I), with Gumbel noise; see `generate`."""
    users, items = preference.shape
    preference = preference + random.gumbel(size=(users, items))
    counts = np.clip(np.round(median * np.exp(0.6 * random.normal(size=users))), min(5, items - 1), items // 2).astype(np.int64)
    ranked = np.argsort(-preference, axis=1, kind="stable")
    user = np.repeat(np.arange(users), counts)
    item = np.concatenate([random.permutation(row[:count]) for row, count in zip(ranked, counts, strict=True)])
    day = np.concatenate([np.arange(count) for count in counts]) + np.repeat(random.integers(0, 365, users), counts)
    return Used(user, item, day.astype(np.float64))


def log_of(used: Used, users: int, items: int) -> Interactions:
    """The log of what was used, without users and items that have nothing."""
    return Interactions(used.user, used.item, numbered_names("user", users), numbered_names("item", items), time=used.day).without_unused()


def numbered_names(kind: str, count: int) -> np.ndarray:
    """String ids (n,).

    >>> numbered_names("user", 2).tolist()
    ['user-0001', 'user-0002']
    """
    return np.array([f"{kind}-{number + 1:04}" for number in range(count)], dtype=object)
