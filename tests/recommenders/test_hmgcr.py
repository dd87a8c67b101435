"""HMG-CR: paths that lie within each other, losses against the formulas written plainly, learning and resuming."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution, ParallelConvolutions
from anyview_recommenders.recipes.hmgcr import HMGCR, hmgcr, hyper_meta_paths
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, small_batch, small_log, small_triples, step_of
from .plain_behaviours import dense_normalised, shop, small_behaviours, target_alone
from .small_runs import assert_learns_to_rank


def encoder(dim: int = DIM) -> ParallelConvolutions:
    torch.manual_seed(1)
    return ParallelConvolutions(hyper_meta_paths(small_behaviours()), dim, layers=2, deviation=1.0)


objective = partial(HMGCR, weight=0.3, temperature=0.4, l2=0.1)


def test_a_path_has_the_pairs_that_all_its_behaviours_have() -> None:
    view, cart, buy = (own.toarray() for own in small_behaviours().values())
    found = hyper_meta_paths(small_behaviours())
    for path, expected in zip(found, (buy, view * buy, view * cart * buy), strict=True):
        assert np.array_equal(path.toarray(), expected)
        assert path.has_sorted_indices
    assert found[0].nnz > found[1].nnz > found[2].nnz > 0
    assert len(hyper_meta_paths(target_alone())) == 1


def plain_grace(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """A node's rows in two views against the others of both, the mean of both directions."""
    losses = []
    for one, other in ((a, b), (b, a)):
        for node in range(len(a)):
            across = [torch.exp(torch.cosine_similarity(one[node], row, dim=0) / temperature) for row in other]
            within = [torch.exp(torch.cosine_similarity(one[node], row, dim=0) / temperature) for row in one]
            others = sum(across[k] + within[k] for k in range(len(a)) if k != node)
            losses.append(-torch.log(across[node] / (across[node] + others)))
    return torch.stack(losses).mean()


@pytest.mark.usefixtures("double")
def test_rows_and_losses_are_the_formulas_written_plainly() -> None:
    made, step, each = encoder(), step_of(encoder()), []
    for convolution, path in zip(made.convolutions, hyper_meta_paths(small_behaviours()), strict=True):
        graph, layers = dense_normalised(path), [convolution.embedding]
        for _ in range(2):
            layers.append(torch.cat([graph @ layers[-1][USERS:], graph.T @ layers[-1][:USERS]]))
        each.append(sum(layers) / 3)
    fused = sum(each) / 3
    torch.testing.assert_close(made(View({"nodes": torch.arange(USERS + ITEMS)})).rows, fused, rtol=1e-10, atol=1e-12)
    users, items, others, own_users, own_items = batch_nodes(step)
    length = sum(half_squares(convolution.embedding, users, items, others) for convolution in made.convolutions)
    pairs = [plain_grace(each[p][nodes], each[p - 1][nodes], 0.4) for p in (1, 2) for nodes in (own_users, own_items)]
    expected = {"bpr": 0.7 * bpr(fused, step), "l2": 0.1 * length, "contrast": 0.3 * sum(pairs) / 2}
    found, weights = objective(DIM)(step_of(made)), list(made.parameters())
    assert found.keys() == expected.keys()
    for name, term in found.items():
        torch.testing.assert_close(term, expected[name], rtol=1e-10, atol=0)
        slopes = (torch.autograd.grad(loss, weights, retain_graph=True) for loss in (term, expected[name]))
        for a, b in zip(*slopes, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


def test_one_behaviour_is_lightgcn_by_ranking() -> None:
    torch.manual_seed(0)
    made = ParallelConvolutions(hyper_meta_paths(target_alone()), DIM, layers=2)
    alone = LightGraphConvolution(small_log(), DIM, layers=2)
    with torch.no_grad():
        alone.embedding.copy_(made.convolutions[0].embedding)
    nodes = View({"nodes": torch.arange(USERS + ITEMS)})
    torch.testing.assert_close(made(nodes).rows, alone(nodes).rows)
    step = step_of(made)
    found = objective(DIM)(step)
    assert found.keys() == {"bpr", "l2"}
    torch.testing.assert_close(found["bpr"], bpr(alone(nodes).rows, step))


def test_a_path_that_nobody_took_leaves_its_embeddings() -> None:
    shown = {**small_behaviours(), "view": small_behaviours()["view"] * 0}
    shown["view"].eliminate_zeros()
    torch.manual_seed(0)
    made = ParallelConvolutions(hyper_meta_paths(shown), DIM, layers=2)
    layers = made(View({"nodes": torch.arange(USERS)})).layers
    torch.testing.assert_close(layers[2], made.convolutions[1].embedding[:USERS] / 3)
    losses = objective(DIM)(step_of(made))
    assert all(term.isfinite() for term in losses.values())


def test_a_share_that_is_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"lies in \[0, 1\), and 1 was given"):
        HMGCR(DIM, weight=1)


def test_the_contracts_are_kept() -> None:
    check_encoder(encoder(), View({"nodes": torch.arange(USERS + ITEMS)}))
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)


def test_it_learns(tmp_path: Path) -> None:
    source = shop(300, 200)
    torch.manual_seed(0)
    assert_learns_to_rank(hmgcr(source, dim=16, layers=2, epochs=15, batch_size=256, lr=0.02, l2=1e-3), source, tmp_path)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: hmgcr(shop(60, 50), dim=8, epochs=2, batch_size=32, look_every=1), tmp_path, step=4)
