"""Conformity: how far a sequence's last item is known by what everybody does, and how little by the sequence itself.

Yang, Huang, Xia, Huang, Luo, Lin. Debiased Contrastive Learning for Sequential Recommendation. WWW 2023, arXiv 2303.11780.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anyview_recommenders.histories import PAD
from anyview_recommenders.item_graph import ItemGraph

ALONE = 0.5
"""The weight of a sequence of one item, which has no edge that could be taken away."""
LEAST = 1e-8


def taken(graph: ItemGraph, sequence: Tensor) -> Tensor:
    """How often sequences (B, N) go along each entry of a graph of neighbours, both ways: (T,), what they brought to its weights."""
    one, other = sequence[:, :-1], sequence[:, 1:]
    there = (one != PAD) & (other != PAD)
    one, other = one[there] - 1, other[there] - 1
    numbers = torch.cat([graph.numbers(one, other), graph.numbers(other, one)])
    return torch.zeros_like(graph.weights).index_add(0, numbers, torch.ones_like(numbers, dtype=graph.weights.dtype))


def conformity(graph: ItemGraph, rows: Callable[[Tensor], Tensor], sequence: Tensor, mean: float) -> Tensor:
    """Weights of sequences (B, N), 0 or more, whose mean is `mean`: (B,), with gradient to rows.

    graph: of neighbours in sequences, these among them, with loops. rows: what makes rows (I, D) of all items by weights (T,) of its
    entries. With v the last item: the mean of the cosines between its row and that without the sequences' own edges, between its row and
    the mean row of the neighbours that are left to it, and between the mean rows of those that are taken and left; through a sigmoid, then
    from the least to the largest in the batch. A sequence of one item has 0.5.
    """
    own = taken(graph, sequence)
    left = graph.weights - own
    whole, last = rows(graph.weights), sequence[:, -1] - 1
    sides = [graph.pattern(graph.pattern.shares(keep), whole) for keep in (own > 0, (left > 0) & ~graph.loops)]
    kept, gone, remaining = (found.index_select(0, last) for found in (rows(left), *sides))
    item = whole.index_select(0, last)
    cosines = [cosine_similarity(a, b, dim=1) for a, b in ((item, kept), (item, remaining), (gone, remaining))]
    return spread_out(torch.stack(cosines).mean(0).sigmoid(), (sequence != PAD).sum(1) < 2, mean)


def spread_out(weights: Tensor, alone: Tensor, mean: float) -> Tensor:
    """Weights (B,) stretched to 0 .. 1 and scaled to a mean; those of sequences that are alone, (B,) bool, take no part and are 0.5.

    >>> spread_out(torch.tensor([0.6, 0.7, 0.8, 0.1]), torch.tensor([False, False, False, True]), 0.4)
    tensor([0.0000, 0.4000, 0.8000, 0.5000])
    """
    least = weights.masked_fill(alone, torch.inf).amin()
    width = weights.masked_fill(alone, -torch.inf).amax() - least
    stretched = torch.where(alone, 0.0, (weights - least) / width.clamp(min=LEAST))
    average = stretched.sum() / (~alone).sum().clamp(min=1)
    return torch.where(alone, ALONE, stretched * mean / average.clamp(min=LEAST))


def divergence(weights: Tensor, samples: Tensor) -> Tensor:
    """KL divergence of sorted weights (B,) from sorted samples (B,), each as shares of its sum; equal ones give 0.

    What is below 1e-8 counts as that, without gradient.

    >>> float(divergence(torch.tensor([3.0, 1.0]), torch.tensor([0.1, 0.3])).abs() < 1e-6)
    1.0
    """
    ours, theirs = (side.sort().values.clamp(min=LEAST) for side in (weights, samples))
    ours, theirs = ours / ours.sum(), theirs / theirs.sum()
    return (ours * (ours / theirs).log()).sum()
