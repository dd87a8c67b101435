"""Graph convolution over users and items: a symmetric normalised adjacency, products with it, and graphs that lose some of its edges.

He, Deng, Wang, Li, Zhang, Wang. LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation. SIGIR 2020,
arXiv 2002.02126. Edge drop, node drop and random walk: Wu, Wang, Feng, He, Chen, Lian, Xie. Self-supervised Graph Learning for
Recommendation. SIGIR 2021, arXiv 2010.10783.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from anyview.errors import UserError
from anyview_recommenders.sparse_product import sparse_product

Drop = Literal["edge", "node", "walk"]


@dataclass(slots=True)
class Adjacency:
    """D^-1/2 A D^-1/2 of U users and I items with E interactions, A = [[0, R], [Rᵀ, 0]], as the parts of a CSR matrix (N, N), N = U + I.

    users: U; nodes 0 .. U - 1 are users, U .. N - 1 items. starts: (N + 1,) where each node's entries begin. columns: (2E,) the node at the
    other end. interactions: (2E,) which interaction an entry is; each is there twice, first in its user's row, in the interactions' order.
    values: (2E,). A node without interactions has no entries: its row is zero.
    """

    users: int
    starts: Tensor
    columns: Tensor
    interactions: Tensor
    values: Tensor

    @property
    def nodes(self) -> int:
        """N."""
        return self.starts.numel() - 1

    @property
    def size(self) -> int:
        """E."""
        return self.columns.numel() // 2

    @property
    def matrix(self) -> Tensor:
        """(N, N) as a torch CSR tensor that shares the parts."""
        return torch.sparse_csr_tensor(self.starts, self.columns, self.values, (self.nodes, self.nodes), check_invariants=False)

    def to(self, device: torch.device | str, **options: Any) -> Adjacency:
        """The same with every part on `device`."""
        parts = ("starts", "columns", "interactions", "values")
        return replace(self, **{part: getattr(self, part).to(device, **options) for part in parts})

    def ends(self) -> tuple[Tensor, Tensor]:
        """The nodes at the two ends of each interaction, user and item: (E,) and (E,)."""
        counts = self.starts[: self.users + 1].diff()
        users = torch.arange(self.users, device=self.starts.device).repeat_interleave(counts, output_size=self.size)
        return users, self.columns[: self.size]


def normalised_adjacency(matrix: sparse.csr_matrix | sparse.csr_array) -> Adjacency:
    """The normalised adjacency of an interaction matrix, in torch's default type.

    matrix: (U, I) CSR without duplicate entries; only where its entries stand is read. Made with sparse arithmetic alone: memory and time
    grow with the interactions.

    >>> adjacency = normalised_adjacency(sparse.csr_array(np.array([[1.0, 1.0], [0.0, 1.0]])))
    >>> adjacency.matrix.to_dense().square().round(decimals=3)[:2]
    tensor([[0.0000, 0.0000, 0.5000, 0.2500],
            [0.0000, 0.0000, 0.0000, 0.5000]])
    """
    users, size = matrix.shape[0], len(matrix.indices)
    order = np.arange(size)
    by_item = sparse.csr_array((order, matrix.indices, matrix.indptr), shape=matrix.shape).tocsc()
    starts = np.concatenate([matrix.indptr, size + by_item.indptr[1:].astype(np.int64)])
    columns = np.concatenate([matrix.indices.astype(np.int64) + users, by_item.indices])
    interactions = np.concatenate([order, by_item.data])
    return _normalised(users, *(torch.from_numpy(part.astype(np.int64)) for part in (starts, columns, interactions)))


def _normalised(users: int, starts: Tensor, columns: Tensor, interactions: Tensor) -> Adjacency:
    degrees = starts.diff()
    scale = degrees.clamp(min=1).to(torch.get_default_dtype()).rsqrt()
    values = scale.repeat_interleave(degrees, output_size=columns.numel()).mul_(scale[columns])
    return Adjacency(users, starts, columns, interactions, values)


def propagate(adjacency: Adjacency, rows: Tensor) -> Tensor:
    """The adjacency times rows (N, D), with gradient to the rows: each node gets its neighbours' weighted sum, (N, D).

    The matrix is symmetric, so the backward pass is the same product, without a transpose. Rows in half precision are taken as float32.

    >>> adjacency = normalised_adjacency(sparse.csr_array(np.ones((1, 1))))
    >>> propagate(adjacency, torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    matrix = adjacency.matrix
    return sparse_product(matrix, matrix, rows)


def convolve(
    graphs: Adjacency | Sequence[Adjacency], rows: Tensor, layers: int, after: Callable[[Tensor], Tensor] | None = None
) -> list[Tensor]:
    """The rows (N, D) and what each of the layers of a graph convolution without weights makes of them: L + 1 tensors (N, D).

    graphs: one for all layers, or one for each. after: what is done to each layer's product before the next layer reads it.

    >>> adjacency = normalised_adjacency(sparse.csr_array(np.ones((1, 1))))
    >>> [layer.flatten().tolist() for layer in convolve(adjacency, torch.tensor([[1.0], [2.0]]), layers=2)]
    [[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]
    """
    found = [rows]
    for graph in [graphs] * layers if isinstance(graphs, Adjacency) else graphs:
        product = propagate(graph, found[-1])
        found.append(product if after is None else after(product))
    return found


def drop(kind: Drop, adjacency: Adjacency, rate: float, generator: torch.Generator, layers: int) -> Adjacency | list[Adjacency]:
    """A corrupted graph for `convolve`: "edge" and "node" give one for all layers, "walk" one for each."""
    if kind == "walk":
        return random_walk(adjacency, rate, generator, layers)
    return (drop_edges if kind == "edge" else drop_nodes)(adjacency, rate, generator)


def drop_edges(adjacency: Adjacency, rate: float, generator: torch.Generator) -> Adjacency:
    """The graph without a random share of its interactions, normalised anew; each is lost, in both directions, with probability `rate`.

    generator: on the adjacency's device. Raises UserError unless 0 <= rate < 1.

    >>> adjacency = normalised_adjacency(sparse.csr_array(np.ones((30, 40))))
    >>> 550 < drop_edges(adjacency, 0.5, torch.Generator().manual_seed(0)).size < 650
    True
    """
    return keep_interactions(adjacency, _kept(adjacency.size, rate, generator))


def drop_nodes(adjacency: Adjacency, rate: float, generator: torch.Generator) -> Adjacency:
    """The graph without the interactions of a random share of its nodes, normalised anew; arguments as in `drop_edges`."""
    stays = _kept(adjacency.nodes, rate, generator)
    users, items = adjacency.ends()
    return keep_interactions(adjacency, stays[users] & stays[items])


def random_walk(adjacency: Adjacency, rate: float, generator: torch.Generator, layers: int) -> list[Adjacency]:
    """A graph for each layer, each without its own random share of the interactions; arguments as in `drop_edges`."""
    return [drop_edges(adjacency, rate, generator) for _ in range(layers)]


def keep_interactions(adjacency: Adjacency, keep: Tensor) -> Adjacency:
    """The graph of some of the interactions, keep: (E,) bool, normalised anew; they are numbered from 0 in their old order."""
    entries = keep[adjacency.interactions]
    before = torch.nn.functional.pad(entries.cumsum(0), (1, 0))
    numbers = (keep.cumsum(0) - 1)[adjacency.interactions[entries]]
    return _normalised(adjacency.users, before[adjacency.starts], adjacency.columns[entries], numbers)


def edge_dropout(adjacency: Adjacency, rate: float, generator: torch.Generator) -> Adjacency:
    """The graph in which a random share of the interactions counts 0 and the others 1 / (1 - rate) times as much, both ways.

    It is not normalised anew, so that a product with it is right on average. Arguments as in `drop_edges`.

    >>> adjacency = normalised_adjacency(sparse.csr_array(np.ones((1, 4))))
    >>> edge_dropout(adjacency, 0.5, torch.Generator().manual_seed(0)).values.tolist()
    [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    keep = _kept(adjacency.size, rate, generator)
    return replace(adjacency, values=adjacency.values * keep[adjacency.interactions] / (1 - rate))


def check_rate(name: str, rate: float) -> float:
    """The rate itself; raises UserError unless 0 <= rate < 1."""
    if not 0.0 <= rate < 1.0:
        raise UserError(f"{name} must lie in [0, 1), {rate} was given; choose a rate such as 0.1")
    return rate


def _kept(count: int, rate: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) >= check_rate("drop_rate", rate)
