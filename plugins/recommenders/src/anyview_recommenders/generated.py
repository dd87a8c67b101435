"""Logs that a few lines of numbers make: users with latent tastes, items of which a few are used by many; users who walk among items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

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
    preference = popularity + sharpness * of_users @ of_items.T
    return _used(random, preference, median)


def generate_with_features(
    users: int = 600, items: int = 500, *, topics: int = 12, median: int = 12, exponent: float = 1.0, sharpness: float = 5.0, seed: int = 0
) -> tuple[Interactions, pd.DataFrame, pd.DataFrame]:
    """A log as of `generate`, a table of its items and one of its users; what an item is like is in its features, not in its popularity.

    Every item has a topic, and a user likes two. Items: "topic"; "shade", a part of the topic that says more; "maker", one of four who
    make the topic; "price", normal around the topic's, and missing for a tenth; "words", three of the topic's ten and one of all; "wrap",
    which says nothing. Users: "group", the topic that they like best. User u prefers item i by ln popularity_i + sharpness times how much
    the topic is liked, half of it for the shade that the user likes, plus Gumbel noise; so tail items are liked by whom their features say.

    >>> log, of_items, of_users = generate_with_features(50, 40)
    >>> len(of_items) == log.items, sorted(of_items.columns), list(of_users.columns)
    (True, ['item', 'maker', 'price', 'shade', 'topic', 'words', 'wrap'], ['user', 'group'])
    """
    random = np.random.default_rng(seed)
    topic, shade = random.integers(0, topics, items), random.integers(0, 3, items)
    likes = np.stack([random.permutation(topics)[:2] for _ in range(users)])
    shades = random.integers(0, 3, (users, topics))
    weights = np.zeros((users, topics))
    weights[np.arange(users)[:, None], likes] = [1.0, 0.7]
    popularity = -exponent * np.log(random.permutation(items) + 1.0)
    liked = weights[:, topic] * (1 + 0.5 * (shades[:, topic] == shade))
    log = _used(random, popularity + sharpness * liked, median)
    words = [[f"word-{topic[item]}-{number}" for number in random.permutation(10)[:3]] for item in range(items)]
    price = np.where(random.random(items) < 0.1, np.nan, 10.0 * topic + random.normal(size=items))
    table = pd.DataFrame(
        {
            "item": [f"item-{number + 1:04}" for number in range(items)],
            "topic": [f"topic-{number}" for number in topic],
            "shade": [f"shade-{first}-{second}" for first, second in zip(topic, shade, strict=True)],
            "maker": [f"maker-{first}-{second}" for first, second in zip(topic, random.integers(0, 4, items), strict=True)],
            "price": price,
            "words": [[*own, f"word-{random.integers(topics)}-{random.integers(10)}"] for own in words],
            "wrap": [f"wrap-{number}" for number in random.integers(0, 5, items)],
        }
    )
    table = table[table["item"].isin(log.item_ids.tolist())].reset_index(drop=True)
    people = pd.DataFrame({"user": log.user_ids, "group": [f"group-{number}" for number in likes[:, 0]]})
    return log, table, people


def _used(random: np.random.Generator, preference: np.ndarray, median: int) -> Interactions:
    """A log in which users use what they prefer (U, I), with Gumbel noise; see `generate`."""
    users, items = preference.shape
    preference = preference + random.gumbel(size=(users, items))
    counts = np.clip(np.round(median * np.exp(0.6 * random.normal(size=users))), min(5, items - 1), items // 2).astype(np.int64)
    ranked = np.argsort(-preference, axis=1, kind="stable")
    user = np.repeat(np.arange(users), counts)
    item = np.concatenate([random.permutation(row[:count]) for row, count in zip(ranked, counts, strict=True)])
    day = np.concatenate([np.arange(count) for count in counts]) + np.repeat(random.integers(0, 365, users), counts)
    user_ids = np.array([f"user-{number + 1:04}" for number in range(users)], dtype=object)
    item_ids = np.array([f"item-{number + 1:04}" for number in range(items)], dtype=object)
    return Interactions(user, item, user_ids, item_ids, time=day.astype(np.float64)).without_unused()


@dataclass(frozen=True, eq=False)
class Walks:
    """A log of users who walk from item to item, and what they were drawn from. chances: (U, I), those of each user's last item."""

    log: Interactions
    chances: np.ndarray


def walk(
    users: int = 1000,
    items: int = 200,
    *,
    interests: int = 10,
    median: int = 9,
    follow: float = 0.5,
    remember: float = 0.3,
    drift: float = 0.1,
    seed: int = 0,
) -> Walks:
    """A log of `users` users and `items` items in order of time, in which what comes next follows from what came before.

    Items have each an interest, and three that they lead to, with chances 0.6, 0.3 and 0.1: two of the same interest and one of any. At
    each step a user follows the last item with the chance `follow`, the one before it with `remember`, and takes else any item of the
    interest that they have, which changes to another with the chance `drift`. What they have had is left out. Walks have as many items as a
    log-normal number around `median` says, at least 4 and at most a quarter of all. An item a day; items that nobody met are left out.

    A model that reads the last item alone knows half of what leads on, and one that reads two or more nearly all: `chances` says what could
    be known at a user's last item by who knows the interest too.

    >>> walks = walk(50, 40)
    >>> len(walks.log) > 4 * 50, walks.chances.shape, walks.log.user_ids[0]
    (True, (50, 40), 'user-0001')
    """
    random = np.random.default_rng(seed)
    of_items = np.arange(items) % interests
    leads = _leads(of_items, random)
    counts = np.clip(np.round(median * np.exp(0.5 * random.normal(size=users))), 4, max(4, items // 4)).astype(np.int64)
    visited, chances = np.zeros((users, items), dtype=bool), np.zeros((users, items))
    interest, everyone = random.integers(0, interests, users), np.arange(users)
    steps: list[np.ndarray] = []
    for step in range(int(counts.max())):
        moves = random.random(users) < drift
        interest = np.where(moves, random.integers(0, interests, users), interest)
        share = 1.0 - (follow if step > 0 else 0.0) - (remember if step > 1 else 0.0)
        likes = share * (of_items == interest[:, None]) / np.bincount(of_items, minlength=interests)[interest][:, None]
        for back, weight in ((1, follow), (2, remember)):
            if step >= back:
                likes = likes + weight * leads[steps[-back]]
        likes = np.where(visited, 0.0, likes) + 1e-9 * ~visited
        likes /= likes.sum(1, keepdims=True)
        steps.append((np.log(np.maximum(likes, 1e-300)) + random.gumbel(size=likes.shape)).argmax(1))
        visited[everyone, steps[-1]] = True
        chances[counts == step + 1] = likes[counts == step + 1]
    place = np.concatenate([np.arange(count) for count in counts])
    user = np.repeat(everyone, counts)
    user_ids = np.array([f"user-{number + 1:04}" for number in range(users)], dtype=object)
    item_ids = np.array([f"item-{number + 1:04}" for number in range(items)], dtype=object)
    item = np.stack(steps)[place, user]
    met = np.unique(item)
    log = Interactions(user, item, user_ids, item_ids, time=place.astype(np.float64)).without_unused()
    return Walks(log, chances[:, met])


def _leads(of_items: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(I, I) where each item leads to: two others of its interest, with chances 0.6 and 0.3, and one of all items, with 0.1."""
    items = len(of_items)
    likeness = random.random((items, items)) + (of_items[:, None] == of_items) - 3.0 * np.eye(items)
    near = np.argsort(-likeness, axis=1)[:, :2]
    leads = np.zeros((items, items))
    rows = np.arange(items)
    leads[rows, near[:, 0]], leads[rows, near[:, 1]] = 0.6, 0.3
    np.add.at(leads, (rows, (rows + random.integers(1, items, items)) % items), 0.1)
    return leads
