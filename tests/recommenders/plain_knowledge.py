"""A small knowledge graph, encoders over it, and what models of one share, written out triple by triple."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyview.objectives.objective import Step
from anyview_recommenders.datasets import prepare
from anyview_recommenders.generated_knowledge import generate_with_knowledge
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_convolution import KnowledgeConvolution, KnowledgeTriples
from anyview_recommenders.raw import Raw
from anyview_recommenders.recipes.kgcl import RelationalAttention
from anyview_recommenders.recipes.kgin import IntentConvolution
from anyview_recommenders.recipes.kgrec import RationaleConvolution
from anyview_recommenders.source import InteractionSource

from .plain import DIM, ITEMS, USERS, small_log, step_of

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


def small_source(users: int = 120, items: int = 100) -> InteractionSource:
    log, knowledge = generate_with_knowledge(users, items, schools=6)
    return prepare(Raw(log, layout="given", knowledge=lambda: knowledge), "films", {"knowledge": "own"})


def each(made: KnowledgeTriples) -> list[tuple[int, int, int]]:
    return list(zip(made.heads.tolist(), made.relation.tolist(), made.tails.tolist(), strict=True))


def unit(row: Tensor) -> Tensor:
    return row / row.norm() if row.any() else row


def step_without_dropout(make: Callable[[int], Any]) -> tuple[Any, Step]:
    made = make(DIM)
    made.dropout = 0.0
    return made, step_of(made)


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


def plain_gathered(made: RelationalAttention, rows: Tensor, shown: Tensor) -> Tensor:
    """What each entity gathers by attention to its shown triples, triple by triple: (E, D) of rows (E, D)."""
    found = []
    for head in range(ENTITIES):
        own = [(r, t) for (h, r, t), keep in zip(each(made.triples), shown, strict=True) if keep and h == head]
        both = torch.cat([made.of_head.weight, made.of_tail.weight], 1)
        logits = [both @ torch.cat([rows[head], rows[t]]) @ made.relations[r] for r, t in own]
        weights = torch.stack([torch.exp(torch.where(logit > 0, logit, 0.2 * logit)) for logit in logits]) if own else torch.zeros(0)
        found.append(sum((w / weights.sum() * rows[t] for w, (_, t) in zip(weights, own, strict=True)), torch.zeros(DIM)))
    return torch.stack(found)
