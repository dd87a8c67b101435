"""DiffKG: both branches and its losses as the paper writes them, which triples are kept, two processes, learning and resuming."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anyview
from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.recipes.diffkg import DenoisedAttention, DiffKG, diffkg
from anyview_recommenders.recommender import Recommender
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, info_nce, small_batch, small_log, small_triples
from .plain_knowledge import ENTITIES, NODES, each, plain_gathered, small_graph, small_source, step_without_dropout, unit
from .small_runs import assert_learns_to_rank

HIDDEN = 7
QUICK: dict[str, Any] = {"dim": 8, "hidden": 16, "heads": 32, "epochs": 2, "batch_size": 128, "look_every": 1}


def encoder(dim: int = DIM, ranks_by: Any = "whole") -> DenoisedAttention:
    return DenoisedAttention(small_graph(), small_log(), dim, hops=2, layers=2, dropout=0.2, deviation=1.0, ranks_by=ranks_by)


def objective(dim: int = DIM, **options: Any) -> DiffKG:
    return DiffKG(dim, small_graph(), small_log(), **{"weight": 0.3, "heads": 20, "hidden": HIDDEN, "l2": 0.2, **options})


def plain_rows(made: DenoisedAttention, shown: Tensor) -> Tensor:
    """Rows of users and items from some triples: attention with what an entity was, and two layers over the interactions."""
    rows = total = made.entities
    for _ in range(made.hops):
        rows = torch.stack([unit(row) for row in plain_gathered(made, rows, shown) + rows])
        total = 0.5 * total + rows
    log = torch.from_numpy(small_log().toarray()).double()
    scale = torch.outer(log.sum(1).clamp(min=1) ** -0.5, log.sum(0).clamp(min=1) ** -0.5) * log
    layers = [torch.cat([made.embedding[:USERS], total[:ITEMS]])]
    for _ in range(made.depth):
        layers.append(torch.cat([scale @ layers[-1][USERS:], scale.T @ layers[-1][:USERS]]))
    return sum(layers) / len(layers)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("ranks_by", ["whole", "denoised"])
def test_rows_and_losses_of_diffkg_are_the_papers_formulas(ranks_by: str) -> None:
    made, step = step_without_dropout(partial(encoder, ranks_by=ranks_by))
    own = objective(dropout=0.0)
    kept = torch.rand(len(made.triples)) < 0.5
    made.denoised.copy_(kept)
    rows, beside = plain_rows(made, torch.ones(len(kept))), plain_rows(made, kept)
    if ranks_by == "denoised":
        rows, beside = beside, rows
    torch.testing.assert_close(made(View({"nodes": NODES})).rows, rows, rtol=1e-10, atol=1e-12)
    terms = own(step)
    diffusion = terms.pop("diffusion")
    assert not any(gradient is not None for gradient in torch.autograd.grad(diffusion, list(made.parameters()), allow_unused=True))
    _, _, _, users, items = batch_nodes(step)
    contrast = info_nce(rows[users], beside[:USERS], users, 0.1)
    contrast = contrast + info_nce(rows[items], beside[USERS:], [item - USERS for item in items], 0.1)
    expected = {
        "bpr": bpr(rows, step),
        "l2": 0.2 * half_squares(made.embedding, *batch_nodes(step)[:3]),
        "contrast": 0.3 * contrast,
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-9, atol=1e-12)
        ours, theirs = (torch.autograd.grad(loss, [made.embedding], retain_graph=True)[0] for loss in (terms[name], value))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_diffusion_is_told_of_tails_and_of_who_uses_them() -> None:
    made, step = step_without_dropout(encoder)
    own = objective(dropout=0.0, collaboration=0.3)
    _, other = step_without_dropout(encoder)
    generator, model = other.draws.generator, own.diffusion
    entity = made.triples.heads[torch.randint(len(made.triples), (20,), generator=generator)]
    place = torch.randint(5, (20,), generator=generator)
    noise = torch.randn(20, ENTITIES, generator=generator)
    pairs = {(h, t) for h, _, t in each(made.triples)}
    losses = []
    for head, step_of_row, drawn in zip(entity.tolist(), place, noise, strict=True):
        clean = torch.tensor([float((head, tail) in pairs) for tail in range(ENTITIES)])
        found = model(model.noisy(clean[None], step_of_row[None], drawn[None]), step_of_row[None])[0]
        by_user = [sum(found[item] * float(small_log()[user, item]) for item in range(ITEMS)) for user in range(USERS)]
        used = sum(value * made.embedding[user] for user, value in enumerate(by_user))
        tails = model.weights()[step_of_row] * (clean - found).square().mean()
        losses.append(0.7 * tails + 0.3 * (used - made.entities[head]).square().mean())
    torch.testing.assert_close(own.diffused(step, made), torch.stack(losses).mean(), rtol=1e-9, atol=0)


def test_triples_are_kept_that_diffusion_writes_and_half_of_them() -> None:
    made, own = encoder(), objective()
    largest = own.diffusion.largest(torch.arange(ENTITIES), 1)[:, 0].tolist()
    expected = [largest[h] == t or largest[t] == h for h, _, t in each(made.triples)]
    assert own.written(made).tolist() == expected
    own.tails = ENTITIES
    assert bool(own.written(made).all())
    shares = []
    _, step = step_without_dropout(encoder)
    step.encoder = made
    for seed in range(20):
        torch.manual_seed(seed)
        own.before_epoch(0, lambda: iter([step]))
        shares.append(float(made.denoised.float().mean()))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    own.tails, own.rate = 1, 0.0
    own.before_epoch(0, lambda: iter([step]))
    assert made.denoised.tolist() == expected


@pytest.mark.usefixtures("double")
def test_without_triples_diffkg_ranks_all_the_same() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    graph = KnowledgeGraph(ITEMS, ITEMS, nothing, nothing, nothing, np.array([], dtype=object))
    made, (_, step) = DenoisedAttention(graph, small_log(), DIM), step_without_dropout(encoder)
    step.encoder = made
    own = DiffKG(DIM, graph, small_log(), hidden=HIDDEN)
    own.before_epoch(0, lambda: iter([step]))
    assert all(bool(term.isfinite()) for term in own(step).values())


def test_diffkg_keeps_the_contracts() -> None:
    check_encoder(encoder(), View({"nodes": NODES}))
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)


def test_what_is_too_large_or_no_share_is_refused() -> None:
    with pytest.raises(UserError, match="set hidden to"):
        objective(hidden=10**7)
    with pytest.raises(UserError, match="between 0 and 1"):
        objective(collaboration=1.5)
    with pytest.raises(UserError, match="they are 0, 1 and 5"):
        objective(heads=0)


def test_dense_rows_of_a_step_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert objective().heads == 20
    monkeypatch.setattr("anyview_recommenders.recipes.diffkg.AT_ONCE", 3 * ENTITIES)
    assert objective().heads == 3


@pytest.mark.parametrize("ranks_by", ["whole", "denoised"])
def test_diffkg_recommends_without_its_data(tmp_path: Path, ranks_by: Any) -> None:
    run = anyview.pretrain(diffkg(small_source(60, 50), **QUICK | {"ranks_by": ranks_by}), tmp_path / "run")
    ours, theirs = (list(Recommender(one, device="cpu").recommend(k=5)) for one in (run, anyview.load(run.folder.path)))
    assert ours == theirs


def test_diffkg_learns(tmp_path: Path) -> None:
    source = small_source()
    torch.manual_seed(0)
    assert_learns_to_rank(diffkg(source, **QUICK | {"dim": 16, "epochs": 20, "lr": 0.02, "l2": 1e-3}), source, tmp_path)


def test_diffkg_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: diffkg(small_source(60, 50), **QUICK), tmp_path, step=3)
