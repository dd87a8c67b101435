"""Views of one graph: hide nodes, drop edges."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import Mask, View, ViewSet
from anyview_graphs.dropout import check_rate
from anyview_graphs.graph import Graph, drop_edges


class MaskNodes(ViewMaker):
    """Hides the features of a share of the nodes (GraphMAE, Hou et al., 2022, arXiv 2205.10803).

    mask_rate m: floor(m N) nodes are hidden. replace_rate r: of those, floor(r |M|) show the features of nodes drawn without replacement
    from all, floor((1 - r) |M|) show the mask token; because of the two floors one hidden node may show its own. drop_edge: share of the
    edges that the view's graph loses, each direction for itself; self-loops stay, exactly one per node.

    The view's data is a graph that shares x; its target is the batch's graph, untouched, with all edges. The batch's graph has one
    self-loop per node where the encoder needs one. Raises UserError when a rate is outside its range.

    >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]]), torch.eye(4))
    >>> view = MaskNodes(0.5)(Batch(graph, rows=4), Draws.seeded(0, total=4)).views[0]
    >>> int(view.mask.hidden.sum()), int(view.mask.replaced.sum())
    (2, 2)
    """

    gives = Gives(views=1, masks=True, targets=True)

    def __init__(self, mask_rate: float = 0.5, *, replace_rate: float = 0.0, drop_edge: float = 0.0) -> None:
        if not 0.0 < mask_rate < 1.0:
            raise UserError(f"mask_rate must lie between 0 and 1, {mask_rate} was given; choose a rate such as 0.5")
        self.mask_rate = mask_rate
        self.replace_rate = check_rate("replace_rate", replace_rate)
        self.drop_edge = check_rate("drop_edge", drop_edge)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        graph: Graph = batch.data
        mask, rows = self._hide(graph, draws)
        edges = graph.edges
        if self.drop_edge > 0.0:
            keep = draws.shared_uniform(graph.num_edges) >= self.drop_edge
            edges = drop_edges(graph, keep | edges.loops).edges
        shown = Graph(graph.x, edges, rows)
        return ViewSet([View(shown, mask=mask, target=graph, index=batch.index)], labels=batch.labels)

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


def _floor(share: float) -> int:
    """The floor of rate times count, where a rate such as 0.29 is not hit exactly by a binary number."""
    return math.floor(share + 1e-9)


def _marked(chosen: Tensor, length: int) -> Tensor:
    """(length,) bool, True at the chosen places."""
    return torch.zeros(length, dtype=torch.bool, device=chosen.device).index_fill_(0, chosen, True)
