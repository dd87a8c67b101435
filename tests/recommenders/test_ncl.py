from __future__ import annotations

from functools import partial

import pytest
import torch

from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.recipes.ncl import NCL

from . import plain
from .plain import DIM, ITEMS, USERS, bpr, half_squares, info_nce, layers_of, same, small_batch, small_log, small_triples, step_of

MADE = partial(NCL, users=USERS, items=ITEMS, prototypes=3, warmup=0)


pytestmark = pytest.mark.usefixtures("double")


def encoder() -> LightGraphConvolution:
    return LightGraphConvolution(small_log(), DIM, layers=2, deviation=1.0)


def clustered(objective: NCL, made: LightGraphConvolution, epoch: int = 0) -> Step:
    step = step_of(made)
    with torch.no_grad():
        objective.before_epoch(epoch, lambda: iter([step]))
    return step


def test_it_is_the_paper_s_loss_as_means() -> None:
    made, objective = encoder(), MADE(DIM, structure=0.3, prototype=0.2, temperature=0.5, items_weight=1.5, l2=0.01)
    step = clustered(objective, made)
    layers = layers_of(made.adjacency, made.embedding, 2)
    users, items, others, unique_users, unique_items = plain.batch_nodes(step)
    of_items = [node - USERS for node in unique_items]
    near = [
        info_nce(layers[2][unique_users], made.embedding[:USERS], unique_users, 0.5),
        info_nce(layers[2][unique_items], made.embedding[USERS:], of_items, 0.5),
    ]
    likes = [
        info_nce(made.embedding[unique_users], objective.centres_of_users, objective.cluster_of_users[unique_users].tolist(), 0.5),
        info_nce(made.embedding[unique_items], objective.centres_of_items, objective.cluster_of_items[of_items].tolist(), 0.5),
    ]
    expected = {
        "bpr": bpr(sum(layers) / 3, step),
        "l2": 0.01 * half_squares(made.embedding, users, items, others),
        "structure": 0.3 * (near[0] + 1.5 * near[1]),
        "prototype": 0.2 * (likes[0] + 1.5 * likes[1]),
    }
    same(objective, made, step, expected)


def test_clusters_are_those_of_the_nearest_centre_and_centres_the_means_of_clusters() -> None:
    made, objective = encoder(), MADE(DIM)
    clustered(objective, made)
    for side, rows in zip(("users", "items"), made.embedding.detach().split([USERS, ITEMS]), strict=True):
        centres, cluster = objective.get_buffer(f"centres_of_{side}"), objective.get_buffer(f"cluster_of_{side}")
        assert torch.equal(torch.cdist(rows, centres).argmin(1), cluster)
        for number, centre in enumerate(centres):
            torch.testing.assert_close(rows[cluster == number].mean(0), centre)


def test_a_single_prototype_says_nothing() -> None:
    made, objective = encoder(), MADE(DIM, prototypes=1)
    assert float(objective(clustered(objective, made))["prototype"].detach()) == pytest.approx(0.0, abs=1e-12)


def test_prototypes_wait_for_the_warmup_and_are_made_anew_every_so_often() -> None:
    made, objective = encoder(), MADE(DIM, warmup=2, every=3)
    changed = []
    for epoch in range(9):
        before = objective.centres_of_users.clone()
        with torch.no_grad():
            made.embedding.add_(torch.randn_like(made.embedding))
        step = clustered(objective, made, epoch)
        changed.append(not torch.equal(before, objective.centres_of_users))
        assert bool(objective(step)["prototype"] != 0) == (epoch >= 2)
    assert changed == [False, False, True, False, False, True, False, False, True]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="13 prototypes were asked for, of 12 users and 15 items"):
        MADE(DIM, prototypes=13)
    with pytest.raises(UserError, match="2 hops need layer 4, and the encoder has 2 layers"):
        MADE(DIM, hops=2)(step_of(encoder()))


def test_it_keeps_the_contract() -> None:
    torch.set_default_dtype(torch.float32)
    check_objective(MADE, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    torch.set_default_dtype(torch.float32)
    check_stage_rank_exact(partial(tiny_stage, MADE, small_triples, encoder), small_batch)
