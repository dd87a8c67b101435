"""AutoCF against the paper's formulas written out, its masks against distances in the graph, and how long they last."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated import generate
from anyview_recommenders.graph_attention import AttentiveGraphConvolution
from anyview_recommenders.masked_graph import MaskedGraph, hide_around, relatedness
from anyview_recommenders.recipes.autocf import AutoCF, autocf
from anyview_recommenders.sparse_product import SparsePattern
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, half_squares, layers_of, same, small_batch, small_log, small_triples, step_of
from .small_runs import assert_learns_to_rank

COUNT = USERS + ITEMS
NODES = torch.arange(COUNT)
MADE = partial(AutoCF, seeds=2, depth=1, every=3)


def encoder(deviation: float = 1.0) -> AttentiveGraphConvolution:
    return AttentiveGraphConvolution(small_log(), DIM, layers=2, heads=2, deviation=deviation)


def binary() -> np.ndarray:
    """(N, N) of ones where two nodes have an interaction."""
    log = small_log().toarray()
    return np.block([[np.zeros((USERS, USERS)), log], [log.T, np.zeros((ITEMS, ITEMS))]])


def distances(seeds: list[int]) -> np.ndarray:
    """(N,) steps to the nearest of the seeds, infinite where there is no way."""
    found = np.full(COUNT, np.inf)
    found[seeds] = 0
    for step in range(1, COUNT):
        near = (binary() @ (found == step - 1)) > 0
        found[near & np.isinf(found)] = step
    return found


def there(pairs: SparsePattern) -> np.ndarray:
    found = np.zeros((COUNT, COUNT), dtype=bool)
    found[pairs.rows.numpy(), pairs.columns.numpy()] = True
    return found


def plain_attention(made: AttentiveGraphConvolution, pairs: np.ndarray, rows: Tensor) -> Tensor:
    """Two heads, node by node."""
    attend, half = made.attend, DIM // 2
    found = []
    for node in range(COUNT):
        others = np.flatnonzero(pairs[node])
        heads = []
        for own in (slice(0, half), slice(half, DIM)):
            query = (attend.query.weight @ rows[node])[own]
            powers = [torch.exp((query @ (attend.key.weight @ rows[other])[own]).clamp(-10, 10)) for other in others]
            values = [(attend.value.weight @ rows[other])[own] for other in others]
            heads.append(sum((p / sum(powers) * v for p, v in zip(powers, values, strict=True)), torch.zeros(half)))
        found.append(torch.cat(heads))
    return torch.stack(found)


@pytest.mark.usefixtures("double")
def test_relatedness_is_to_the_mean_of_those_one_and_two_steps_away() -> None:
    rows, walks = torch.randn(COUNT, DIM), torch.from_numpy(binary())
    twice = walks @ walks
    twice.fill_diagonal_(0)
    around = (walks + twice) @ rows / ((walks + twice).sum(1, keepdim=True) + 1e-8)
    chances = [torch.sigmoid(a @ b / (a.norm() * b.norm()).clamp(min=1e-12)) for a, b in zip(around, rows, strict=True)]
    found = relatedness(encoder().adjacency, rows)
    torch.testing.assert_close(found, torch.log(torch.stack(chances)), rtol=1e-10, atol=1e-12)
    assert float(found[3]) == pytest.approx(-np.log(2))
    assert torch.autograd.gradcheck(partial(relatedness, encoder().adjacency), (torch.randn(COUNT, 2, requires_grad=True),))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_is_hidden_is_near_the_seeds(depth: int) -> None:
    adjacency, seeds = encoder().adjacency, [3, 9, 20]
    stays, hidden = hide_around(adjacency.ends(), COUNT, torch.tensor(seeds), depth)
    far = distances(seeds)
    users, items = adjacency.ends()
    assert stays.tolist() == [bool(min(far[u], far[i]) >= depth) for u, i in zip(users.tolist(), items.tolist(), strict=True)]
    assert hidden.tolist() == (far < depth).tolist()


def test_pairs_are_of_hidden_nodes_of_what_is_shown_and_of_each_node_with_itself() -> None:
    adjacency, seeds = encoder().adjacency, torch.tensor([0, 20])
    for share in (0.0, 0.3):
        generator = torch.Generator().manual_seed(0)
        found = MaskedGraph.around(adjacency, seeds, depth=1, share=share, generator=generator)
        pairs, shown = there(found.pairs), found.shown.matrix.to_dense().numpy() > 0
        assert np.array_equal(pairs, pairs.T)
        assert pairs.diagonal().all()
        assert pairs[shown].all()
        drawn = np.flatnonzero((pairs & ~shown & ~np.eye(COUNT, dtype=bool)).any(1)).tolist()
        assert set(drawn) == {0, 20} if share == 0 else {0, 20} < set(drawn)
        assert 0 < shown.sum() < 2 * adjacency.size


@pytest.mark.usefixtures("double")
def test_it_is_the_papers_formulas() -> None:
    made, objective = encoder(), MADE(DIM, weight=0.7, l2=0.2)
    step = step_of(made)
    objective(step_of(made))
    graph = objective.masked
    assert graph is not None
    layers = layers_of(graph.shown, made.embedding, 2)
    rows = sum(layers) + plain_attention(made, there(graph.pairs), layers[-1])
    users, items, _, unique_users, unique_items = batch_nodes(step)
    own = torch.stack([rows[u] @ rows[i] for u, i in zip(users, items, strict=True)]).mean()
    among = torch.stack([torch.log(torch.exp(rows[u] @ rows[USERS:].T).sum()) for u in users]).mean()
    apart = [torch.stack([torch.log(torch.exp(rows[n] @ side.T).sum()) for n in nodes]).mean() for nodes, side in
             ((unique_users, rows[:USERS]), (unique_items, rows[USERS:]))]  # fmt: skip
    expected = {
        "relatedness": -relatedness(made.adjacency, made.embedding).mean(),
        "prediction": among - own,
        "spread": 0.7 * sum(apart),
        "l2": 0.2 * half_squares(made.embedding, users, items),
    }
    same(objective, made, step_of(made), expected)
    found = objective(step_of(made))
    for name in ("query", "key", "value"):
        weight = getattr(made.attend, name).weight
        ours, theirs = (torch.autograd.grad(terms["prediction"], weight, retain_graph=True)[0] for terms in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_predictions_are_of_the_whole_graph() -> None:
    made = encoder().eval()
    layers = layers_of(made.adjacency, made.embedding, 2)
    rows = sum(layers) + plain_attention(made, (binary() + np.eye(COUNT)) > 0, layers[-1])
    torch.testing.assert_close(made(View({"nodes": NODES})).rows, rows, rtol=1e-10, atol=1e-12)


def test_seeds_are_those_of_the_largest_noisy_scores_and_last_some_steps() -> None:
    made, objective = encoder(), MADE(DIM)
    step, draws = step_of(made), step_of(made).draws
    drawn, learned = [], []
    for number in range(8):
        terms = objective(replace(step_of(made, seed=number), number=number))
        drawn.append((objective.seeds.nodes.tolist(), int(objective.seeds.seed)))
        learned.append("relatedness" in terms)
    noisy = relatedness(made.adjacency, made.embedding).detach() + draws.shared_gumbel(COUNT)
    assert drawn[0][0] == noisy.argsort(descending=True)[:2].tolist()
    assert [number for number in range(8) if number == 0 or drawn[number] != drawn[number - 1]] == [0, 3, 6]
    assert learned == [True, False, False, True, False, False, True, False]
    assert objective(replace(step, number=1)).keys() == {"prediction", "spread", "l2"}


def test_losses_of_long_rows_are_finite() -> None:
    made = encoder(deviation=100.0)
    assert all(term.isfinite() for term in MADE(DIM)(step_of(made)).values())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="28 seeds were asked for, of 27 users and items"):
        AutoCF(DIM, seeds=28)(step_of(encoder()))
    with pytest.raises(UserError, match="seeds, depth and every of 1 or more, and these are 2, 0 and 10"):
        AutoCF(DIM, seeds=2, depth=0)
    with pytest.raises(UserError, match="rows of width 8 cannot be shared by 3 heads"):
        AttentiveGraphConvolution(small_log(), DIM, heads=3)


def test_the_contracts_are_kept_and_a_resumed_step_has_the_same_mask() -> None:
    check_encoder(encoder(), View({"nodes": NODES}))
    check_objective(MADE, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, MADE, small_triples, partial(encoder, deviation=0.2)), small_batch, steps=4)


def test_it_learns_to_rank(tmp_path: Path) -> None:
    source = open_interactions(generate(200, 150))
    torch.manual_seed(0)
    made = autocf(source, dim=16, heads=2, seeds=3, depth=1, weight=0.1, l2=1e-3, batch_size=512, lr=0.01, epochs=12)
    assert_learns_to_rank(made, source, tmp_path)


@pytest.mark.parametrize("step", [3, 5])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path, step: int) -> None:
    sizes = {"dim": 8, "heads": 2, "seeds": 2, "depth": 1, "remask": 5, "epochs": 2, "batch_size": 200, "look_every": 1}
    assert_ends_alike_after_a_stop(lambda: autocf(open_interactions(generate(60, 50)), **sizes), tmp_path, step=step)
