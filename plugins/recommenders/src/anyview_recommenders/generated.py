"""A log that a few lines of numbers make: users with latent tastes, items of which a few are used by many."""

from __future__ import annotations

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
    random = np.random.default_rng(seed)
    of_users, of_items = random.dirichlet(np.full(tastes, 0.2), users), random.dirichlet(np.full(tastes, 0.05), items)
    popularity = -exponent * np.log(random.permutation(items) + 1.0)
    preference = popularity + sharpness * of_users @ of_items.T + random.gumbel(size=(users, items))
    counts = np.clip(np.round(median * np.exp(0.6 * random.normal(size=users))), min(5, items - 1), items // 2).astype(np.int64)
    ranked = np.argsort(-preference, axis=1, kind="stable")
    user = np.repeat(np.arange(users), counts)
    item = np.concatenate([random.permutation(row[:count]) for row, count in zip(ranked, counts, strict=True)])
    day = np.concatenate([np.arange(count) for count in counts]) + np.repeat(random.integers(0, 365, users), counts)
    user_ids = np.array([f"user-{number + 1:04}" for number in range(users)], dtype=object)
    item_ids = np.array([f"item-{number + 1:04}" for number in range(items)], dtype=object)
    return Interactions(user, item, user_ids, item_ids, time=day.astype(np.float64)).without_unused()
