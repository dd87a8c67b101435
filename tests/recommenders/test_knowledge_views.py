"""Views of a knowledge graph and a log: what they lose, what follows from their seed, and what a saved one brings back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyview.errors import UserError
from anyview_recommenders.graph_convolution import normalised_adjacency
from anyview_recommenders.knowledge_views import KnowledgeViews

from .plain import small_log

GRAPH = normalised_adjacency(small_log())


def kept(shown: dict[str, object]) -> np.ndarray:
    """(n,) bool, which of the log's interactions a view has."""
    graph = shown["adjacency"]
    users, items = graph.ends()  # type: ignore[attr-defined]
    there = set(zip(users.tolist(), items.tolist(), strict=True))
    return np.array([pair in there for pair in zip(*(ends.tolist() for ends in GRAPH.ends()), strict=True)])


def test_interactions_are_drawn_by_their_chances_and_triples_at_the_rate() -> None:
    views, triples = KnowledgeViews(GRAPH.size, 0.3), 0
    views.stays.copy_(torch.linspace(0, 1, GRAPH.size))
    counts = np.zeros(GRAPH.size)
    for seed in range(200):
        views.seed.fill_(seed)
        views.drawn = []
        for shown in views(100, GRAPH):
            counts += kept(shown)
            triples += int(shown["triples"].sum())
    np.testing.assert_allclose(counts / 400, np.linspace(0, 1, GRAPH.size), atol=0.1)
    assert triples / 40_000 == pytest.approx(0.7, abs=0.01)


def test_an_epoch_has_its_views_in_common_and_the_next_one_others() -> None:
    views = KnowledgeViews(GRAPH.size, 0.5, chance=0.5)
    views.renew()
    first = views(50, GRAPH)
    assert views(50, GRAPH) is first
    assert not np.array_equal(*map(kept, first))
    views.renew()
    assert not np.array_equal(kept(views(50, GRAPH)[0]), kept(first[0]))


def test_saved_views_are_the_same_again() -> None:
    views, again = (KnowledgeViews(GRAPH.size, 0.5, chance=0.5) for _ in range(2))
    views.renew()
    again(50, GRAPH)
    again.load_state_dict(views.state_dict())
    for ours, theirs in zip(views(50, GRAPH), again(50, GRAPH), strict=True):
        assert torch.equal(ours["triples"], theirs["triples"])
        assert np.array_equal(kept(ours), kept(theirs))


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="rate must lie in"):
        KnowledgeViews(3, 1.0)
