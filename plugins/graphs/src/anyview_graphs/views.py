"""Views of one graph: hide nodes, drop edges, hide columns of the features."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import Mask, View, ViewSet
from anyview_graphs.dropout import check_rate
from anyview_graphs.graph import Graph, drop_edges
from anyview_graphs.sparse import csr


class MaskNodes(ViewMaker):
    """Hides the features of a share of the nodes (GraphMAE, Hou et al., 2022, arXiv 2205.10803).

    mask_rate m: floor(m N) nodes are hidden. replace_rate r: of those, floor(r |M|) show the features of nodes drawn without replacement
    from all, floor((1 - r) |M|) show the mask token; because of the two floors one hidden node may show its own. drop_edge: share of the
    edges that the view's graph loses, each direction for itself; self-loops stay, exactly one per node.

    target: give the view the features (N, F) as its target, dense, for objectives that rebuild tensors.

    The view's data is a graph that shares x. The view of role "clean" is the batch's graph, untouched, with all edges. The batch's graph
    has one self-loop per node where the encoder needs one. Raises UserError when a rate is outside its range.

    >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]]), torch.eye(4))
    >>> view = MaskNodes(0.5)(Batch(graph, rows=4), Draws.seeded(0, total=4)).views[0]
    >>> int(view.mask.hidden.sum()), int(view.mask.replaced.sum())
    (2, 2)
    """

    gives = Gives(roles=("view", "clean"), masks=True, targets=True, data="graph")

    def __init__(self, mask_rate: float = 0.5, *, replace_rate: float = 0.0, drop_edge: float = 0.0, target: bool = True) -> None:
        if not 0.0 < mask_rate < 1.0:
            raise UserError(f"mask_rate must lie between 0 and 1, {mask_rate} was given; choose a rate such as 0.5")
        self.mask_rate = mask_rate
        self.replace_rate = check_rate("replace_rate", replace_rate)
        self.drop_edge, self.target = check_rate("drop_edge", drop_edge), target
        self.gives = replace(self.gives, targets=target)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        graph: Graph = batch.data
        mask, rows = self._hide(graph, draws)
        shown = Graph(graph.x, without_edges(graph, self.drop_edge, draws).edges, rows)
        view = View(shown, mask=mask, target=graph.features() if self.target else None, index=batch.index, groups=batch.groups)
        return ViewSet([view, View(graph, role="clean", index=batch.index, groups=batch.groups)], labels=batch.labels)

    def _hide(self, graph: Graph, draws: Draws) -> tuple[Mask, Tensor | None]:
        """The mask, and which row of x each node shows (None = all their own)."""
        nodes = graph.num_nodes
        count = _floor(self.mask_rate * nodes)
        if count == 0:
            raise UserError(f"mask_rate {self.mask_rate} hides none of {nodes} nodes; choose a larger rate or a larger graph")
        hidden = draws.permutation(nodes)[:count]
        if self.replace_rate == 0.0:
            return Mask(_marked(hidden, nodes)), graph.rows
        hidden_again = hidden[draws.permutation(count)]
        noisy = _floor(self.replace_rate * count)
        tokens, noise = hidden_again[: _floor((1.0 - self.replace_rate) * count)], hidden_again[count - noisy :]
        own = torch.arange(nodes, device=hidden.device) if graph.rows is None else graph.rows
        rows = own.index_copy(0, noise, own[draws.permutation(nodes)[:noisy]])
        return Mask(_marked(hidden, nodes), _marked(tokens, nodes)), rows


class CorruptedPair(ViewMaker):
    """Two views of one graph, each without some edges and with some columns of the features set to zero.

    As in GRACE (Zhu et al., 2020, arXiv 2006.04131) and BGRL (Thakoor et al., 2022, arXiv 2102.06514).

    drop_edges, mask_features: each view's shares; every edge is dropped, and every column hidden from all nodes, with that probability.
    Self-loops stay, exactly one per node. symmetric: drop both directions of an edge together; published, and the default, is each for
    itself. Nodes are the rows: a graph of N nodes gives views of N. Raises UserError when a share is outside [0, 1).

    >>> graph = Graph.from_edges(torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1]]), torch.ones(2, 50))
    >>> views = CorruptedPair((0.0, 0.9))(Batch(graph, rows=2), Draws.seeded(1, total=2)).views
    >>> [view.data.num_edges for view in views], [bool(view.data.x.sum(0).eq(0).any()) for view in views]
    ([4, 2], [True, True])
    """

    gives = Gives(views=2, data="graph")

    def __init__(
        self,
        drop_edges: tuple[float, float] = (0.2, 0.4),
        mask_features: tuple[float, float] = (0.3, 0.4),
        *,
        symmetric: bool = False,
    ) -> None:
        self.drop_edges = [check_rate("drop_edges", rate) for rate in drop_edges]
        self.mask_features = [check_rate("mask_features", rate) for rate in mask_features]
        self.symmetric = symmetric

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        graphs = [self._corrupted(batch.data, *rates, draws) for rates in zip(self.drop_edges, self.mask_features, strict=True)]
        return ViewSet([View(graph, index=batch.index, groups=batch.groups) for graph in graphs], labels=batch.labels)

    def _corrupted(self, graph: Graph, drop_edge: float, mask_feature: float, draws: Draws) -> Graph:
        kept = without_edges(graph, drop_edge, draws, symmetric=self.symmetric)
        return replace(kept, x=without_columns(graph.x, mask_feature, draws))


def without_edges(graph: Graph, rate: float, draws: Draws, *, symmetric: bool = False) -> Graph:
    """The graph without a random share of its edges; self-loops stay. symmetric: an edge and its reverse share one draw."""
    if rate == 0.0:
        return graph
    edges = graph.edges
    chance = draws.shared_uniform(len(edges))
    if symmetric:
        low, high = torch.minimum(edges.src, edges.dst), torch.maximum(edges.src, edges.dst)
        chance = chance[torch.unique(low * edges.num_nodes + high, return_inverse=True)[1]]
    return drop_edges(graph, (chance >= rate) | edges.loops)


def without_columns(x: Tensor, rate: float, draws: Draws) -> Tensor:
    """Features (R, F), dense or CSR, with a random share of the columns zero in every row; the layout stays."""
    if rate == 0.0:
        return x
    keep = (draws.shared_uniform(x.shape[1]) >= rate).to(x.dtype)
    if not x.is_sparse_csr:
        return x * keep
    columns = x.col_indices()
    return csr(x.crow_indices(), columns, x.values() * keep[columns], (x.shape[0], x.shape[1]))


def _floor(share: float) -> int:
    """The floor of rate times count, where a rate such as 0.29 is not hit exactly by a binary number."""
    return math.floor(share + 1e-9)


def _marked(chosen: Tensor, length: int) -> Tensor:
    """(length,) bool, True at the chosen places."""
    return torch.zeros(length, dtype=torch.bool, device=chosen.device).index_fill_(0, chosen, True)
