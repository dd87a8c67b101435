"""DCCF against the paper's formulas, interaction by interaction, and runs of it."""

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
from anyview_recommenders.disentangled_convolution import DisentangledConvolution, Intents
from anyview_recommenders.generated import generate
from anyview_recommenders.recipes.dccf import DCCF, dccf
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, same, small_batch, small_log, small_triples, step_of
from .small_runs import assert_learns_to_rank

COUNT = USERS + ITEMS
NODES = torch.arange(COUNT)


def encoder(deviation: float = 1.0) -> DisentangledConvolution:
    return DisentangledConvolution(small_log(), DIM, layers=2, intents=5, deviation=deviation)


def neighbours() -> list[list[int]]:
    """Of each node those that it has an interaction with."""
    found: list[list[int]] = [[] for _ in range(COUNT)]
    for user, item in zip(*(part.tolist() for part in small_log().nonzero()), strict=True):
        found[user].append(USERS + item)
        found[USERS + item].append(user)
    return found


def by_likeness(found: Tensor, rows: Tensor) -> Tensor:
    """What nodes gather of rows by (cosine + 1) / 2 of found rows, over its sum at the node."""
    gathered = []
    for node, near in enumerate(neighbours()):
        weights = [(found[node] @ found[other] / (found[node].norm() * found[other].norm()) + 1) / 2 for other in near]
        gathered.append(sum((w / sum(weights) * rows[other] for w, other in zip(weights, near, strict=True)), torch.zeros(DIM)))
    return torch.stack(gathered)


def mixture(intents: Intents, row: Tensor) -> Tensor:
    powers = [torch.exp(row @ intent) for intent in intents.weight]
    return sum((power / sum(powers) * intent for power, intent in zip(powers, intents.weight, strict=True)), torch.zeros(DIM))


def plain_layers(made: DisentangledConvolution) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Rows, and of each layer the four that it makes."""
    near, layers, rows = neighbours(), [], made.embedding
    total = rows
    for _ in range(2):
        along = [
            sum((rows[other] / (len(near[node]) * len(near[other])) ** 0.5 for other in near[node]), torch.zeros(DIM))
            for node in range(COUNT)
        ]
        gathered = torch.stack(along)
        meant = torch.stack([mixture(made.of_users if node < USERS else made.of_items, rows[node]) for node in range(COUNT)])
        layers.append((gathered, meant, by_likeness(gathered, rows), by_likeness(meant, rows)))
        rows = rows + sum(layers[-1])
        total = total + rows
    return total / 3, layers


def contrast_of(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """InfoNCE of rows, where the cosine with a row of zeros, of an item that nobody has, is 0."""
    losses = []
    for place, query in enumerate(a):
        scores = torch.stack([torch.exp(query @ key / (query.norm() * key.norm()).clamp(min=1e-12) / temperature) for key in b])
        losses.append(-torch.log(scores[place] / scores.sum()))
    return torch.stack(losses).mean()


@pytest.mark.usefixtures("double")
def test_it_is_the_papers_formulas() -> None:
    made, objective = encoder(), DCCF(DIM, weight=0.3, temperature=0.4, l2=0.2)
    rows, layers = plain_layers(made)
    torch.testing.assert_close(made.eval()(View({"nodes": NODES})).rows, rows, rtol=1e-10, atol=1e-12)
    step = step_of(made.train())
    users, items, others, unique_users, _ = batch_nodes(step)
    contrast = 0.0
    for own in (unique_users, sorted({*items, *others})):
        for near, *seen in layers:
            contrast = contrast + sum(contrast_of(near[own], other[own], 0.4) for other in seen)
    expected = {
        "bpr": bpr(rows, step),
        "l2": 0.2 * half_squares(made.embedding, users, items, others),
        "contrast": 0.3 * contrast,
    }
    same(objective, made, step, expected)
    found = objective(step_of(made))
    for intents in (made.of_users.weight, made.of_items.weight):
        ours, theirs = (torch.autograd.grad(sum(terms.values()), intents, retain_graph=True)[0] for terms in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_equal_ends_count_equally_and_opposite_ones_give_nothing() -> None:
    made, rows = encoder(), torch.randn(COUNT, DIM)
    direction = torch.randn(DIM)
    mean = torch.stack([sum((rows[n] for n in near), torch.zeros(DIM)) / max(1, len(near)) for near in neighbours()])
    torch.testing.assert_close(made.alike(direction.expand(COUNT, DIM), rows), mean)
    against = torch.cat([direction.expand(USERS, DIM), -direction.expand(ITEMS, DIM)])
    assert made.alike(against, rows).isfinite().all()


def test_no_intents_are_refused() -> None:
    with pytest.raises(UserError, match="1 intent or more, and 0 were asked for"):
        DisentangledConvolution(small_log(), DIM, intents=0)


def test_the_contracts_are_kept() -> None:
    check_encoder(encoder(), View({"nodes": NODES}))
    check_objective(DCCF, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, DCCF, small_triples, partial(encoder, deviation=0.2)), small_batch)


def test_it_learns_to_rank(tmp_path: Path) -> None:
    source = open_interactions(generate(200, 150))
    torch.manual_seed(0)
    made = dccf(source, dim=16, layers=2, intents=8, l2=1e-3, batch_size=512, lr=0.01, epochs=12)
    assert_learns_to_rank(made, source, tmp_path)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    options = {"dim": 8, "intents": 4, "epochs": 2, "batch_size": 256, "look_every": 1}
    assert_ends_alike_after_a_stop(lambda: dccf(open_interactions(generate(60, 50)), **options), tmp_path, step=3)
