"""A small log of several behaviours, and steps over it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.encoders.encoder import Encoder
from anyview.objectives.objective import Step
from anyview_recommenders.behaviour_views import BehaviourTriples
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated_social import generate_behaviours
from anyview_recommenders.source import InteractionSource

from .plain import ITEMS, USERS, small_log, step_of


def small_behaviours() -> dict[str, csr_matrix]:
    """Views, carts and the small log, the target; user 7 views nothing and puts nothing into a cart, user 0 everything."""
    made = {}
    for seed, name in ((8, "view"), (9, "cart")):
        dense = np.random.default_rng(seed).random((USERS, ITEMS)) < 0.3
        dense[7], dense[3, 2] = False, True
        dense[0] |= name == "cart"
        made[name] = csr_matrix(dense.astype(np.float32))
    return {**made, "buy": small_log()}


def target_alone() -> dict[str, csr_matrix]:
    return {"buy": small_log()}


def small_views(meta: int = 0) -> BehaviourTriples:
    return BehaviourTriples(small_behaviours(), meta=meta)


def behaviour_step(encoder: Encoder, make_views: Callable[[], BehaviourTriples] = small_views, *, seed: int = 0) -> Step:
    return step_of(encoder, seed=seed, views=make_views())


def dense_normalised(matrix: csr_matrix) -> Tensor:
    """The normalised matrix of a behaviour, (U, I), in float64."""
    whole = torch.from_numpy(matrix.toarray()).double()
    rows, columns = (1 / whole.sum(axis).clamp(min=1).sqrt() for axis in (1, 0))
    return rows[:, None] * whole * columns


def shop(users: int, items: int) -> InteractionSource:
    """A generated log of views, carts and purchases."""
    source = open_interactions(generate_behaviours(users, items), target="last")
    assert isinstance(source, InteractionSource)
    return source
