"""Energies of triples, attention to them and the knowledge branch, against the formulas written triple by triple."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.testing import check_encoder
from anyview.views.view import View
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_branch import ENERGIES, Energy, EntityTable, KnowledgeBranch, TripleEnergy, tatec, transr

from .plain import DIM, ITEMS, USERS, batch_nodes, half_squares, small_log, step_of
from .plain_behaviours import dense_normalised
from .plain_knowledge import NODES, each, small_graph

NOTHING = np.zeros(0, dtype=np.int64)
NO_TRIPLES = KnowledgeGraph(ITEMS, ITEMS, NOTHING, NOTHING, NOTHING, np.array([], dtype=object))


def branch(graph: KnowledgeGraph | None = None) -> KnowledgeBranch:
    torch.manual_seed(2)
    return KnowledgeBranch(graph or small_graph(), small_log(), DIM, layers=2, deviation=1.0)


def plain_items(made: KnowledgeBranch, table: EntityTable, shown: Tensor) -> Tensor:
    """Each item and its tails, by attention over those that are shown."""
    found = []
    for item in range(ITEMS):
        own = [(r, t) for (h, r, t), keep in zip(each(made.triples), shown, strict=True) if keep and h == item]
        logits = [table.attend.weight[0] @ torch.cat([table.entities[item], table.relations[r], table.entities[t]]) for r, t in own]
        powers = [torch.exp(torch.where(logit > 0, logit, 0.2 * logit)) for logit in logits]
        gathered = sum((power / sum(powers) * table.entities[t] for power, (_, t) in zip(powers, own, strict=True)), torch.zeros(DIM))
        found.append(table.entities[item] + gathered)
    return torch.stack(found)


def plain_whole(made: KnowledgeBranch, shown: Tensor, keep: np.ndarray | float = 1.0) -> Tensor:
    """The branch's rows from some triples and interactions (U, I)."""
    items = sum(plain_items(made, table, shown) for table in made.tables) / 2
    graph = dense_normalised(small_log().multiply(keep))
    rows = total = torch.cat([made.embedding, items])
    for _ in range(made.depth):
        rows = torch.cat([graph @ rows[USERS:], graph.T @ rows[:USERS]])
        total = total + rows
    return total / (1 + made.depth)


@pytest.mark.usefixtures("double")
def test_rows_are_the_papers_formulas() -> None:
    made = branch()
    for shown in (torch.ones(len(made.triples)), torch.rand(len(made.triples)) < 0.5):
        ours, theirs = made.whole(shown.bool()), plain_whole(made, shown)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        weights = [made.embedding, *(weight for table in made.tables for weight in (table.entities, table.relations, table.attend.weight))]
        for one, other in zip(*(torch.autograd.grad(rows.square().sum(), weights) for rows in (ours, theirs)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)


@pytest.mark.usefixtures("double")
def test_energies_are_the_papers_formulas() -> None:
    head, relation, tail = torch.randn(3, 6, DIM).unbind()
    maps = torch.randn(6, DIM, DIM)
    of_transr = [(w @ h + r - w @ t).square().sum() for h, r, t, w in zip(head, relation, tail, maps, strict=True)]
    of_tatec = [h @ w @ t + h @ r + t @ r + h @ t for h, r, t, w in zip(head, relation, tail, maps, strict=True)]
    torch.testing.assert_close(transr(head, relation, tail, maps), torch.stack(of_transr))
    torch.testing.assert_close(tatec(head, relation, tail, maps), torch.stack(of_tatec))


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.usefixtures("double")
def test_the_loss_of_triples_is_the_formula_and_lowers_the_energy_of_true_ones(name: Energy) -> None:
    made = branch()
    table, energy = made.tables[0], TripleEnergy(made.triples.relations, DIM, name)
    with torch.no_grad():
        energy.maps.add_(0.2 * torch.randn_like(energy.maps))
    step = step_of(made)
    options = {"generator": step_of(made).draws.generator}
    drawn = torch.randint(len(made.triples), (step.draws.total,), **options)
    others = torch.randint(len(table.entities), (step.draws.total,), **options)
    losses = []
    for place, other in zip(drawn.tolist(), others.tolist(), strict=True):
        h, r, t = each(made.triples)[place]
        rows = table.entities[[h]], table.relations[[r]]
        true, false = (energy.energy(*rows, table.entities[[tail]], energy.maps[[r]])[0] for tail in (t, other))
        squares = sum(row.square().sum() for row in (*rows, table.entities[t], table.entities[other]))
        losses.append(-torch.log(torch.sigmoid(false - true)) + 1e-3 * squares / 2)
    torch.testing.assert_close(energy(step, made.triples, table), torch.stack(losses).mean())

    def lower() -> float:
        """The share of triples that have less energy than with the next one's tail, where that is another."""
        heads, relations, tails = torch.tensor(each(made.triples)).T
        of_true, of_next = (
            energy.energy(table.entities[heads], table.relations[relations], table.entities[own], energy.maps[relations])
            for own in (tails, tails.roll(1))
        )
        return float((of_true < of_next)[tails != tails.roll(1)].double().mean())

    before, optimizer = lower(), torch.optim.Adam([*table.parameters(), *energy.parameters()], lr=0.01)
    for number in range(200):
        optimizer.zero_grad()
        energy(step_of(made, seed=number), made.triples, table).backward()
        optimizer.step()
    assert before < 0.65
    assert lower() > 0.75


@pytest.mark.usefixtures("double")
def test_without_triples_it_is_a_light_graph_convolution() -> None:
    made = branch(NO_TRIPLES)
    torch.testing.assert_close(made.whole(), plain_whole(made, torch.zeros(0)))


def test_lengths_are_those_of_users_and_of_the_mean_of_tables() -> None:
    made = branch()
    users, items, others = batch_nodes(step_of(made))[:3]
    rows = torch.cat([made.embedding, (made.tables[0].entities + made.tables[1].entities) / 2])
    nodes = (torch.tensor(own) for own in (users, items, others))
    torch.testing.assert_close(made.lengths(*nodes), half_squares(rows, users, items, others))


def test_the_encoder_keeps_its_contract() -> None:
    check_encoder(branch(), View({"nodes": NODES}))
