"""Logs of users who walk among items, so that what comes next follows from what came before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anyview_recommenders.generated import Used, log_of
from anyview_recommenders.interactions import Interactions


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
    item = np.stack(steps)[place, user]
    met = np.unique(item)
    return Walks(log_of(Used(user, item, place.astype(np.float64)), users, items), chances[:, met])


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
