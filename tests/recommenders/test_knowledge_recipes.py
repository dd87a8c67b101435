"""KGIN, KGCL and KGRec against the papers' formulas written out triple by triple, and what holds of all three."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

import anyview
from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.recipe import Recipe
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.training import pretrain
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.datasets import prepare
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.generated_knowledge import generate_with_knowledge
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_convolution import KnowledgeConvolution, KnowledgeTriples, dropping, message_dropout
from anyview_recommenders.raw import Raw
from anyview_recommenders.recipes.kgcl import KGCL, RelationalAttention, chances, kgcl, translation_loss
from anyview_recommenders.recipes.kgin import KGIN, IntentConvolution, distance_correlations, kgin
from anyview_recommenders.recipes.kgrec import KGRec, RationaleConvolution, gumbel, kgrec, largest, of_each_relation, of_items, there
from anyview_recommenders.recommender import Recommender
from anyview_recommenders.source import InteractionSource
from tests.small_runs import assert_same_bits, stop_at

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, info_nce, same, small_batch, small_log, small_triples, step_of

ENTITIES, RELATIONS = ITEMS + 6, 3
NODES = torch.arange(USERS + ITEMS)


def small_graph(count: int = 40) -> KnowledgeGraph:
    """Random triples; item 7 and the last entity have none."""
    random = np.random.default_rng(3)
    head, relation, tail = random.integers(0, [[ITEMS], [RELATIONS], [ENTITIES - 1]], (3, count))
    there = (head != 7) & (tail != 7) & (head != tail)
    distinct = np.unique(np.stack([head, relation, tail])[:, there], axis=1)
    return KnowledgeGraph(ITEMS, ENTITIES, *distinct, np.array(["a", "b", "c"], dtype=object))


def intents(dim: int = DIM) -> IntentConvolution:
    return IntentConvolution(small_graph(), small_log(), dim, hops=2, intents=3, dropout=0.2, deviation=1.0)


def attention(dim: int = DIM) -> RelationalAttention:
    return RelationalAttention(small_graph(), small_log(), dim, hops=2, layers=2, dropout=0.2, deviation=1.0)


def rationales(dim: int = DIM) -> RationaleConvolution:
    return RationaleConvolution(small_graph(), small_log(), dim, hops=2, dropout=0.2, deviation=1.0)


def kgcl_of(dim: int) -> KGCL:
    return KGCL(dim, ITEMS, weight=0.3, translation=0.1, l2=0.2)


ALL: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "kgin": (partial(KGIN, rate=0.3, weight=0.3, l2=0.2), intents),
    "kgcl": (kgcl_of, attention),
    "kgrec": (partial(KGRec, masked=5, l2=0.2), rationales),
}
RECIPES: dict[str, Callable[..., Recipe]] = {"kgin": kgin, "kgcl": kgcl, "kgrec": kgrec}


@pytest.fixture
def double() -> Iterator[None]:
    """Everything in float64."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(2)
    yield
    torch.set_default_dtype(torch.float32)


def each(made: KnowledgeTriples) -> list[tuple[int, int, int]]:
    return list(zip(made.heads.tolist(), made.relation.tolist(), made.tails.tolist(), strict=True))


def unit(row: Tensor) -> Tensor:
    return row / row.norm() if row.any() else row


def step_without_dropout(make: Callable[[int], Any]) -> tuple[Any, Step]:
    made = make(DIM)
    made.dropout = 0.0
    return made, step_of(made)


@pytest.mark.parametrize("name", ALL)
def test_they_keep_the_contracts(name: str) -> None:
    objective, encoder = ALL[name]
    check_encoder(encoder(DIM), View({"nodes": NODES, "seed": 3}))
    check_encoder(encoder(DIM), View({"nodes": NODES}))
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ALL)
def test_two_processes_are_one(name: str) -> None:
    objective, encoder = ALL[name]
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)  # type: ignore[arg-type]


def test_inverse_triples_have_relations_of_their_own() -> None:
    graph, made = small_graph(), KnowledgeTriples(small_graph())
    given = list(zip(graph.head.tolist(), graph.relation.tolist(), graph.tail.tolist(), strict=True))
    assert sorted(each(made)) == sorted([*given, *((tail, relation + RELATIONS, head) for head, relation, tail in given)])
    assert set(made.relation.tolist()) == set(range(2 * RELATIONS))
    for number, (head, relation, tail) in zip(made.inverse.tolist(), each(made), strict=True):
        assert each(made)[number] == (tail, (relation + RELATIONS) % (2 * RELATIONS), head)


@pytest.mark.usefixtures("double")
def test_attention_sums_to_1_over_a_head_and_entities_without_triples_are_finite() -> None:
    for made in (attention(), rationales()):
        heads = torch.zeros(ENTITIES).index_add(0, made.triples.heads, made.attention(1e4 * made.entities))
        known = torch.zeros(ENTITIES, dtype=torch.bool).index_fill(0, made.triples.heads, True)
        torch.testing.assert_close(heads, known.double())
        assert not known[[7, ENTITIES - 1]].any()
        assert made(View({"nodes": NODES})).rows.isfinite().all()


def test_message_dropout_keeps_the_mean_and_follows_its_seed() -> None:
    rows = torch.ones(200, 50)
    dropped = [message_dropout(rows, 0.2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])
    assert sorted(set(dropped[0].flatten().tolist())) == [0.0, 1.25]
    assert abs(float(dropped[0].mean()) - 1) < 0.02
    assert dropping(Draws.seeded(0, total=1), 1) != dropping(Draws.seeded(0, total=1), 2)


def plain_hops(made: KnowledgeConvolution, gather: Callable[[Tensor], Tensor], users_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Sums over hops of rows of length 1, and of the start."""
    users, entities = made.embedding[:USERS], made.embedding[USERS:]
    total = made.embedding
    for _ in range(made.hops):
        users, entities = users_of(users, entities), gather(entities)
        users, entities = (torch.stack([unit(row) for row in rows]) for rows in (users, entities))
        total = total + torch.cat([users, entities])
    return total


def mean_of_items(entities: Tensor, factors: Tensor) -> Tensor:
    """Each user's items times factors (n,) over how many the user has, interaction by interaction."""
    log = small_log()
    found = torch.zeros(USERS, DIM)
    for factor, user, item in zip(factors, *(part.tolist() for part in log.nonzero()), strict=True):
        found[user] = found[user] + factor * entities[item] / log[user].sum()
    return found


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


@pytest.mark.usefixtures("double")
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


@pytest.mark.usefixtures("double")
def test_distance_correlation_is_1_of_a_line_and_small_of_what_is_independent() -> None:
    x = torch.randn(200)
    found = distance_correlations(torch.stack([x, 3 - 2 * x, torch.randn(200), torch.zeros(200)]))
    assert float(found[0, 1]) == pytest.approx(1, abs=1e-3)
    assert float(found[0, 2]) < 0.4
    assert found.isfinite().all()


def plain_attention(made: RelationalAttention, shown: Tensor) -> Tensor:
    """The entities' rows of KGCL's first part, triple by triple."""
    rows = total = made.entities
    for _ in range(made.hops):
        found = []
        for head in range(ENTITIES):
            own = [(r, t) for (h, r, t), keep in zip(each(made.triples), shown, strict=True) if keep and h == head]
            both = torch.cat([made.of_head.weight, made.of_tail.weight], 1)
            logits = [both @ torch.cat([rows[head], rows[t]]) @ made.relations[r] for r, t in own]
            weights = torch.stack([torch.exp(torch.where(logit > 0, logit, 0.2 * logit)) for logit in logits]) if own else torch.zeros(0)
            found.append(unit(sum((w / weights.sum() * rows[t] for w, (_, t) in zip(weights, own, strict=True)), torch.zeros(DIM))))
        rows = torch.stack(found)
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


def kept_pairs(encoding: LightGraphConvolution, shown: dict[str, Any]) -> np.ndarray:
    users, items = shown["adjacency"].ends()
    kept = np.zeros((USERS, ITEMS))
    kept[users.numpy(), items.numpy() - USERS] = 1
    return kept


@pytest.mark.usefixtures("double")
def test_kgcl_is_the_papers_formulas_and_its_views_follow_stability() -> None:
    made, step = step_without_dropout(attention)
    objective = KGCL(DIM, ITEMS, weight=0.3, l2=0.2)
    with torch.no_grad():
        objective.before_epoch(0, lambda: iter([step]))
    views = objective.views(made)
    first, second = (plain_attention(made, view["triples"])[:ITEMS] for view in views)
    weights = torch.exp((first * second).sum(1) / first.norm(dim=1) / second.norm(dim=1))
    weights = ((weights - weights.min()) / (weights.max() - weights.min())).clamp(min=0.3)
    torch.testing.assert_close(objective.get_buffer("stays"), (0.7 * weights / weights.mean()).clamp(max=0.95), rtol=1e-9, atol=0)
    assert float(objective.get_buffer("stays").max()) <= 0.95
    rows = plain_kgcl(made, torch.ones(len(made.triples)), np.ones((USERS, ITEMS)))
    a, b = (plain_kgcl(made, view["triples"], kept_pairs(made, view)) for view in views)
    _, _, _, users, items = batch_nodes(step)
    contrast = info_nce(a[users], b[:USERS], users, 0.2) + info_nce(a[items], b[USERS:], [item - USERS for item in items], 0.2)
    l2 = 0.2 * half_squares(made.embedding, *batch_nodes(step)[:3])
    same(objective, made, step, {"bpr": bpr(rows, step), "l2": l2, "contrast": 0.3 * contrast})


def test_kgcl_draws_interactions_by_their_items_chances() -> None:
    made, objective = attention(), kgcl_of(DIM)
    objective.get_buffer("stays").copy_(torch.linspace(0, 1, ITEMS))
    kept = np.zeros((USERS, ITEMS))
    for seed in range(60):
        objective.seed.fill_(seed)
        objective.drawn = []
        kept += sum(kept_pairs(made, view) for view in objective.views(made))
    log = small_log().toarray()
    shares = (kept * log).sum(0)[log.any(0)] / log.sum(0)[log.any(0)] / 120
    np.testing.assert_allclose(shares, np.linspace(0, 1, ITEMS)[log.any(0)], atol=0.15)


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


@pytest.mark.usefixtures("double")
def test_kgrec_is_the_papers_formulas_and_hidden_triples_are_not_shown() -> None:
    made = Watched(small_graph(), small_log(), DIM, dropout=0.0, deviation=1.0)
    objective, step, draws = KGRec(DIM, masked=4, l2=0.2), step_of(made), step_of(made).draws
    triples, count = made.triples, len(made.triples)
    drawn = of_each_relation(triples, 0.5, draws.shared_uniform(count))
    counts = [sum(keep and own == head for own, keep in zip(triples.heads.tolist(), drawn, strict=True)) for head in triples.heads.tolist()]
    rationale = torch.stack([a * n for a, n in zip(plain_softmax(made, made.entities, drawn), counts, strict=True)]).detach()
    noisy = rationale + gumbel(draws, count)
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
    chosen = chosen + gumbel(draws, len(chosen)) + gumbel(draws, len(chosen))
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


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: KGRec(DIM, masked=0), "at least 1 triple is hidden"),
        (lambda: KGCL(DIM, ITEMS, share=0.0), "the share of interactions that stay lies above 0"),
        (lambda: KGIN(DIM, rate=1.0), r"rate must lie in \[0, 1\)"),
        (lambda: IntentConvolution(small_graph(), csr_matrix(small_log()), DIM, dropout=1.0), r"dropout must lie in \[0, 1\)"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()


def small_source(users: int = 120, items: int = 100) -> InteractionSource:
    log, knowledge = generate_with_knowledge(users, items, schools=6)
    return prepare(Raw(log, layout="given", knowledge=lambda: knowledge), "films", {"knowledge": "own"})


@pytest.mark.parametrize("name", RECIPES)
def test_they_learn_and_recommend_without_their_data(tmp_path: Path, name: str) -> None:
    source = small_source()
    torch.manual_seed(0)
    made = RECIPES[name](source, dim=16, epochs=6, batch_size=256, lr=0.03, l2=1e-3, look_every=3)

    def recall() -> float:
        return score_part(scorer_of(made.embedder.eval(), source.catalogue), source, k=10, part="test")["recall"]

    untrained = recall()
    run = anyview.pretrain(made, tmp_path / "run")
    assert recall() == recall() > untrained + 0.1
    ours, theirs = (list(Recommender(one, device="cpu").recommend(k=5)) for one in (run, anyview.load(run.folder.path)))
    assert ours == theirs


def test_kgcl_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    def made() -> Recipe:
        torch.manual_seed(0)
        return kgcl(small_source(60, 50), dim=8, epochs=2, batch_size=128, look_every=1)

    pretrain(made(), tmp_path / "whole")
    stop_at(made(), tmp_path / "parted", 3)
    pretrain(made(), tmp_path / "parted", resume=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "parted")
