"""A small social network over the small log, and logs whose users trust those who share their tastes."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from anyview_recommenders.datasets import prepare
from anyview_recommenders.generated import generate
from anyview_recommenders.generated_social import generate_trust
from anyview_recommenders.raw import Raw
from anyview_recommenders.source import InteractionSource

from .plain import USERS


def network(symmetric: bool = False, share: float = 0.6) -> csr_matrix:
    """Random trust; user 2 has none."""
    dense = np.random.default_rng(4).random((USERS, USERS)) < share
    np.fill_diagonal(dense, False)
    dense[2], dense[:, 2] = False, False
    return csr_matrix((dense | dense.T if symmetric else dense).astype(np.float32))


def social_log(users: int, items: int) -> InteractionSource:
    """A small log whose users trust those who share their tastes."""
    return prepare(Raw(generate(users, items, median=8), "given", trust=generate_trust(users)), "social", {"trust": "own"})
