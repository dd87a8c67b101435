"""Conformity by dense matrices and sequence by sequence, and what becomes of weights that are all alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anyview_recommenders.conformity import conformity, divergence, spread_out, taken
from anyview_recommenders.item_graph import ItemGraph, with_loops

from .test_item_graph import near
from .test_sequences import ITEMS, batch

SEQUENCE = torch.cat([batch().data["sequence"][:, :-1], torch.tensor([[0, 0, 0, 0, 0, 4]])])


def brought() -> Tensor:
    """(I, I) how often the sequences go from an item to another, both ways."""
    counts = torch.zeros(ITEMS, ITEMS)
    for row in SEQUENCE.tolist():
        own = [item - 1 for item in row if item]
        for one, other in itertools.pairwise(own):
            counts[one, other] += 1
            counts[other, one] += 1
    return counts


@pytest.mark.usefixtures("double")
def test_it_is_the_mean_of_three_cosines_without_the_sequences_own_edges() -> None:
    graph, embedding = ItemGraph(with_loops(near())), torch.randn(ITEMS, 5)
    counts = torch.from_numpy(near().toarray())
    assert torch.equal(graph.pattern.matrix(taken(graph, SEQUENCE)).to_dense(), brought())
    left = counts - brought()

    def rows(matrix: Tensor) -> Tensor:
        return (matrix + torch.eye(ITEMS)) @ embedding

    def entries(weights: Tensor) -> Tensor:
        return graph.pattern.matrix(weights).to_dense() @ embedding

    raw = []
    for row in SEQUENCE.tolist():
        last = row[-1] - 1
        means = [rows(counts)[side[last] > 0] for side in (brought(), left)]
        gone, remaining = (found.mean(0) if len(found) else torch.zeros(5) for found in means)
        item = rows(counts)[last]
        pairs = ((item, rows(left)[last]), (item, remaining), (gone, remaining))
        raw.append(torch.sigmoid(sum(cosine_similarity(a, b, dim=0) for a, b in pairs) / 3))
    scores, alone = torch.stack(raw), (SEQUENCE != 0).sum(1) == 1
    assert alone.tolist() == [False] * 12 + [True]
    stretched = (scores[:-1] - scores[:-1].min()) / (scores[:-1].max() - scores[:-1].min())
    found = conformity(graph, entries, SEQUENCE, 0.4)
    torch.testing.assert_close(found[:-1], stretched * 0.4 / stretched.mean(), rtol=1e-8, atol=1e-12)
    assert float(found[-1]) == 0.5


@pytest.mark.parametrize("alone", [[True] * 3, [False] * 3, [True, False, True]])
def test_weights_that_cannot_be_told_apart_are_finite_and_so_is_their_gradient(alone: list[bool]) -> None:
    weights = torch.full((3,), 0.7, requires_grad=True)
    found = spread_out(weights, torch.tensor(alone), 0.4)
    assert found.tolist() == [0.5 if own else 0.0 for own in alone]
    [gradient] = torch.autograd.grad(divergence(found, torch.tensor([0.4, 0.3, 0.5])), weights)
    assert gradient.isfinite().all()


@pytest.mark.usefixtures("double")
def test_the_divergence_is_of_sorted_shares() -> None:
    random = np.random.default_rng(0)
    weights, samples = random.random(9), random.random(9)
    p, q = np.sort(weights) / weights.sum(), np.sort(samples) / samples.sum()
    found = divergence(torch.from_numpy(weights), torch.from_numpy(samples))
    assert float(found) == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-10)
    assert float(divergence(torch.tensor([0.0, 1.0]), torch.tensor([-0.1, 0.5]))) == pytest.approx(0, abs=1e-6)
