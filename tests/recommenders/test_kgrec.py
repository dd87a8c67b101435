"""KGRec against the paper's formulas written out triple by triple, and what it hides and draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.encoders.encoder import Encoding
from anyview.views.view import View
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_convolution import KnowledgeTriples
from anyview_recommenders.recipes.kgrec import KGRec, RationaleConvolution, largest, of_each_relation, of_items, there

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, info_nce, small_log, step_of
from .plain_knowledge import ENTITIES, RELATIONS, each, mean_of_items, plain_hops, small_graph


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Everything in float64."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(2)
    yield
    torch.set_default_dtype(torch.float32)


class Watched(RationaleConvolution):
    """Keeps the views that it is shown."""

    seen: list[View]

    def forward(self, view: View) -> Encoding:
        self.seen = [*getattr(self, "seen", []), view]
        return super().forward(view)


def plain_logits(made: RationaleConvolution, entities: Tensor) -> list[Tensor]:
    """Of each triple the mean of two heads' products over the root of their width."""
    logits = []
    for head, relation, tail in each(made.triples):
        query, key = made.attend.weight @ entities[head], (made.attend.weight @ entities[tail]) * made.relations[relation]
        logits.append(sum(q @ k / (DIM / 2) ** 0.5 for q, k in zip(query.chunk(2), key.chunk(2), strict=True)) / 2)
    return logits


def plain_softmax(made: RationaleConvolution, entities: Tensor, shown: Tensor) -> list[Tensor]:
    powers = [torch.exp(logit) * keep for logit, keep in zip(plain_logits(made, entities), shown, strict=True)]
    heads = made.triples.heads.tolist()
    sums = {head: sum(power for power, own in zip(powers, heads, strict=True) if own == head) for head in set(heads)}
    return [power / sums[head] if keep else torch.zeros(()) for power, head, keep in zip(powers, heads, shown, strict=True)]


def gathered(made: RationaleConvolution, entities: Tensor, weights: list[Tensor]) -> Tensor:
    found = [torch.zeros(DIM) for _ in range(ENTITIES)]
    for (head, relation, tail), weight in zip(each(made.triples), weights, strict=True):
        found[head] = found[head] + weight * entities[tail] * made.relations[relation]
    return torch.stack(found)


def test_kgrec_is_the_papers_formulas_and_hidden_triples_are_not_shown() -> None:
    made = Watched(small_graph(), small_log(), DIM, dropout=0.0, deviation=1.0)
    objective, step, draws = KGRec(DIM, masked=4, l2=0.2), step_of(made), step_of(made).draws
    triples, count = made.triples, len(made.triples)
    drawn = of_each_relation(triples, 0.5, draws.shared_uniform(count))
    counts = [sum(keep and own == head for own, keep in zip(triples.heads.tolist(), drawn, strict=True)) for head in triples.heads.tolist()]
    rationale = torch.stack([a * n for a, n in zip(plain_softmax(made, made.entities, drawn), counts, strict=True)]).detach()
    noisy = rationale + draws.shared_gumbel(count)
    hidden = sorted((number for number in range(count) if drawn[number]), key=lambda number: -float(noisy[number]))[:4]
    by_chance = draws.shared_uniform(count)
    others = [number for number in range(count) if drawn[number] and number not in hidden]
    hidden += sorted(others, key=lambda number: -float(by_chance[number]))[:4]
    factors = (draws.shared_uniform(small_log().nnz) >= 0.5) * 2.0
    terms = objective(step)

    shown = made.seen[0].data["triples"]
    given = {each(triples)[number] for number in range(count) if shown[number]}
    for number in hidden:
        head, relation, tail = each(triples)[number]
        assert not given & {(head, relation, tail), (tail, (relation + RELATIONS) % (2 * RELATIONS), head)}
    assert given == {each(triples)[n] for n in range(count) if drawn[n] and n not in hidden and int(triples.inverse[n]) not in hidden}

    rows = plain_hops(
        made, lambda entities: gathered(made, entities, plain_softmax(made, entities, shown)), lambda _, e: mean_of_items(e, factors)
    )
    triples_of_hidden = [each(triples)[number] for number in hidden]
    scores = [rows[USERS + head] @ (rows[USERS + tail] * made.relations[relation]) for head, relation, tail in triples_of_hidden]
    found = -torch.stack([torch.sigmoid(score).log() for score in scores]).mean()
    l2 = 0.2 * half_squares(made.embedding, *batch_nodes(step)[:3])
    expected = {"bpr": bpr(rows, step), "l2": l2, "reconstruction": 0.1 * found}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-10, atol=1e-14)
        ours, theirs = (
            torch.autograd.grad(loss, list(made.parameters()), retain_graph=True, allow_unused=True) for loss in (terms[name], value)
        )
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)

    most = sorted((number for number in range(count) if drawn[number]), key=lambda number: -float(noisy[number]))[
        : round(0.5 * int(drawn.sum()))
    ]
    kept = there(torch.tensor(most), count)
    heads = triples.heads.tolist()
    shares = [
        keep / max(1, sum(k for k, own in zip(kept, heads, strict=True) if own == head)) for keep, head in zip(kept, heads, strict=True)
    ]
    known = plain_hops(made, lambda entities: gathered(made, entities, shares), lambda users, _: users)[USERS:]
    chosen = of_items(triples, rationale, drawn, ITEMS)[torch.from_numpy(small_log().nonzero()[1])]
    chosen = chosen + draws.shared_gumbel(len(chosen)) + draws.shared_gumbel(len(chosen))
    log = torch.zeros(USERS, ITEMS)
    for place in chosen.argsort(descending=True)[: round(0.5 * len(chosen))].tolist():
        log[tuple(int(part[place]) for part in small_log().nonzero())] = 1
    scale = torch.outer(log.sum(1).clamp(min=1) ** -0.5, log.sum(0).clamp(min=1) ** -0.5) * log
    one = scale.T @ made.embedding[:USERS]
    two = scale.T @ (scale @ made.embedding[USERS : USERS + ITEMS])
    used = (made.embedding[USERS : USERS + ITEMS] + one + two) / 3
    items = [item - USERS for item in batch_nodes(step)[4]]
    a, b = objective.project_known(known[items]), objective.project_used(used[items])
    torch.testing.assert_close(terms["contrast"], 1e-3 * info_nce(a, b, list(range(len(items))), 0.2), rtol=1e-9, atol=0)


def test_half_of_each_relation_is_drawn_and_none_is_left_out() -> None:
    made = KnowledgeTriples(small_graph())
    counts = torch.bincount(made.relation)
    for seed in range(20):
        numbers = torch.rand(len(made), generator=torch.Generator().manual_seed(seed))
        drawn = of_each_relation(made, 0.5, numbers)
        assert torch.bincount(made.relation[drawn], minlength=2 * RELATIONS).tolist() == (0.5 * counts).ceil().tolist()
        for relation in range(2 * RELATIONS):
            own = made.relation == relation
            assert numbers[own & drawn].max() < numbers[own & ~drawn].min()


def test_items_count_by_the_triples_on_both_sides_of_them() -> None:
    made = KnowledgeTriples(KnowledgeGraph(2, 3, np.array([0, 0]), np.array([0, 1]), np.array([1, 2]), np.array(["a", "b"], dtype=object)))
    rationale = torch.arange(1.0, 5.0)
    shown = torch.tensor([True, True, False, True])
    expected = []
    for item in range(2):
        means = [
            [float(r) for r, own, keep in zip(rationale, side, shown, strict=True) if own == item and keep]
            for side in (made.heads, made.tails)
        ]
        expected.append(sum(np.mean(mean) if mean else 1.0 for mean in means) / 2)
    assert of_items(made, rationale, shown, 2).tolist() == pytest.approx(expected)
    assert largest(rationale, 2, shown).tolist() == [3, 1]
