from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.testing import check_objective
from anyview_recommenders.batch_nodes import all_nodes
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.recipes.lightgcl import LightGCL, LowRank

from . import plain
from .plain import DIM, ITEMS, USERS, bpr, half_squares, layers_of, same, small_batch, small_log, small_triples, step_of

pytestmark = pytest.mark.usefixtures("double")


def encoder() -> LightGraphConvolution:
    return LightGraphConvolution(small_log(), DIM, layers=2, deviation=1.0, pool="sum")


def normalised(made: LightGraphConvolution) -> Tensor:
    """The normalised interactions, (U, I)."""
    return made.adjacency.matrix.to_dense()[:USERS, USERS:]


def cut(matrix: Tensor, rank: int) -> Tensor:
    """The best approximation of this rank."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank]


@pytest.mark.parametrize("rank", [1, 3, USERS])
def test_the_factors_are_the_largest_singular_values(rank: int) -> None:
    made = encoder()
    found = LowRank.of(made.adjacency, rank)
    torch.testing.assert_close(found.users @ torch.diag(found.values) @ found.items.T, cut(normalised(made), rank), rtol=1e-6, atol=1e-6)


def test_with_every_singular_value_both_views_are_one() -> None:
    made, objective = encoder(), LightGCL(DIM, rank=USERS)
    step = step_of(made)
    objective(step)
    whole = all_nodes(step)
    torch.testing.assert_close(objective.spread(whole), whole.rows, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("temperature", [0.2, 30.0])
def test_it_is_the_paper_s_loss_with_the_code_s_clamp(temperature: float) -> None:
    made, objective = encoder(), LightGCL(DIM, rank=3, weight=0.7, temperature=temperature, l2=0.01)
    step = step_of(made)
    layers = layers_of(made.adjacency, made.embedding, 2)
    seen, low = sum(layers), cut(normalised(made), 3)
    shown = made.embedding + sum(torch.cat([low @ below[USERS:], low.T @ below[:USERS]]) for below in layers[:2])
    users, items, others, unique_users, unique_items = plain.batch_nodes(step)
    contrast = 0.0
    for nodes, side in ((unique_users, range(USERS)), (unique_items, range(USERS, USERS + ITEMS))):
        own = torch.stack([(shown[n] @ seen[n] / temperature).clamp(-5, 5) for n in nodes])
        sums = torch.stack([torch.logsumexp(torch.stack([shown[n] @ seen[m] / temperature for m in side]), 0) for n in nodes])
        contrast = contrast - own.mean() + sums.mean()
    expected = {
        "bpr": bpr(seen, step),
        "l2": 0.01 * half_squares(made.embedding, users, items, others),
        "contrast": 0.7 * contrast,
    }
    objective(step_of(made))
    assert objective.low_rank is not None
    exact = torch.linalg.svd(normalised(made), full_matrices=False)
    objective.low_rank = LowRank(exact.U[:, :3], exact.S[:3], exact.Vh[:3].T)  # the randomised ones are right to seven digits
    same(objective, made, step, expected)


@pytest.mark.parametrize("rank", [0, USERS + 1])
def test_a_rank_that_the_matrix_does_not_have_is_refused(rank: int) -> None:
    with pytest.raises(UserError, match=f"a rank of {rank} was asked for, and 12 users with 15 items have 1 to 12"):
        LightGCL(DIM, rank=rank)(step_of(encoder()))


def test_it_keeps_the_contract() -> None:
    torch.set_default_dtype(torch.float32)
    check_objective(LightGCL, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)
