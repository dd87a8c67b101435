"""A small log of several behaviours, steps over it, and the convolution of behaviours written with dense matrices."""

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
from anyview_recommenders.fused_convolution import FusedConvolution
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


def plain_fused(made: FusedConvolution) -> tuple[Tensor, list[Tensor]]:
    """The fused rows, and those of each behaviour, with dense matrices."""

    def active(rows: Tensor) -> Tensor:
        return torch.where(rows > 0, rows, made.slope * rows)

    graphs = [dense_normalised(own) for own in small_behaviours().values()]
    fused, each = [made.embedding], [[made.embedding] for _ in graphs]
    for layer in range(2):
        users, items = fused[-1][:USERS], fused[-1][USERS:]
        sums = [(graph @ items, graph.T @ users) for graph in graphs]
        weights = made.weights[layer]
        means = [sum(own[side] for own in sums) / len(graphs) for side in range(2)]
        fused.append(torch.cat([active(means[side] @ weights[side]) for side in range(2)]))
        for layers, own in zip(each, sums, strict=True):
            layers.append(torch.cat([active(own[side] @ weights[side]) for side in range(2)]))

    def joined(layers: list[Tensor]) -> Tensor:
        beside = torch.cat(layers, 1)
        return torch.cat([beside[:USERS] @ made.joined[0], beside[USERS:] @ made.joined[1]])

    return joined(fused), [joined(layers) for layers in each]


def behaviour_squares(step: Step, made: FusedConvolution) -> Tensor:
    """Half the squared lengths of a batch's embeddings, over the batch."""
    shown = step.views[0].data
    squares = made.embedding.square().sum(1)
    items = sum(squares[shown[side][shown["there"]]].sum() for side in ("positives", "negatives"))
    return (squares[shown["users"]].sum() + items) / (2 * len(shown["users"]))
