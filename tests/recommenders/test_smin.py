"""SMIN: rows along metapaths and losses as the paper writes them, data without categories, two processes, learning and resuming."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

import anyview
from anyview.data.source import Outline
from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.features import categories_of
from anyview_recommenders.recipes.smin import SMIN, MetapathConvolution, MetapathMixture, joined, metapaths, smin
from anyview_recommenders.recommender import Recommender
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, same, small_batch, small_log, small_triples, step_of
from .plain_social import network, social_log
from .small_runs import assert_learns_to_rank, assert_maps_have_a_rate_of_their_own

NODES = torch.arange(USERS + ITEMS)
KINDS = csr_matrix(np.eye(3)[np.arange(ITEMS) % 3])
PATHS = metapaths(network(share=0.2), small_log(), KINDS, 3)
QUICK = {"dim": 8, "hidden": 8, "neighbours": 5, "epochs": 2, "batch_size": 64, "look_every": 1}


def encoder(dim: int = DIM) -> MetapathConvolution:
    """Of rows as wide as `dim`."""
    return MetapathConvolution(PATHS, dim // 2, layers=1, hidden=5)


def objective(dim: int = DIM) -> SMIN:
    return SMIN(dim, joined(PATHS, small_log()), weight=0.3, own_weight=0.4, l2=0.2)


def spread(links: np.ndarray) -> Tensor:
    """D^-1/2 (A + I) D^-1/2."""
    whole = np.minimum(links + np.eye(len(links)), 1.0)
    degrees = whole.sum(1)
    return torch.from_numpy(whole / np.sqrt(np.outer(degrees, degrees)))


def prelu(rows: Tensor, slope: Tensor) -> Tensor:
    return torch.where(rows > 0, rows, slope * rows)


def plain_mixture(made: MetapathMixture, links: list[csr_matrix], rows: Tensor) -> Tensor:
    """Formulas of the metapaths' convolution and of the attention to them."""
    seen, scores = [], []
    for own, maps in zip(links, made.maps, strict=True):
        layers, last = [rows], rows
        for linear in maps:
            last = prelu(spread(own.toarray()) @ last @ linear.weight.T, made.activation.weight)
            layers.append(torch.stack([row / row.norm() for row in last]))
        seen.append(torch.cat(layers, 1))
        scores.append(torch.stack([made.query @ torch.tanh(made.attend.weight @ row + made.attend.bias) for row in seen[-1]]).mean())
    weights = torch.stack([torch.exp(score) for score in scores])
    return sum(weight / weights.sum() * own for weight, own in zip(weights, seen, strict=True))


@pytest.mark.usefixtures("double")
def test_rows_and_losses_of_smin_are_the_papers_formulas() -> None:
    made, own = MetapathConvolution(PATHS, DIM, layers=2, hidden=5, deviation=1.0), objective(3 * DIM)
    users, items = made.embedding.split([USERS, ITEMS])
    mixed = [
        plain_mixture(side, list(links.values()), rows)
        for side, links, rows in ((made.of_users, PATHS.of_users, users), (made.of_items, PATHS.of_items, items))
    ]
    rows = torch.cat(mixed)
    torch.testing.assert_close(made(View({"nodes": NODES})).rows, rows, rtol=1e-10, atol=1e-12)

    step, order = step_of(made), step_of(made).draws.permutation(USERS + ITEMS)
    graph = np.zeros((USERS + ITEMS, USERS + ITEMS))
    log, trust, alike = small_log().toarray(), network(share=0.2).toarray(), PATHS.of_items["ITI"].toarray()
    graph[:USERS, USERS:], graph[USERS:, :USERS] = log, log.T
    graph[:USERS, :USERS], graph[USERS:, USERS:] = np.maximum(trust, trust.T), alike
    true, false = (prelu(spread(graph) @ seen, own.activation.weight) for seen in (rows, rows[order]))
    near = torch.from_numpy((graph + np.eye(len(graph))) / (graph.sum(1, keepdims=True) + 1))
    around = torch.sigmoid(near @ (near @ rows))
    triples = batch_nodes(step)[:3]
    batch = sorted({node for part in triples for node in part})

    def told(summary: Tensor) -> Tensor:
        return -torch.stack(
            [torch.sigmoid(true[n] @ summary[n]).log() + (1 - torch.sigmoid(false[n] @ summary[n])).log() for n in batch]
        ).mean()

    ends = [(a, b) for a, b in np.argwhere(graph) if a < b]
    found = torch.stack([(torch.sigmoid(true[a] @ true[b]) - 1) ** 2 for a, b in ends]).mean()
    expected = {
        "bpr": bpr(rows, step),
        "l2": 0.2 * half_squares(made.embedding, *triples),
        "around": 0.3 * told(around),
        "own": 0.4 * (told(rows) + found),
    }
    same(own, made, step, expected)


def test_smin_keeps_the_contracts() -> None:
    check_encoder(encoder(), View({"nodes": NODES}))
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)


def test_paths_through_categories_are_there_where_categories_are() -> None:
    assert (list(PATHS.of_users), list(PATHS.of_items)) == (["UU", "UIU", "UITIU"], ["IUI", "ITI"])
    without = metapaths(network(), small_log(), None, 3)
    assert (list(without.of_users), list(without.of_items)) == (["UU", "UIU"], ["IUI"])
    assert not joined(without, small_log())[USERS:, USERS:].nnz
    again = metapaths(network(share=0.2), small_log(), KINDS, 3)
    assert all((again.of_users[name] != own).nnz == 0 for name, own in PATHS.of_users.items())
    with pytest.raises(UserError, match="at least 1 neighbour"):
        metapaths(network(), small_log(), None, 0)


FILMS = pd.DataFrame({"item": [1, 2, 3, 4], "genres": ["war|noir", "noir", "war", ""], "land": ["fr", "it", "fr", "it"], "year": range(4)})
LOG = pd.DataFrame({"user": ["ann", "bob", "cat"] * 4, "item": [1, 2, 3, 2, 3, 1, 3, 1, 2, 4, 4, 4]})


def test_categories_are_those_that_features_name() -> None:
    source = open_interactions(LOG, item_features=FILMS, validation=0, least=1)
    outline = Outline("x", source.shape, source.keeps())
    assert categories_of(outline, "genres").toarray()[source.ids[3:].index("1")].tolist() == [1, 1]
    assert categories_of(source, "genres,land").shape == (4, 4)
    assert categories_of(source).shape[1] >= 4
    assert categories_of(open_interactions(LOG, features=True, validation=0)) is None
    assert categories_of(open_interactions(LOG, validation=0)) is None
    with pytest.raises(UserError, match="no feature of items 'genre'"):
        categories_of(source, "genre")


def test_a_log_without_categories_is_told_and_one_without_trust_refused() -> None:
    with pytest.warns(UserWarning, match="goes along trust and interactions alone"):
        smin(social_log(60, 50), **QUICK)
    with pytest.raises(UserError, match="has no trust between its users beside it"):
        smin(open_interactions(LOG, features=True, validation=0), **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smin("generated-social", **QUICK)


def test_maps_of_smin_learn_at_a_rate_of_their_own() -> None:
    made = smin(social_log(60, 50), dim=8, map_rate=0.125)
    assert_maps_have_a_rate_of_their_own(made.stages[0].encoder, 0.125, "embedding")


def test_smin_recommends_without_its_data(tmp_path: Path) -> None:
    run = anyview.pretrain(smin("generated-social", **QUICK | {"epochs": 1, "batch_size": 2048}), tmp_path / "run")
    ours, theirs = (list(Recommender(one, device="cpu").recommend(k=5)) for one in (run, anyview.load(run.folder.path)))
    assert ours == theirs


@pytest.mark.filterwarnings("ignore:the items of 'social' have no categories")
def test_smin_learns(tmp_path: Path) -> None:
    source = social_log(300, 200)
    torch.manual_seed(0)
    assert_learns_to_rank(smin(source, dim=16, epochs=15, batch_size=256, lr=0.01, l2=1e-3), source, tmp_path)


@pytest.mark.filterwarnings("ignore:the items of 'social' have no categories")
def test_smin_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: smin(social_log(60, 50), **QUICK), tmp_path, step=9)
