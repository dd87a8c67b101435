from __future__ import annotations

from functools import partial

import pytest
import torch

from anyview.errors import UserError
from anyview.objectives.align_uniform import AlignUniform, alignment, uniformity
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.byol import BYOL
from anyview.objectives.nnclr import NNCLR
from anyview.objectives.objective import Objective
from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.node_views import BothSides, NodePair
from anyview_recommenders.noise import NoisyGraphConvolution

from .plain import DIM, USERS, small_batch, small_log, step_of

KINDS = ["noise", "edge", "node", "walk"]


def encoder(kind: str = "noise") -> LightGraphConvolution:
    return (NoisyGraphConvolution if kind == "noise" else LightGraphConvolution)(small_log(), DIM, layers=2, deviation=1.0)


def pair(kind: str = "noise", amount: float = 0.3) -> NodePair:
    return NodePair(small_log(), kind, amount, layers=2)


def both(make: partial[Objective], dim: int) -> BothSides:
    return BothSides(partial(make, dim))


@pytest.mark.parametrize("kind", KINDS)
def test_two_different_views_of_the_batch_s_nodes_each_once(kind: str) -> None:
    batch = small_batch()
    first, second = pair(kind)(batch, Draws.seeded(0, total=batch.rows)).views
    users = batch.data["user"].unique()
    assert torch.equal(first.data["nodes"], torch.cat([users, USERS + batch.data["item"].unique()]))
    assert first.data["users"] == len(users)
    assert torch.equal(first.index, first.data["nodes"])
    made = encoder(kind)
    a, b = (made(view).rows for view in (first, second))
    clean = made(View({"nodes": first.data["nodes"]})).rows
    assert not torch.allclose(a, b)
    assert not torch.allclose(a, clean)


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_one_pair(kind: str) -> None:
    made, batch = encoder(kind), small_batch()
    first, again, other = (made(pair(kind)(batch, Draws.seeded(seed, total=batch.rows)).views[1]).rows for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_objective_is_taken_of_users_and_of_items_apart_from_one_pass_each() -> None:
    torch.manual_seed(0)
    made, objective = encoder(), both(partial(AlignUniform, hidden=16, width=4), DIM)
    step, calls = step_of(made, views=pair()), []
    forward = made.forward
    made.forward = lambda view: calls.append(view) or forward(view)
    found = objective(step)
    assert len(calls) == 2
    expected = {"alignment": 0.0, "uniformity": 0.0}
    count = step.views[0].data["users"]
    rows = [step.encode(view).rows for view in step.views]
    for part, own in ((objective.of_users, slice(count)), (objective.of_items, slice(count, None))):
        a, b = (part.project(row[own]) for row in rows)
        expected["alignment"] += alignment(a, b)
        expected["uniformity"] += (uniformity(a) + uniformity(b)) / 2
    for name, term in found.items():
        torch.testing.assert_close(term, expected[name])


SLOTS = {
    "barlow_twins": partial(BarlowTwins, width=16),
    "byol": partial(BYOL, hidden=16, width=8),
    "nnclr": partial(NNCLR, hidden=16, width=8, predictor_hidden=16, queue_size=16),
}


@pytest.mark.parametrize("name", SLOTS)
def test_objectives_with_teachers_and_queues_keep_the_contract(name: str) -> None:
    check_objective(partial(both, SLOTS[name]), make_views=pair, make_encoder=encoder, make_batch=small_batch)


@pytest.mark.parametrize("kind", ["noise", "edge"])
def test_two_processes_are_one(kind: str) -> None:
    make = partial(both, partial(BarlowTwins, width=16))
    check_stage_rank_exact(partial(tiny_stage, make, partial(pair, kind), partial(encoder, kind)), small_batch)


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"amount must lie in \[0, 1\)"):
        pair("edge", 1.0)
