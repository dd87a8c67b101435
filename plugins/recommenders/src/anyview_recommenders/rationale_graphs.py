"""Graphs drawn by how much each edge counts: what an encoder and a decoder of GFormer see, rationales, and what is left without them.

Li, Xia, Ren, Ye, Xu, Huang. Graph Transformer for Recommendation. SIGIR 2023, arXiv 2306.02330; shares as in its public code.
Edges are keys, row · N + column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anyview.views.draws import gumbel
from anyview_recommenders.graph_transformer import LoopedGraph, loops

NEW = 0.01
"""Random edges among the candidates, in each direction, over those that there are."""
LARGEST = 3.0
"""What scores are cut off at before edges of small ones are drawn."""
LEAST = 1e-3
"""What is added to scores before edges of large ones are drawn."""
OTHERS = 0.5
"""Ends of edges that stay, over those that were left out, among which the decoder's pairs are drawn."""
PAIRS = 0.8
"""The decoder's random pairs over the candidates."""


@dataclass(frozen=True, eq=False)
class RationaleGraphs:
    """What one drawing gives: the encoder's and the decoder's graph, the rationale and its complement."""

    encoder: LoopedGraph
    decoder: LoopedGraph
    rationale: LoopedGraph
    complement: LoopedGraph


def most_candidates(interactions: int, nodes: int) -> int:
    """How many keys `candidates` gives at most, for so many interactions."""
    return 2 * interactions + 2 * int(NEW * 2 * interactions) + nodes


def candidates(graph: LoopedGraph, generator: torch.Generator) -> Tensor:
    """(C,) keys in ascending order: a graph's edges, random pairs of its edges' ends both ways, and every node to itself.

    generator: on the graph's device.
    """
    keys, nodes = graph.keys, graph.pattern.shape[0]
    edges = keys[keys % (nodes + 1) != 0]
    rows, columns = (_some(side, int(NEW * len(edges)), generator) for side in (edges // nodes, edges % nodes))
    return torch.cat([keys, _pairs(rows, columns, nodes)]).unique()


def draw(keys: Tensor, scores: Tensor, nodes: int, keep: float, share: float, generator: torch.Generator) -> RationaleGraphs:
    """Graphs of candidates, keys (C,), by their scores (C,).

    keep: the share of them that the encoder sees, drawn with a chance that falls with the score. share: that of the rationale, drawn in
    proportion to the score, and of the complement, drawn as the encoder's. No drawing puts anything back. The decoder sees what the encoder
    does, and random pairs of the ends of what it does not and of half as many others. All nodes have an edge to themselves in each graph.
    """
    count = len(keys)
    small, large = -scores.clamp(max=LARGEST), (scores + LEAST).log()
    kept = without_return(small, int(keep * count), generator)
    stays = torch.zeros(count, dtype=torch.bool, device=keys.device).index_fill(0, kept, True)
    seen, hidden = torch.cat([keys[stays], loops(nodes, keys.device)]), keys[~stays]
    others = [_some(side, int(OTHERS * len(hidden)), generator) for side in (seen // nodes, seen % nodes)]
    ends = (torch.cat([own, other]) for own, other in zip((hidden // nodes, hidden % nodes), others, strict=True))
    rows, columns = (_some(side, int(PAIRS * count), generator) for side in ends)
    parts = [without_return(weights, int(share * count), generator) for weights in (large, small)]
    rationale, complement = (LoopedGraph(keys[part], nodes) for part in parts)
    decoder = LoopedGraph(torch.cat([seen, _pairs(rows, columns, nodes)]), nodes)
    return RationaleGraphs(LoopedGraph(seen, nodes), decoder, rationale, complement)


def without_return(logits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) places of logits (n,), drawn one after the other in proportion to their exponentials and not put back.

    The largest of logits with Gumbel noise are what such a drawing gives.

    >>> without_return(torch.tensor([-1e9, 0.0, -1e9]), 1, torch.Generator().manual_seed(0)).tolist()
    [1]
    """
    numbers = torch.rand(len(logits), generator=generator, dtype=logits.dtype, device=logits.device)
    return (logits + gumbel(numbers)).topk(count).indices


def _some(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) of some values, each drawn from all of them; none of none."""
    if not len(values):
        return values
    return values[torch.randint(len(values), (count,), generator=generator, device=values.device)]


def _pairs(rows: Tensor, columns: Tensor, nodes: int) -> Tensor:
    """The keys of edges between rows and columns (n,), in both directions, (2n,)."""
    return torch.cat([rows * nodes + columns, columns * nodes + rows])
