"""What is shown of a batch where users did several things."""

from __future__ import annotations

import numpy as np
import torch

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder
from anyview.views.draws import Draws
from anyview_recommenders.behaviour_views import BehaviourBatch, most_behaviours

from .plain import ITEMS, USERS, small_batch
from .plain_behaviours import behaviour_step, small_behaviours, small_views


def test_items_are_the_users_own_and_others_are_not() -> None:
    batch, matrices = small_batch(), [own.toarray() for own in small_behaviours().values()]
    found: list[set[int]] = [set(), set(), set()]
    for seed in range(30):
        (view,) = small_views()(batch, Draws.seeded(seed, total=batch.rows)).views
        shown = view.data
        assert torch.equal(shown["users"], batch.data["user"])
        assert torch.equal(shown["positives"][:, -1], USERS + batch.data["item"])
        for row, user in enumerate(shown["users"].tolist()):
            for behaviour, matrix in enumerate(matrices):
                there = bool(shown["there"][row, behaviour])
                assert there == (0 < matrix[user].sum() < ITEMS)
                if there:
                    positive, negative = (int(shown[side][row, behaviour]) - USERS for side in ("positives", "negatives"))
                    assert matrix[user, positive] == 1
                    assert matrix[user, negative] == 0
                    if user == int(shown["users"][0]):
                        found[behaviour].add(positive)
    first = int(batch.data["user"][0])
    assert all(found[behaviour] == set(np.flatnonzero(matrices[behaviour][first])) for behaviour in range(2))


def test_who_has_nothing_of_a_behaviour_or_all_of_it_is_told() -> None:
    there = behaviour_step(Encoder()).views[0].data
    rows = {user: there["there"][row].tolist() for row, user in enumerate(there["users"].tolist())}
    assert rows[7] == [False, False, True]
    assert rows[0] == [True, False, True]


def test_meta_triples_are_of_users_who_did_most() -> None:
    batch, matrices = small_batch(), list(small_behaviours().values())
    thorough = most_behaviours(matrices)
    assert thorough.tolist() == [user for user in range(USERS) if user not in (3, 7)]  # user 3 bought nothing
    views = small_views(50)(batch, Draws.seeded(0, total=batch.rows))
    users, items, others = views.role("meta")[0].data["nodes"].chunk(3)
    bought = matrices[-1].toarray()
    assert set(users.tolist()) <= set(thorough.tolist())
    assert bool((bought[users, items - USERS] == 1).all())
    assert bool((bought[users, others - USERS] == 0).all())
    half = Draws.seeded(0, total=batch.rows, start=0, rows=batch.rows // 2)
    part = small_views(50)(small_half(), half).role("meta")[0].data["nodes"]
    assert torch.equal(part, views.role("meta")[0].data["nodes"])


def small_half() -> Batch:
    batch = small_batch()
    batch.data = {name: value[: batch.rows // 2] for name, value in batch.data.items()}
    return batch


def test_a_batch_of_one_process_is_its_view() -> None:
    step = behaviour_step(Encoder())
    whole = BehaviourBatch.of(step)
    for name, value in step.views[0].data.items():
        assert torch.equal(getattr(whole, name), value), name
