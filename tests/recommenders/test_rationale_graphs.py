"""Which edges GFormer's graphs are drawn from, and how often."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyview_recommenders.graph_transformer import LoopedGraph, interaction_keys
from anyview_recommenders.rationale_graphs import candidates, draw, most_candidates, without_return

from .plain import ITEMS, USERS, small_log

NODES = USERS + ITEMS
LOOPS = {node * NODES + node for node in range(NODES)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mirrored(keys: Tensor) -> set[int]:
    return {int(key) % NODES * NODES + int(key) // NODES for key in keys}


def test_candidates_are_all_edges_and_a_few_pairs_of_their_ends_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyview_recommenders.rationale_graphs.NEW", 0.3)
    graph, edges = LoopedGraph(interaction_keys(small_log()), NODES), set(interaction_keys(small_log()).tolist())
    keys = candidates(graph, generator())
    found = set(keys.tolist())
    assert keys.tolist() == sorted(found)
    assert edges | LOOPS < found
    assert mirrored(keys) == found
    assert len(found) <= most_candidates(small_log().nnz, NODES)
    alone = [3, USERS + 5]  # nobody's edges have these ends
    assert all(key in LOOPS for key in found for node in alone if node in (key // NODES, key % NODES))
    assert set(candidates(graph, generator(1)).tolist()) != found


def test_a_drawing_has_the_shares_that_are_asked_for() -> None:
    keys = candidates(LoopedGraph(interaction_keys(small_log()), NODES), generator())
    scores, edges = 4 * torch.rand(len(keys), generator=generator()), set(keys.tolist())
    found = draw(keys, scores, NODES, 0.6, 0.2, generator())
    encoder, decoder, rationale, complement = (
        set(graph.keys.tolist()) for graph in (found.encoder, found.decoder, found.rationale, found.complement)
    )
    for graph, share in ((encoder, 0.6), (rationale, 0.2), (complement, 0.2)):
        assert graph <= edges
        count = int(share * len(edges))
        assert count - NODES <= len(graph - LOOPS) <= count
    assert encoder <= decoder
    assert rationale != complement
    new = decoder - encoder
    hidden_or_seen = {end for key in edges for end in divmod(key, NODES)}
    assert {end for key in new for end in divmod(key, NODES)} <= hidden_or_seen
    assert all(key % NODES * NODES + key // NODES in decoder for key in new)


def test_when_nothing_is_hidden_the_decoder_sees_what_the_encoder_does() -> None:
    keys = candidates(LoopedGraph(interaction_keys(small_log()), NODES), generator())
    found = draw(keys, torch.ones(len(keys)), NODES, 1.0, 0.1, generator())
    assert torch.equal(found.encoder.keys, keys)
    assert torch.equal(found.decoder.keys, keys)


def test_rationales_have_large_scores_and_complements_and_encoders_small_ones() -> None:
    keys = torch.arange(2 * NODES**2 // 3)
    keys = keys[keys % (NODES + 1) != 0]
    scores = torch.where(torch.arange(len(keys)) % 2 == 0, 3.0, 0.1)
    large = set(keys[::2].tolist())
    shares = []
    for seed in range(20):
        found = draw(keys, scores, NODES, 0.2, 0.2, generator(seed))
        drawn = [set(graph.keys.tolist()) - LOOPS for graph in (found.rationale, found.complement, found.encoder)]
        shares.append([len(graph & large) / len(graph) for graph in drawn])
    rationale, complement, encoder = torch.tensor(shares).mean(0).tolist()
    assert rationale > 0.85
    assert complement < 0.15
    assert encoder < 0.15


def test_drawing_without_return_is_that_of_one_after_the_other() -> None:
    chances = torch.tensor([0.5, 0.3, 0.2])
    pairs = torch.zeros(3, 3)
    source = generator()
    for _ in range(3000):
        first, second = without_return(chances.log(), 2, source).tolist()
        pairs[first, second] += 1 / 3000
    for first in range(3):
        for second in range(3):
            expected = 0.0 if first == second else float(chances[first] * chances[second] / (1 - chances[first]))
            assert float(pairs[first, second]) == pytest.approx(expected, abs=0.03)
