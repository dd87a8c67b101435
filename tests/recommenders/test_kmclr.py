"""KMCLR: rows, losses and views as the paper writes them, what it reduces to, two processes, learning and resuming."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import anyview
from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated_social import generate_behaviours, generate_kinds, kinds_as_knowledge
from anyview_recommenders.recipes.kmclr import KMCLR, KnowledgeOfBehaviours, kmclr
from anyview_recommenders.recommender import Recommender
from anyview_recommenders.source import InteractionSource
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, info_nce, small_batch, small_log
from .plain_behaviours import behaviour_squares, behaviour_step, plain_fused, small_behaviours, small_views, target_alone
from .plain_knowledge import NODES, RELATIONS, small_graph
from .small_runs import assert_learns_to_rank
from .test_knowledge_branch import NO_TRIPLES, plain_items, plain_whole

SIZES = {"interactions": small_log().nnz, "relations": 2 * RELATIONS}
objective = partial(KMCLR, **SIZES, weight=0.3, temperature=0.4, auxiliary=0.6, known=0.7, known_weight=0.2, l2=0.1)


def encoder(dim: int = DIM) -> KnowledgeOfBehaviours:
    torch.manual_seed(1)
    made = KnowledgeOfBehaviours(small_graph(), small_behaviours(), dim, layers=2, known_layers=2, share=0.3, deviation=1.0, slope=0.3)
    with torch.no_grad():
        for weight in (made.weights, made.joined):
            weight.add_(0.2 * torch.randn_like(weight))
    return made


def ranking(fused: Tensor, shown: dict[str, Tensor], behaviour: int) -> Tensor:
    """BPR of one behaviour, over the users who did it."""
    losses = []
    for user, positive, negative, there in zip(*(shown[name] for name in ("users", "positives", "negatives", "there")), strict=True):
        if there[behaviour]:
            losses.append(-torch.log(torch.sigmoid(fused[user] @ fused[positive[behaviour]] - fused[user] @ fused[negative[behaviour]])))
    return torch.stack(losses).mean()


def stays(made: KnowledgeOfBehaviours, halves: list[Tensor]) -> Tensor:
    """Chances of interactions, one by one."""
    first, second = (sum(plain_items(made.branch, table, shown) for table in made.branch.tables) / 2 for shown in halves)
    items = sum(plain_items(made.branch, table, torch.ones(len(made.branch.triples))) for table in made.branch.tables) / 2
    users, own = (ends.tolist() for ends in small_log().nonzero())
    powers = [torch.exp(made.branch.embedding[user] @ items[item]) for user, item in zip(users, own, strict=True)]
    totals = [sum(power for power, other in zip(powers, users, strict=True) if other == user) for user in range(USERS)]
    liked = torch.stack([power / totals[user] for power, user in zip(powers, users, strict=True)])
    both = liked * torch.cosine_similarity(first, second)[own]
    return 0.6 + 0.4 * (both - both.min()) / (both.max() - both.min())


@pytest.mark.usefixtures("double")
def test_rows_and_losses_are_the_formulas_written_plainly() -> None:
    made, method = encoder(), objective(DIM)
    step = behaviour_step(made, small_views)
    fused, each = plain_fused(made)
    known = plain_whole(made.branch, torch.ones(len(made.branch.triples)))
    rows = torch.cat([0.7 * fused[:USERS] + 0.3 * known[:USERS], fused[USERS:]])
    torch.testing.assert_close(made(View({"nodes": NODES})).rows, rows, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        method.before_epoch(0, lambda: iter([step]))
    halves = method.views.halves(len(made.branch.triples))
    torch.testing.assert_close(method.views.stays, stays(made, halves), rtol=1e-9, atol=0)
    shown = step.views[0].data
    people, there = sorted(set(shown["users"].tolist())), shown["there"][:, -1]
    users, items, others = shown["users"][there], shown["positives"][there, -1], shown["negatives"][there, -1]
    margins = [known[user] @ (known[item] - known[other]) for user, item, other in zip(users, items, others, strict=True)]
    views = []
    for view in method.views(len(made.branch.triples), made.branch.adjacency):
        keep = np.zeros((USERS, ITEMS))
        ends = view["adjacency"].ends()
        keep[ends[0].numpy(), ends[1].numpy() - USERS] = 1
        views.append(plain_whole(made.branch, view["triples"], keep))
    contrasts = [info_nce(*(own[side.unique()] for own in views), list(range(len(side.unique()))), 0.2) for side in (users, items)]
    tables = torch.cat([made.branch.embedding, sum(table.entities for table in made.branch.tables) / 2])
    squares = sum(tables[side].square().sum() for side in (users, items, others)) / (2 * len(users))
    expected = {
        "bpr": 0.6 * (ranking(rows, shown, 0) + ranking(rows, shown, 1)) + ranking(rows, shown, 2),
        "contrast": 0.3 * sum(info_nce(each[2][people], each[other][people], list(range(len(people))), 0.4) for other in range(2)),
        "known": -0.7 * torch.log(torch.sigmoid(torch.stack(margins))).mean(),
        "views": 0.2 * sum(contrasts),
        "l2": 0.1 * (behaviour_squares(step, made) + squares),
    }
    found = method(step)
    assert found.keys() == {*expected, "energy"}
    weights = list(made.parameters())
    for name, theirs in expected.items():
        torch.testing.assert_close(found[name], theirs, rtol=1e-9, atol=1e-12)
        options = {"retain_graph": True, "materialize_grads": True, "allow_unused": True}
        for a, b in zip(*(torch.autograd.grad(loss, weights, **options) for loss in (found[name], theirs)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-11)


def test_likely_interactions_stay_more_often() -> None:
    made = encoder()
    ones = torch.ones(len(made.branch.triples), dtype=torch.bool)
    chances = made.chances(made.branch.gathered(ones), made.branch.gathered(ones)).detach()
    assert float(chances.min()) == pytest.approx(0.6)
    assert float(chances.max()) == pytest.approx(1.0)


def test_one_behaviour_without_triples_is_two_branches_of_the_target() -> None:
    torch.manual_seed(0)
    made = KnowledgeOfBehaviours(NO_TRIPLES, target_alone(), DIM, layers=2, share=0.0)
    method = objective(DIM, relations=0)
    step = behaviour_step(made, partial(type(small_views()), target_alone()))
    with torch.no_grad():
        method.before_epoch(0, lambda: iter([step]))
    found = method(step)
    assert "energy" not in found
    assert float(found["contrast"].detach()) == 0.0
    torch.testing.assert_close(found["bpr"], ranking(made(View({"nodes": NODES})).rows, step.views[0].data, 0))


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="the share of knowledge is 2"):
        KnowledgeOfBehaviours(small_graph(), small_behaviours(), DIM, share=2.0)


def test_data_without_knowledge_or_behaviours_is_refused() -> None:
    with pytest.raises(UserError, match="has no knowledge of its items beside it"):
        kmclr(open_interactions(generate_behaviours(60, 50), target="last"))
    with pytest.raises(UserError, match="has no column of behaviours"):
        kmclr("generated-knowledge")


def test_the_contracts_are_kept() -> None:
    check_encoder(encoder(), View({"nodes": NODES}))
    check_objective(objective, make_views=small_views, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_views, encoder), small_batch)


def shop(users: int, items: int) -> InteractionSource:
    source = open_interactions(generate_behaviours(users, items), target="last", knowledge=kinds_as_knowledge(generate_kinds(users, items)))
    assert isinstance(source, InteractionSource)
    return source


def test_it_recommends_without_its_data(tmp_path: Path) -> None:
    run = anyview.pretrain(kmclr(dim=8, epochs=1), tmp_path / "run")
    ours, theirs = (list(Recommender(one, device="cpu").recommend(k=5)) for one in (run, anyview.load(run.folder.path)))
    assert ours == theirs


def test_it_learns(tmp_path: Path) -> None:
    source = shop(300, 200)
    torch.manual_seed(0)
    assert_learns_to_rank(kmclr(source, dim=16, layers=2, epochs=12, batch_size=256, lr=0.02, l2=1e-3), source, tmp_path)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: kmclr(shop(60, 50), dim=8, epochs=2, batch_size=32, look_every=1), tmp_path, step=4)
