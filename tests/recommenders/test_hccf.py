"""HCCF against the paper's formulas with dense matrices, dropout that leaves means as they are, and runs of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated import generate
from anyview_recommenders.graph_convolution import edge_dropout
from anyview_recommenders.hypergraph import Hyperedges, HypergraphConvolution
from anyview_recommenders.recipes.hccf import HCCF, hccf
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, info_nce, same, small_batch, small_log, small_triples, step_of
from .small_runs import assert_learns_to_rank

NODES = torch.arange(USERS + ITEMS)


def encoder(dropout: float = 0.3, deviation: float = 1.0) -> HypergraphConvolution:
    return HypergraphConvolution(small_log(), DIM, layers=2, hyperedges=5, dropout=dropout, deviation=deviation)


def normalised() -> Tensor:
    """D^-1/2 R D^-1/2 of the small log, interaction by interaction."""
    log = torch.from_numpy(small_log().toarray()).double()
    found = torch.zeros_like(log)
    for user, item in log.nonzero().tolist():
        found[user, item] = 1 / (log[user].sum() * log[:, item].sum()).sqrt()
    return found


def leaky(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 0.5 * values)


def plain_layers(made: HypergraphConvolution) -> tuple[list[Tensor], list[Tensor]]:
    """Without dropout, of each layer what nodes gather along interactions, and what through hyperedges."""
    graph = normalised()
    of_users, of_items = (
        part.scale * rows @ part.weight for part, rows in ((made.of_users, made.embedding[:USERS]), (made.of_items, made.embedding[USERS:]))
    )
    rows, near, far = made.embedding, [], []
    for _ in range(2):
        users, items = rows[:USERS], rows[USERS:]
        near.append(torch.cat([graph @ items, graph.T @ users]))
        sides = ((of_users, users), (of_items, items))
        far.append(torch.cat([leaky(own @ leaky(own.T @ part)) for own, part in sides]))
        rows = near[-1] + far[-1]
    return near, far


@pytest.mark.usefixtures("double")
def test_it_is_the_papers_formulas_and_neighbours_are_taught_nothing_by_the_contrast() -> None:
    made, objective = encoder(dropout=0.0), HCCF(DIM, weight=0.3, temperature=0.4, l2=0.2)
    near, far = plain_layers(made)
    rows = (made.embedding + sum(near) + sum(far)) / 3
    torch.testing.assert_close(made.eval()(View({"nodes": NODES})).rows, rows, rtol=1e-10, atol=1e-12)
    step = step_of(made.train())
    users, items, others, unique_users, unique_items = batch_nodes(step)
    contrast = sum(
        info_nce(a.detach()[unique_users], b[:USERS], unique_users, 0.4)
        + info_nce(a.detach()[unique_items], b[USERS:], [item - USERS for item in unique_items], 0.4)
        for a, b in zip(near, far, strict=True)
    )
    expected = {
        "bpr": bpr(rows, step),
        "l2": 0.2 * half_squares(made.embedding, users, items, others),
        "contrast": 0.3 * contrast,
    }
    same(objective, made, step, expected)
    found = objective(step_of(made))
    for weight in (made.of_users.weight, made.of_items.weight):
        ours, theirs = (torch.autograd.grad(sum(terms.values()), weight, retain_graph=True)[0] for terms in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_edges_that_drop_out_leave_the_mean_as_it_is_and_the_graph_symmetric() -> None:
    whole = encoder().adjacency
    drawn = [edge_dropout(whole, 0.3, torch.Generator().manual_seed(seed)).matrix.to_dense() for seed in range(400)]
    for matrix in drawn:
        assert torch.equal(matrix, matrix.T)
        kept = matrix[matrix > 0]
        torch.testing.assert_close(kept, whole.matrix.to_dense()[matrix > 0] / 0.7)
    shares = torch.stack(drawn).mean(0) / whole.matrix.to_dense()
    torch.testing.assert_close(shares[shares.isfinite()], torch.ones(2 * whole.size), rtol=0, atol=0.15)


@pytest.mark.usefixtures("double")
def test_dropout_follows_from_the_seed_and_rows_without_one_are_whole() -> None:
    made = encoder()
    first, again, other = (made(View({"nodes": NODES, "seed": seed})) for seed in (1, 1, 2))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)
    near, far = plain_layers(made)
    assert first.layers is not None
    assert not torch.allclose(first.layers[1], near[0])
    assert not torch.allclose(first.layers[2], far[0])
    torch.testing.assert_close(made(View({"nodes": NODES})).rows, (made.embedding + sum(near) + sum(far)) / 3)


@pytest.mark.parametrize(("nodes", "count", "deviation"), [(200, 128, 0.1), (2000, 128, 0.1), (2000, 16, 1.0)])
def test_what_comes_through_hyperedges_is_at_first_a_hundredth_of_what_went_in(nodes: int, count: int, deviation: float) -> None:
    torch.manual_seed(0)
    rows = deviation * torch.randn(nodes, 32)
    made = Hyperedges(nodes, 32, count, slope=1.0, deviation=deviation)
    found = made.spread(made.membership(rows), rows)
    assert 0.005 < float(found.detach().norm() / rows.norm()) < 0.025


def test_no_hyperedges_are_refused() -> None:
    with pytest.raises(UserError, match="1 hyperedge or more, and 0 were asked for"):
        HypergraphConvolution(small_log(), DIM, hyperedges=0)


def test_the_contracts_are_kept() -> None:
    check_encoder(encoder(), View({"nodes": NODES}))
    check_objective(HCCF, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, HCCF, small_triples, partial(encoder, deviation=0.2)), small_batch)


def test_it_learns_to_rank(tmp_path: Path) -> None:
    source = open_interactions(generate(200, 150))
    torch.manual_seed(0)
    made = hccf(source, dim=16, layers=2, hyperedges=16, dropout=0.2, weight=0.02, l2=1e-3, batch_size=512, lr=0.01, epochs=12)
    assert_learns_to_rank(made, source, tmp_path)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    options = {"dim": 8, "hyperedges": 4, "epochs": 2, "batch_size": 256, "look_every": 1}
    assert_ends_alike_after_a_stop(lambda: hccf(open_interactions(generate(60, 50)), **options), tmp_path, step=3)
