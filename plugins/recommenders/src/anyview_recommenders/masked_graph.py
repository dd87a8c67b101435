"""A graph that hides what lies around some of its nodes, and pairs of nodes along which that is decoded.

Xia, Huang, Huang, Lin, Yu, Kao. Automated Self-Supervised Learning for Recommendation. WWW 2023, arXiv 2303.07797.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import cosine_similarity, logsigmoid

from anyview_recommenders.graph_convolution import Adjacency, keep_interactions, propagate
from anyview_recommenders.sparse_product import SparsePattern


@dataclass(slots=True)
class MaskedGraph:
    """shown: the interactions that are left to encode from. pairs: (N, N), which nodes attend to which when the others are decoded."""

    shown: Adjacency
    pairs: SparsePattern

    @classmethod
    def around(cls, adjacency: Adjacency, seeds: Tensor, *, depth: int, share: float, generator: torch.Generator) -> MaskedGraph:
        """What is left when the interactions within `depth` steps of the seeds (S,) are hidden, normalised anew.

        Nodes are hidden less than `depth` steps from a seed. Of them, and of a share of all nodes, as many pairs are drawn as the graph has
        entries; attention runs both ways between these, along what is shown, and from each node to itself. generator: on the adjacency's
        device.
        """
        keep, hidden = hide_around(adjacency, seeds, depth)
        shown, device = keep_interactions(adjacency, keep), adjacency.starts.device
        more = torch.randint(adjacency.nodes, (int(share * adjacency.nodes),), generator=generator, device=device)
        among = hidden.index_fill(0, more, True).nonzero().flatten()
        ends = among[torch.randint(len(among), (2, 2 * adjacency.size), generator=generator, device=device)]
        one, other = (torch.cat(sides) for sides in zip(shown.ends(), ends, strict=True))
        return cls(shown, both_ways(adjacency.nodes, one, other))


def relatedness(adjacency: Adjacency, embeddings: Tensor) -> Tensor:
    """ln σ of the cosine between each node's embedding and the mean of those one and two steps away, (N,) of (N, D), with gradient.

    A node counts as often as there are walks to it; those that come back are left out. Public code subtracts a node's own embedding once
    more, as if it were among its neighbours. A node without interactions has ln σ(0).
    """
    counted = replace(adjacency, values=torch.ones_like(adjacency.values))
    degrees = adjacency.starts.diff().to(embeddings)[:, None]
    once = propagate(counted, embeddings)
    twice = propagate(counted, once) - degrees * embeddings
    return logsigmoid(cosine_similarity(once + twice, embeddings, dim=1))  # the cosine of a sum is that of the mean


def hide_around(adjacency: Adjacency, seeds: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Which interactions stay, (E,) bool, when those within `depth` steps of the seeds (S,) go, and which nodes are hidden, (N,) bool.

    Hidden are the seeds and the nodes less than `depth` steps away from one.
    """
    users, items = adjacency.ends()
    nothing = torch.zeros(adjacency.nodes, dtype=torch.bool, device=users.device)
    stays, hidden = torch.ones_like(users, dtype=torch.bool), nothing
    front = nothing.index_fill(0, seeds, True)
    for _ in range(depth):
        hidden = hidden | front
        touched = stays & (front[users] | front[items])
        stays = stays & ~touched
        front = nothing.index_fill(0, torch.cat([users[touched], items[touched]]), True)
    return stays, hidden


def both_ways(nodes: int, one: Tensor, other: Tensor) -> SparsePattern:
    """The pattern (N, N) of pairs (P,) and (P,) of nodes, each both ways and once, and of each node with itself.

    >>> pairs = both_ways(3, torch.tensor([0, 2, 0]), torch.tensor([2, 0, 0]))
    >>> list(zip(pairs.rows.tolist(), pairs.columns.tolist()))
    [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)]
    """
    itself = torch.arange(nodes, device=one.device)
    rows, columns = (torch.cat(sides).numpy(force=True) for sides in ((one, other, itself), (other, one, itself)))
    return SparsePattern(sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(nodes, nodes))).to(one.device)
