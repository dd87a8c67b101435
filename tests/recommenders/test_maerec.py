"""MAERec against the paper's formulas written out, its masks and how long they last, and its reward."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.draws import Draws
from anyview_recommenders.item_graph import with_loops
from anyview_recommenders.item_graph_encoders import GraphItemTransformer
from anyview_recommenders.recipes.maerec import MAERec, item_relatedness
from anyview_recommenders.sequence_views import NextItems

from .test_item_graph import near, normalised
from .test_sequences import DIM, ITEMS, LENGTH, batch

MADE = partial(MAERec, seeds=2, depth=2, every=3, edges=7, others=6)


def encoder() -> GraphItemTransformer:
    torch.manual_seed(1)
    return GraphItemTransformer(with_loops(near(2).sign()), DIM, length=LENGTH, heads=2, drop=0.0)


def step_of(made: GraphItemTransformer, number: int = 0) -> Step:
    draws = Draws.seeded(number + 5, total=12)
    return Step(NextItems()(batch(), draws), batch(), draws, number, 20, made)


@pytest.mark.usefixtures("double")
def test_relatedness_is_to_the_mean_of_all_that_ways_lead_to() -> None:
    made, rows = encoder(), torch.randn(ITEMS, DIM)
    edges = torch.from_numpy(near(2).sign().toarray())
    total, counts = torch.zeros(ITEMS, DIM), torch.zeros(ITEMS)
    ways = torch.eye(ITEMS)
    for _ in range(3):
        ways = edges @ ways
        total, counts = total + ways @ rows, counts + ways.sum(1)
    found = item_relatedness(made.graph, rows, 3, 1.0, torch.Generator())
    torch.testing.assert_close(found, cosine_similarity(total / counts[:, None].clamp(min=1), rows, dim=1), rtol=1e-10, atol=1e-12)
    once = item_relatedness(made.graph, rows, 3, 0.0, torch.Generator())
    torch.testing.assert_close(once, cosine_similarity(edges @ rows, rows, dim=1), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_the_next_item_is_told_by_the_masked_graph() -> None:
    made, objective = encoder(), MADE(DIM)
    step = step_of(made)
    found = objective(step)
    stays, view = objective.mask(made.graph), step.set.role("sequence")[0]
    hidden = ~torch.isin(made.graph.pattern.rows, objective.seeds.nodes) & ~torch.isin(made.graph.pattern.columns, objective.seeds.nodes)
    assert not stays[~hidden & ~made.graph.loops].any()
    assert stays[made.graph.loops].all()
    shown = made.graph.pattern.matrix(stays.double()).to_dense()
    assert torch.equal(shown, shown.T)
    dense, embedding = normalised(shown.numpy(), both=True), made.table[1:-1]
    rows = embedding + dense @ embedding + dense @ dense @ embedding
    states = made.states(view.data["sequence"], torch.cat([made.table[:1], rows, made.table[-1:]]))
    losses = []
    for sample, place in (view.target != 0).nonzero().tolist():
        scores = torch.exp(rows @ states[sample, place])
        losses.append(-torch.log(scores[view.target[sample, place] - 1] / scores.sum()))
    torch.testing.assert_close(found["next_item"], torch.stack(losses).mean(), rtol=1e-10, atol=0)


@pytest.mark.usefixtures("double")
def test_a_hidden_edge_is_told_from_others_by_products_of_layers() -> None:
    objective, table = MADE(DIM), [torch.randn(ITEMS, DIM, requires_grad=True) for _ in range(3)]
    one, other = torch.tensor([3, 0, 9]), torch.tensor([5, 4, 11])
    drawn = torch.randint(ITEMS, (2, 3, 3), generator=torch.Generator().manual_seed(2))

    def score(a: int, b: int) -> Tensor:
        products = torch.cat([table[i][a] * table[j][b] for i in range(2) for j in range(2)])
        return objective.score(products)[0]

    losses = []
    for edge in range(3):
        a, b = int(one[edge]), int(other[edge])
        pairs = [(x, b) for x in drawn[0, edge].tolist()] + [(a, x) for x in drawn[1, edge].tolist()]
        own = torch.exp(score(a, b))
        losses.append(-torch.log(own / (own + sum(torch.exp(score(*pair)) for pair in pairs))))
    ours, theirs = objective.edge_loss(table, one, other, torch.Generator().manual_seed(2)), torch.stack(losses).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(loss, [table[0], *objective.score.parameters()], retain_graph=True) for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)
    none = torch.zeros(0, dtype=torch.long)
    assert float(objective.edge_loss(table, none, none, torch.Generator()).detach()) == 0


def test_hidden_edges_are_drawn_once_each_and_no_more_than_asked_for() -> None:
    made, objective = encoder(), MADE(DIM)
    objective(step_of(made))
    stays = objective.mask(made.graph)
    one, other = objective.hidden(made.graph, stays, torch.Generator().manual_seed(0))
    assert len(one) == 7
    assert bool((one < other).all())
    assert not stays[made.graph.numbers(one, other)].any()
    assert len(set(zip(one.tolist(), other.tolist(), strict=True))) == 7


def test_masks_last_some_steps_and_the_reward_follows_the_loss() -> None:
    made, objective = encoder(), MADE(DIM)
    drawn, learned = [], []
    for number in range(7):
        step = step_of(made, number)
        terms = objective(step)
        objective.after_step(step)
        drawn.append((objective.seeds.nodes.tolist(), int(objective.seeds.seed)))
        learned.append("relatedness" in terms)
    assert [number for number in range(7) if number == 0 or drawn[number] != drawn[number - 1]] == [0, 3, 6]
    assert learned == [True, False, False, True, False, False, True]
    assert int(objective.count) == 1
    assert not objective._losses


def plain_reward(losses: list[float]) -> float:
    """1 where the last drop exceeds the average of those before."""
    drops = [a - b for a, b in itertools.pairwise(losses)]
    return 1.0 if len(losses) < 3 or drops[-1] > np.mean(drops[:-1]) else 0.2


@pytest.mark.parametrize(
    "losses", [[], [3.0], [3.0, 2.0], [3.0, 2.0, 0.5], [3.0, 2.0, 1.5], [5.0, 4.0, 4.5, 4.0, 3.9], [5.0, 4.9, 4.8, 4.0]]
)
def test_the_reward_is_less_where_the_loss_fell_no_faster_than_before(losses: list[float]) -> None:
    objective = MADE(DIM)
    for loss in losses:
        step = replace(step_of(encoder()))
        objective._losses[id(step)] = torch.tensor(loss)
        objective.after_step(step)
    assert float(objective.reward()) == pytest.approx(plain_reward(losses))


def test_it_keeps_the_contract_and_two_processes_are_one() -> None:
    check_objective(MADE, make_views=NextItems, make_encoder=encoder, make_batch=batch)
    check_stage_rank_exact(partial(tiny_stage, MADE, NextItems, encoder), batch, steps=4)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="31 seeds were asked for, of 30 items"):
        MAERec(DIM, seeds=31)(step_of(encoder()))
    with pytest.raises(UserError, match="others of 2; these are 50, 3, 0, 2048 and 40"):
        MAERec(DIM, every=0)
