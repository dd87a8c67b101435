"""Logs whose items are known by more than who used them: a graph of what they are about, who made them, and where these belong."""

from __future__ import annotations

import numpy as np

from anyview_recommenders.generated import log_of, numbered_names, power_law, preferred
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.knowledge import Knowledge


def generate_with_knowledge(
    users: int = 600, items: int = 800, *, schools: int = 12, median: int = 6, exponent: float = 0.7, sharpness: float = 8.0, seed: int = 0
) -> tuple[Interactions, Knowledge]:
    """A log as of `generate`, with short histories, and triples that say who likes what; most items are used by a few.

    Every item is made by one of 5 makers of a school ("made_by"), makers belong to schools ("of_school"), so that items of a school are two
    hops apart; it is about two of the school's 6 subjects and one of any ("about"), and sold in one of 10 shops ("sold_in"), which says
    nothing. A user likes two schools, and of each two makers more. User u prefers item i by ln popularity_i + sharpness times how much its
    school is liked, half of it for a maker whom the user likes, plus Gumbel noise.

    >>> log, knowledge = generate_with_knowledge(50, 40)
    >>> log.item_ids[0] in knowledge.entity_ids, sorted(knowledge.relation_ids.tolist())
    (True, ['about', 'made_by', 'of_school', 'sold_in'])
    """
    random = np.random.default_rng(seed)
    maker = random.integers(0, 5 * schools, items)
    school = maker // 5
    rows, likes = np.arange(users)[:, None], random.random((users, schools)).argsort(1)[:, :2]
    of_schools = np.zeros((users, schools))
    of_schools[rows, likes] = [1.0, 0.7]
    of_makers = random.random((users, schools, 5)).argsort(2) < 2
    liked = of_schools[:, school] * (0.5 + 0.5 * of_makers.reshape(users, -1)[:, maker])
    log = log_of(preferred(random, power_law(random, items, exponent) + sharpness * liked, median), users, items)
    subjects = np.concatenate(
        [6 * school[:, None] + random.random((items, 6)).argsort(1)[:, :2], random.integers(0, 6 * schools, (items, 1))], 1
    )
    item, makers = np.arange(items), np.arange(5 * schools)
    said = {
        "made_by": (named("item", item), named("maker", maker)),
        "of_school": (named("maker", makers), named("school", makers // 5)),
        "about": (named("item", item.repeat(3)), named("subject", subjects.ravel())),
        "sold_in": (named("item", item), named("shop", random.integers(0, 10, items))),
    }
    head, tail = (np.concatenate([pair[side] for pair in said.values()]) for side in (0, 1))
    relation = np.concatenate([np.full(len(pair[0]), name, dtype=object) for name, pair in said.items()])
    return log, Knowledge.from_ids(head, relation, tail)


def named(kind: str, numbers: np.ndarray) -> np.ndarray:
    """String ids (n,) of numbers (n,) from 0, as `numbered_names` has them."""
    return numbered_names(kind, int(numbers.max()) + 1)[numbers]
