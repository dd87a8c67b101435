"""A graph that hides what lies around some of its nodes, which are drawn, and pairs of nodes along which that is decoded.

Xia, Huang, Huang, Lin, Yu, Kao. Automated Self-Supervised Learning for Recommendation. WWW 2023, arXiv 2303.07797.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, logsigmoid

from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.views.draws import derive_seed
from anyview_recommenders.graph_convolution import Adjacency, keep_interactions, propagate
from anyview_recommenders.sparse_product import SparsePattern

UNDRAWN = -1


class Seeds(nn.Module):
    """The nodes that a mask is drawn around, and a random seed for all else about it: a mask follows from these, which are saved.

    count: S, how many nodes. every: steps between two masks. what: what the nodes are, in the error where there are too few.
    """

    nodes: Tensor
    seed: Tensor

    def __init__(self, count: int, every: int, what: str) -> None:
        super().__init__()
        self.every, self.what = every, what
        self.register_buffer("nodes", torch.full((count,), UNDRAWN))
        self.register_buffer("seed", torch.zeros((), dtype=torch.long))

    def due(self, step: Step) -> bool:
        """Whether a step needs new ones."""
        return step.number % self.every == 0 or bool((self.nodes == UNDRAWN).any())

    def draw(self, scores: Tensor, step: Step) -> None:
        """Take the nodes of the largest scores (N,) with Gumbel noise; raises UserError where there are fewer than S."""
        if len(scores) < len(self.nodes):
            raise UserError(f"{len(self.nodes)} seeds were asked for, of {len(scores):,} {self.what}; choose fewer")
        self.nodes.copy_((scores.detach() + step.draws.shared_gumbel(len(scores))).topk(len(self.nodes)).indices)
        self.seed.fill_(derive_seed(step.generator.initial_seed(), "mask"))

    def generator(self) -> torch.Generator:
        """A fresh generator of the seed, where the nodes are."""
        return torch.Generator(self.seed.device).manual_seed(int(self.seed))


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
        keep, hidden = hide_around(adjacency.ends(), adjacency.nodes, seeds, depth)
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


def hide_around(
    ends: tuple[Tensor, Tensor],
    nodes: int,
    seeds: Tensor,
    depth: int,
    *,
    share: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Which edges stay, (E,) bool, when those within `depth` steps of the seeds (S,) go, and which nodes are hidden, (N,) bool.

    ends: the nodes at the two ends of each edge, (E,) and (E,). Hidden are the seeds and the nodes less than `depth` steps away from one.
    With a generator, on the edges' device, paths go on from a share of the nodes that a step reached, then from its square, and so on.
    """
    one, other = ends
    nothing = torch.zeros(nodes, dtype=torch.bool, device=one.device)
    stays, hidden = torch.ones_like(one, dtype=torch.bool), nothing
    front = nothing.index_fill(0, seeds, True)
    for step in range(depth):
        hidden = hidden | front
        touched = stays & (front[one] | front[other])
        stays = stays & ~touched
        front = nothing.index_fill(0, torch.cat([one[touched], other[touched]]), True)
        if generator is not None:
            front = front & (torch.rand(nodes, generator=generator, device=one.device) < share ** (step + 1))
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
