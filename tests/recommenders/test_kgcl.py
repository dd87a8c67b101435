"""KGCL against the paper's formulas written out triple by triple, its views, and LightGCN where there are no triples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.recipes.kgcl import KGCL, RelationalAttention, chances, kgcl, translation_loss
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, info_nce, same, small_log
from .plain_knowledge import NODES, attention, plain_gathered, small_source, step_without_dropout, unit


def plain_attention(made: RelationalAttention, shown: Tensor) -> Tensor:
    """The entities' rows of KGCL's first part, triple by triple."""
    rows = total = made.entities
    for _ in range(made.hops):
        rows = torch.stack([unit(row) for row in plain_gathered(made, rows, shown)])
        total = total + rows
    return total


def plain_kgcl(made: RelationalAttention, shown: Tensor, keep: np.ndarray) -> Tensor:
    """KGCL's rows of users and items, from some triples and interactions (U, I)."""
    start = torch.cat([made.embedding[:USERS], plain_attention(made, shown)[:ITEMS]])
    log = torch.from_numpy(small_log().toarray() * keep).double()
    scale = torch.outer(log.sum(1).clamp(min=1) ** -0.5, log.sum(0).clamp(min=1) ** -0.5) * log
    rows = total = start
    for _ in range(made.depth):
        rows = torch.cat([scale @ rows[USERS:], scale.T @ rows[:USERS]])
        total = total + rows
    return total / (1 + made.depth)


def kept_pairs(shown: dict[str, Any]) -> np.ndarray:
    users, items = shown["adjacency"].ends()
    kept = np.zeros((USERS, ITEMS))
    kept[users.numpy(), items.numpy() - USERS] = 1
    return kept


@pytest.mark.usefixtures("double")
def test_kgcl_is_the_papers_formulas_and_its_views_follow_stability() -> None:
    made, step = step_without_dropout(attention)
    objective = KGCL(DIM, small_log().nnz, weight=0.3, l2=0.2)
    with torch.no_grad():
        objective.before_epoch(0, lambda: iter([step]))
    views = objective.views(len(made.triples), made.adjacency)
    first, second = (plain_attention(made, view["triples"])[:ITEMS] for view in views)
    weights = torch.exp((first * second).sum(1) / first.norm(dim=1) / second.norm(dim=1))
    weights = ((weights - weights.min()) / (weights.max() - weights.min())).clamp(min=0.3)
    chance = (0.7 * weights / weights.mean()).clamp(max=0.95)
    torch.testing.assert_close(objective.views.stays, chance[small_log().nonzero()[1].tolist()], rtol=1e-9, atol=0)
    rows = plain_kgcl(made, torch.ones(len(made.triples)), np.ones((USERS, ITEMS)))
    a, b = (plain_kgcl(made, view["triples"], kept_pairs(view)) for view in views)
    _, _, _, users, items = batch_nodes(step)
    contrast = info_nce(a[users], b[:USERS], users, 0.2) + info_nce(a[items], b[USERS:], [item - USERS for item in items], 0.2)
    l2 = 0.2 * half_squares(made.embedding, *batch_nodes(step)[:3])
    same(objective, made, step, {"bpr": bpr(rows, step), "l2": l2, "contrast": 0.3 * contrast})


@pytest.mark.usefixtures("double")
def test_without_triples_kgcl_is_lightgcn() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    graph = KnowledgeGraph(ITEMS, ITEMS, nothing, nothing, nothing, np.array([], dtype=object))
    made = RelationalAttention(graph, small_log(), DIM, layers=3)
    plain = LightGraphConvolution(small_log(), DIM, layers=3)
    plain.load_state_dict({"embedding": made.embedding})
    assert torch.equal(made(View({"nodes": NODES})).rows, plain(View({"nodes": NODES})).rows)


@pytest.mark.usefixtures("double")
def test_translation_is_the_formula_and_chances_of_equal_items_are_equal() -> None:
    moved, true, false = torch.randn(3, 6, DIM).unbind()
    expected = [torch.sigmoid((h - f).square().sum() - (h - t).square().sum()).log() for h, t, f in zip(moved, true, false, strict=True)]
    torch.testing.assert_close(translation_loss(moved, true, false), -torch.stack(expected).mean())
    torch.testing.assert_close(chances(torch.ones(4), 0.7), torch.full((4,), 0.7))


def test_kgcl_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: kgcl(small_source(60, 50), dim=8, epochs=2, batch_size=128, look_every=1), tmp_path, step=3)
