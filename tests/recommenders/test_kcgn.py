"""KCGN: losses as the paper writes them, small and large parts of a graph, absent data, two processes, learning and resuming."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

import anyview
from anyview.data.source import Outline, Source
from anyview.errors import UserError
from anyview.testing import check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.beside import ratings_and_times
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.rated_convolution import RatedConvolution
from anyview_recommenders.recipes.kcgn import KCGN, ConnectedParts, kcgn
from anyview_recommenders.recommender import Recommender
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, same, small_batch, small_log, small_triples, step_of
from .plain_social import network
from .small_runs import assert_learns_to_rank

NODES = torch.arange(USERS + ITEMS)
TRUST = network(symmetric=True, share=0.3)
RELATED = csr_matrix(np.kron(np.eye(2), np.ones((12, 12)))[:ITEMS, :ITEMS])  # a part of 12 items, and a small one of 3
QUICK = {"dim": 8, "neighbours": 5, "epochs": 2, "batch_size": 64, "look_every": 1}


def encoder(dim: int = DIM) -> RatedConvolution:
    """Of rows as wide as `dim`."""
    levels = np.random.default_rng(5).integers(0, 2, small_log().nnz)
    return RatedConvolution(small_log(), dim // 2, levels=levels, moments=levels, layers=1)


def objective(dim: int = DIM) -> KCGN:
    return KCGN(dim, TRUST, RELATED, weight=0.3, item_weight=0.4, l2=0.2)


def plain_part(own: ConnectedParts, links: csr_matrix, rows: Tensor, nodes: list[int], order: Tensor) -> Tensor:
    """Formulas of mutual information between a neighbourhood and its part of the graph."""
    dense = np.minimum(links.toarray() + np.eye(links.shape[0]), 1.0)
    spread = torch.from_numpy(dense / np.sqrt(np.outer(dense.sum(1), dense.sum(1))))
    slope = own.activation.weight
    true, false = (torch.where(told > 0, told, slope * told) for told in (spread @ rows, spread @ rows[order]))
    _, part = connected_components(links, directed=False)
    losses = []
    for node in nodes:
        members = np.flatnonzero(part == part[node]).tolist()
        if len(members) > 10:
            summary = torch.sigmoid(torch.stack([true[other] for other in members]).mean(0))
            losses.append(-torch.sigmoid(true[node] @ summary).log() - (1 - torch.sigmoid(false[node] @ summary)).log())
    return torch.stack(losses).mean()


@pytest.mark.usefixtures("double")
def test_losses_of_kcgn_are_the_papers_formulas() -> None:
    made, own = encoder(), objective()
    with torch.no_grad():
        made.embedding.mul_(10)
    whole, step, draws = made(View({"nodes": NODES})), step_of(made), step_of(made).draws
    rows, orders = whole.rows, (draws.permutation(USERS), draws.permutation(ITEMS))
    triples = batch_nodes(step)[:3]
    users = sorted(set(triples[0]))
    items = sorted({node - USERS for part in triples[1:] for node in part})
    assert whole.layers is not None
    expected = {
        "bpr": bpr(rows, step),
        "l2": 0.2 * half_squares(whole.layers[0], *triples),
        "trust": 0.3 * plain_part(own.of_users, TRUST, rows[:USERS], users, orders[0]),
        "categories": 0.4 * plain_part(own.of_items, RELATED, rows[USERS:], items, orders[1]),
    }
    same(own, made, step, expected)


def test_nodes_of_small_parts_alone_tell_nothing() -> None:
    parts = ConnectedParts(csr_matrix(np.kron(np.eye(2), np.ones((10, 10)))))
    rows = torch.randn(20, 4, requires_grad=True)
    loss = parts(rows, torch.arange(20), torch.randperm(20))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert rows.grad is not None
    assert not rows.grad.any()


def test_kcgn_keeps_the_contract() -> None:
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)


LOG = pd.DataFrame({"user": ["ann", "bob", "cat"] * 4, "item": [1, 2, 3, 2, 3, 1, 3, 1, 2, 4, 4, 4]})


def test_ratings_and_times_are_those_of_the_training_pairs() -> None:
    table = LOG.assign(rating=[1, 2, 3, 4, 5] * 2 + [1, 2], time=range(12))
    source = open_interactions(table, details=True, validation=0, share=0.7)
    outline = Outline("x", source.shape, source.keeps())
    train = source.parts.train  # type: ignore[attr-defined]
    dense = np.zeros((2, *train.matrix().shape))
    dense[:, train.user, train.item] = train.rating, train.time
    for found in (ratings_and_times(source), ratings_and_times(outline)):
        for values, expected in zip(found, dense, strict=True):
            assert values is not None
            assert values.tolist() == expected[train.matrix().nonzero()].tolist()
    assert ratings_and_times(open_interactions(table, validation=0)) == (None, None)


def test_what_the_log_does_not_say_is_told() -> None:
    trust = pd.DataFrame({"user": ["ann", "bob"], "friend": ["bob", "cat"]})
    with pytest.warns(UserWarning, match="no ratings, no times, no categories of items, and KCGN learns without"):
        made = kcgn(open_interactions(LOG, trust=trust, features=True, details=True, validation=0), **QUICK)
    assert isinstance(made.embedder, RatedConvolution)
    assert (made.embedder.levels, made.embedder.moments) == (1, None)
    with pytest.raises(UserError, match="has no trust between its users beside it"):
        kcgn(open_interactions(LOG, features=True, details=True, validation=0), **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = kcgn("generated-social", **QUICK, hours=0.01)
    assert isinstance(made.embedder, RatedConvolution)
    assert made.embedder.levels == 5
    assert len(made.embedder.moments.code) > 5


def test_kcgn_recommends_without_its_data(tmp_path: Path) -> None:
    run = anyview.pretrain(kcgn("generated-social", **QUICK | {"epochs": 1, "batch_size": 2048}), tmp_path / "run")
    ours, theirs = (list(Recommender(one, device="cpu").recommend(k=5)) for one in (run, anyview.load(run.folder.path)))
    assert ours == theirs


def small_source() -> Source:
    return open_interactions("generated-social", trust="own", features=True, details=True)


def test_kcgn_learns(tmp_path: Path) -> None:
    source = small_source()
    torch.manual_seed(0)
    assert_learns_to_rank(kcgn(source, dim=16, epochs=15, batch_size=512, lr=0.01, l2=1e-3, hours=0.01), source, tmp_path)


def test_kcgn_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: kcgn(small_source(), **QUICK | {"batch_size": 1024}, hours=0.01), tmp_path, step=6)
