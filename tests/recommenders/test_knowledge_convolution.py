"""What holds of all models of a knowledge graph: inverses, attention, dropout, contracts, ranks, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.sparse import csr_matrix

import anyview
from anyview.errors import UserError
from anyview.recipe import Recipe
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.dropout import dropping, message_dropout
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.knowledge_convolution import KnowledgeTriples
from anyview_recommenders.recipes.kgcl import KGCL, kgcl
from anyview_recommenders.recipes.kgin import KGIN, IntentConvolution, kgin
from anyview_recommenders.recipes.kgrec import KGRec, kgrec
from anyview_recommenders.recommender import Recommender

from .plain import DIM, small_batch, small_log, small_triples
from .plain_knowledge import ENTITIES, NODES, RELATIONS, attention, each, intents, rationales, small_graph, small_source


def kgcl_of(dim: int) -> KGCL:
    return KGCL(dim, small_log().nnz, weight=0.3, translation=0.1, l2=0.2)


ALL: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "kgin": (partial(KGIN, rate=0.3, weight=0.3, l2=0.2), intents),
    "kgcl": (kgcl_of, attention),
    "kgrec": (partial(KGRec, masked=5, l2=0.2), rationales),
}
RECIPES: dict[str, Callable[..., Recipe]] = {"kgin": kgin, "kgcl": kgcl, "kgrec": kgrec}


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


def test_attention_sums_to_1_over_a_head_and_entities_without_triples_are_finite() -> None:
    for made in (attention(), rationales()):
        heads = torch.zeros(ENTITIES).index_add(0, made.triples.heads, made.attention(1e4 * made.entities))
        known = torch.zeros(ENTITIES, dtype=torch.bool).index_fill(0, made.triples.heads, True)
        torch.testing.assert_close(heads, known.float())
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


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: KGRec(DIM, masked=0), "at least 1 triple is hidden"),
        (lambda: KGCL(DIM, small_log().nnz, share=0.0), "the share of interactions that stay lies above 0"),
        (lambda: KGIN(DIM, rate=1.0), r"rate must lie in \[0, 1\)"),
        (lambda: IntentConvolution(small_graph(), csr_matrix(small_log()), DIM, dropout=1.0), r"dropout must lie in \[0, 1\)"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()


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
