"""Graphs: features of nodes, and edges kept in both orders, so that nothing is sorted twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from anyview_graphs.sparse import sparse_if_worthwhile


@dataclass(slots=True, eq=False)
class Edges:
    """Directed edges src -> dst of a graph with `num_nodes` nodes, sorted by destination, with the order by source beside it.

    indptr: (N + 1,), the edges into node i are indptr[i] .. indptr[i + 1]. src, dst: (E,) both ends, sorted by (dst, src).
    indptr_t: (N + 1,), the edges out of node j are entries indptr_t[j] .. indptr_t[j + 1] of the transposed order;
    dst_t: (E,) their destinations; order_t: (E,) their numbers in the first order, so dst_t = dst[order_t].

    Made by `Edges.of`; what is derived from edges (normalised weights, one copy per attention head) is computed once and kept.
    """

    num_nodes: int
    indptr: Tensor
    src: Tensor
    dst: Tensor
    indptr_t: Tensor
    dst_t: Tensor
    order_t: Tensor
    _derived: dict[Any, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, edge_index: Tensor, num_nodes: int) -> Edges:
        """From (2, E) node numbers, first row the sources; an edge that occurs twice is kept once.

        >>> edges = Edges.of(torch.tensor([[0, 1, 0, 0], [1, 0, 1, 2]]), num_nodes=3)
        >>> edges.src.tolist(), edges.dst.tolist(), edges.indptr.tolist()
        ([1, 0, 0], [0, 1, 2], [0, 1, 2, 3])
        """
        keys = (edge_index[1].long() * num_nodes + edge_index[0].long()).unique(sorted=True)
        dst, src = keys.div(num_nodes, rounding_mode="floor"), keys % num_nodes
        order_t = src.argsort(stable=True)
        return cls(num_nodes, _pointers(dst, num_nodes), src, dst, _pointers(src, num_nodes), dst[order_t], order_t)

    def __len__(self) -> int:
        return self.src.numel()

    @property
    def index(self) -> Tensor:
        """(2, E), the usual edge list."""
        return torch.stack((self.src, self.dst))

    @property
    def loops(self) -> Tensor:
        """(E,) bool, which edges lead back to their own node."""
        return self.src == self.dst

    @property
    def degrees(self) -> Tensor:
        """(N,) how many edges come into each node."""
        return self.indptr.diff()

    @property
    def lonely(self) -> int:
        """How many nodes have no incoming edge."""
        return int(self._once("lonely", lambda: (self.degrees == 0).sum()))

    def filtered(self, keep: Tensor) -> Edges:
        """The edges where keep (E,) is True; both orders follow by cumulative sums."""
        keep_t = keep[self.order_t]
        kept, kept_t = keep.nonzero().flatten(), keep_t.nonzero().flatten()
        count, count_t = _running(keep), _running(keep_t)
        return Edges(
            self.num_nodes,
            count[self.indptr],
            self.src[kept],
            self.dst[kept],
            count_t[self.indptr_t],
            self.dst_t[kept_t],
            count[self.order_t[kept_t]],
        )

    def repeated(self, heads: int) -> Edges:
        """The edges between `heads` copies of every node, copy h of node i being node i * heads + h, copies of one number only.

        Attention with several heads on these edges is attention with one head on those, so every head is served by one product.
        """
        return self if heads == 1 else self._once(("repeated", heads), lambda: self._repeat(heads))

    def symmetric_weights(self) -> Tensor:
        """(E,) float64, the values of D^-1/2 A D^-1/2, degrees counted over incoming edges (self-loops must be there already)."""

        def weights() -> Tensor:
            scale = self.degrees.clamp(min=1).double().rsqrt()
            return scale[self.src] * scale[self.dst]

        return self._once("symmetric", weights)

    def to(self, device: torch.device | str | None, **options: Any) -> Edges:
        """The same edges on `device`."""
        names = ("indptr", "src", "dst", "indptr_t", "dst_t", "order_t")
        return Edges(self.num_nodes, **{name: getattr(self, name).to(device, **options) for name in names})

    def _once(self, name: Any, make: Callable[[], Any]) -> Any:
        if name not in self._derived:
            self._derived[name] = make()
        return self._derived[name]

    def _repeat(self, heads: int) -> Edges:
        head = torch.arange(heads, device=self.src.device).unsqueeze(1)
        place = _spread(self.indptr, self.dst, head)  # (H, E), where an edge's copies lie
        place_t = _spread(self.indptr_t, self.src[self.order_t], head)

        def scattered(place: Tensor, values: Tensor) -> Tensor:
            out = torch.empty(values.numel(), dtype=values.dtype, device=values.device)
            out[place.flatten()] = values.flatten()
            return out

        def copies(ends: Tensor) -> Tensor:
            return ends * heads + head

        def pointers(indptr: Tensor) -> Tensor:
            starts = indptr[:-1] * heads + head * indptr.diff()
            return torch.cat((starts.t().flatten(), indptr[-1:] * heads))

        return Edges(
            self.num_nodes * heads,
            pointers(self.indptr),
            scattered(place, copies(self.src)),
            scattered(place, copies(self.dst)),
            pointers(self.indptr_t),
            scattered(place_t, copies(self.dst_t)),
            scattered(place_t, place[:, self.order_t]),
        )


@dataclass(slots=True, eq=False)
class Graph:
    """One graph, or several as one disconnected graph.

    x: (R, F) features, dense or a torch sparse CSR tensor; no layer needs to know which. edges: between N nodes.
    rows: (N,) which row of x each node shows; None = its own. A view that swaps features changes `rows`, never copies x.

    >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 0]]), torch.ones(2, 3))
    >>> graph.num_nodes, graph.num_edges, graph.num_features
    (2, 2, 3)
    """

    x: Tensor
    edges: Edges
    rows: Tensor | None = None

    @classmethod
    def from_edges(cls, edge_index: Tensor, x: Tensor, *, undirected: bool = False) -> Graph:
        """From (2, E) edges, coalesced, and (N, F) features, stored sparse when fewer than 10 % of them differ from zero.

        undirected: add every edge's reverse.
        """
        if undirected:
            edge_index = torch.cat((edge_index, edge_index.flip(0)), dim=1)
        return cls(sparse_if_worthwhile(x), Edges.of(edge_index, x.shape[0]))

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.edges.num_nodes

    @property
    def num_edges(self) -> int:
        """E, directed edges, self-loops counted once."""
        return len(self.edges)

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[1]

    def features(self) -> Tensor:
        """(N, F) what each node shows, dense."""
        x = self.x.to_dense() if self.x.is_sparse_csr else self.x
        return x if self.rows is None else x[self.rows]

    def to(self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None, **options: Any) -> Graph:
        """The same graph on `device`, features in `dtype`."""
        rows = None if self.rows is None else self.rows.to(device, **options)
        return Graph(self.x.to(device=device, dtype=dtype, **options), self.edges.to(device, **options), rows)


def add_self_loops(graph: Graph) -> Graph:
    """The graph with exactly one self-loop at every node, whatever loops it had.

    >>> graph = Graph.from_edges(torch.tensor([[0, 0, 1], [0, 1, 0]]), torch.ones(3, 2))
    >>> add_self_loops(graph).edges.index.tolist()
    [[0, 1, 0, 1, 2], [0, 0, 1, 1, 2]]
    """
    nodes = torch.arange(graph.num_nodes, device=graph.edges.src.device)
    index = torch.cat((graph.edges.index, torch.stack((nodes, nodes))), dim=1)  # coalescing leaves one of each
    return replace(graph, edges=Edges.of(index, graph.num_nodes))


def drop_edges(graph: Graph, keep: Tensor) -> Graph:
    """The graph with the edges where keep (E,) is True; features are shared, nothing is sorted."""
    return replace(graph, edges=graph.edges.filtered(keep))


def _pointers(sorted_or_not: Tensor, num_nodes: int) -> Tensor:
    return _running(torch.bincount(sorted_or_not, minlength=num_nodes))


def _running(counts: Tensor) -> Tensor:
    """(n + 1,) how much came before each place."""
    total = torch.zeros(counts.numel() + 1, dtype=torch.long, device=counts.device)
    torch.cumsum(counts, 0, out=total[1:])
    return total


def _spread(indptr: Tensor, node: Tensor, head: Tensor) -> Tensor:
    """(H, E) where edge e of a list sorted by `node` goes when each node's edges are laid out once per head."""
    edge = torch.arange(node.numel(), device=node.device)
    return edge + (head.shape[0] - 1) * indptr[node] + head * indptr.diff()[node]
