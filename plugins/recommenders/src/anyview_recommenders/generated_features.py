"""Logs whose users and items have features: tables of what says who likes what, popular or not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anyview_recommenders.generated import log_of, numbered_names, power_law, preferred
from anyview_recommenders.interactions import Interactions


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
    popularity = power_law(random, items, exponent)
    liked = weights[:, topic] * (1 + 0.5 * (shades[:, topic] == shade))
    log = log_of(preferred(random, popularity + sharpness * liked, median), users, items)
    words = [[f"word-{topic[item]}-{number}" for number in random.permutation(10)[:3]] for item in range(items)]
    price = np.where(random.random(items) < 0.1, np.nan, 10.0 * topic + random.normal(size=items))
    table = pd.DataFrame(
        {
            "item": numbered_names("item", items).tolist(),
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
