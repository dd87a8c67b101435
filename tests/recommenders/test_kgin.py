"""KGIN against the paper's formulas written out triple by triple."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from anyview.views.view import View
from anyview_recommenders.recipes.kgin import KGIN, IntentConvolution, distance_correlations

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, small_log, step_of
from .plain_knowledge import ENTITIES, NODES, each, intents, mean_of_items, plain_hops, step_without_dropout


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Everything in float64."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(2)
    yield
    torch.set_default_dtype(torch.float32)


def plain_intents(made: IntentConvolution, shown: Tensor, factors: Tensor) -> Tensor:
    """Formulas 1, 8, 9 and 12 of KGIN."""
    mixtures = [torch.exp(row) / torch.exp(row).sum() for row in made.mixtures]
    intent = [sum(share * relation for share, relation in zip(row, made.relations, strict=True)) for row in mixtures]

    def gather(entities: Tensor) -> Tensor:
        found = torch.zeros(ENTITIES, DIM)
        count = [
            max(1, sum(keep and one[0] == head for one, keep in zip(each(made.triples), shown, strict=True))) for head in range(ENTITIES)
        ]
        for (head, relation, tail), keep in zip(each(made.triples), shown, strict=True):
            found[head] = found[head] + keep * made.relations[relation] * entities[tail] / count[head]
        return found

    def of_users(users: Tensor, entities: Tensor) -> Tensor:
        rows = []
        for user, mean in zip(users, mean_of_items(entities, factors), strict=True):
            weights = torch.stack([torch.exp(user @ key) for key in made.keys])
            rows.append(mean + sum(weight / weights.sum() * one for weight, one in zip(weights, intent, strict=True)) * mean)
        return torch.stack(rows)

    return plain_hops(made, gather, of_users)


def plain_correlation(x: Tensor, y: Tensor) -> Tensor:
    """The distance correlation of two samples, pair by pair."""
    centred = []
    for row in (x, y):
        far = torch.stack([torch.stack([(a - b).abs() for b in row]) for a in row])
        centred.append(far - far.mean(0) - far.mean(1)[:, None] + far.mean())

    def covariance(a: Tensor, b: Tensor) -> Tensor:
        return torch.sqrt((a * b).sum() / len(x) ** 2 + 1e-8)

    a, b = centred
    return covariance(a, b) / torch.sqrt(covariance(a, a) * covariance(b, b) + 1e-8)


def test_kgin_is_the_papers_formulas_on_what_a_step_shows() -> None:
    made, step = step_without_dropout(intents)
    objective = KGIN(DIM, rate=0.3, weight=0.3, l2=0.2)
    draws = step_of(made).draws
    shown = draws.shared_uniform(len(made.triples)) >= 0.3
    factors = (draws.shared_uniform(small_log().nnz) >= 0.3) / 0.7
    assert shown.any()
    assert not shown.all()
    rows = plain_intents(made, shown, factors)
    pairs = [plain_correlation(made.mixtures[k], made.mixtures[j]) for j in range(3) for k in range(j)]
    expected = {"bpr": bpr(rows, step), "l2": 0.2 * half_squares(made.embedding, *batch_nodes(step)[:3]), "independence": 0.3 * sum(pairs)}
    terms = objective(step)
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        torch.testing.assert_close(term, expected[name], rtol=1e-10, atol=1e-14)
        ours, theirs = (
            torch.autograd.grad(loss, list(made.parameters()), retain_graph=True, allow_unused=True) for loss in (term, expected[name])
        )
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
    whole = plain_intents(made, torch.ones(len(made.triples)), torch.ones(small_log().nnz))
    torch.testing.assert_close(made.eval()(View({"nodes": NODES})).rows, whole[: USERS + ITEMS], rtol=1e-10, atol=1e-12)


def test_distance_correlation_is_1_of_a_line_and_small_of_what_is_independent() -> None:
    x = torch.randn(200)
    found = distance_correlations(torch.stack([x, 3 - 2 * x, torch.randn(200), torch.zeros(200)]))
    assert float(found[0, 1]) == pytest.approx(1, abs=1e-3)
    assert float(found[0, 2]) < 0.4
    assert found.isfinite().all()
