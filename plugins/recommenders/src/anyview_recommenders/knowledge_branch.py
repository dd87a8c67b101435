"""Two tables of the entities of a knowledge graph, each taught by an energy of triples, whose items users gather from interactions.

Xuan, Liu, Li, Yin. Knowledge Enhancement for Multi-Behavior Contrastive Recommendation. WSDM 2023, arXiv 2301.05403. TransR: Lin, Liu,
Sun, Liu, Zhu. Learning Entity and Relation Embeddings for Knowledge Graph Completion. AAAI 2015. TATEC: Garcia-Duran, Bordes, Usunier,
Grandvalet. Combining Two and Three-Way Embedding Models for Link Prediction in Knowledge Bases. JAIR 2016, arXiv 1506.00999.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

from anyview.encoders.encoder import Encoding
from anyview.objectives.objective import Step
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.graph_convolution import Adjacency, convolve
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_convolution import KnowledgeTriples
from anyview_recommenders.losses import squared_length

Energy = Literal["transr", "tatec"]
SLOPE = 0.2
LENGTH = 1e-3
"""The weight of the squared lengths of what an energy is taken of."""


def transr(head: Tensor, relation: Tensor, tail: Tensor, maps: Tensor) -> Tensor:
    """|W h + r - W t|², the energy of triples (B,): rows (B, D) of heads, relations and tails, and maps (B, D, D) of relations.

    >>> transr(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1, 2), torch.eye(2)[None]).tolist()
    [8.0]
    """
    return (_mapped(maps, head - tail) + relation).square().sum(1)


def tatec(head: Tensor, relation: Tensor, tail: Tensor, maps: Tensor) -> Tensor:
    """h · W t + h · r + t · r + h · t, the energy of triples (B,): arguments as in `transr`.

    >>> tatec(torch.ones(1, 2), torch.ones(1, 2), 2 * torch.ones(1, 2), torch.eye(2)[None]).tolist()
    [14.0]
    """
    return (head * _mapped(maps, tail)).sum(1) + (head * relation + tail * relation + head * tail).sum(1)


def _mapped(maps: Tensor, rows: Tensor) -> Tensor:
    """W x of each of B rows (B, D) with its own map, (B, D, D)."""
    return torch.einsum("bij,bj->bi", maps, rows)


ENERGIES: dict[Energy, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {"transr": transr, "tatec": tatec}
"""That which each table is taught by, in their order."""


class EntityTable(nn.Module):
    """Embeddings of E entities and 2R relations, of which items gather what triples say of them.

    triples: of the graph. entities: E. items: I, the first of them. dim: D. deviation: of the normal distribution that embeddings start
    from. An item's row is its embedding and the sum of its tails', by attention: the softmax over its triples of LeakyReLU(w · [h; r; t]).
    """

    def __init__(self, triples: KnowledgeTriples, entities: int, items: int, dim: int, deviation: float) -> None:
        super().__init__()
        self.items = items
        self.entities = nn.Parameter(deviation * torch.randn(entities, dim))
        self.relations = nn.Parameter(deviation * torch.randn(triples.relations, dim))
        self.attend = nn.Linear(3 * dim, 1, bias=False)

    def forward(self, triples: KnowledgeTriples, shown: Tensor | None = None) -> Tensor:
        """The rows (I, D) of items by the triples that are shown, (K,) bool, or by all."""
        gathered = triples.pattern(self.attention(triples, shown), self.entities.index_select(0, triples.fact_tail))
        return self.entities[: self.items] + gathered[: self.items]

    def attention(self, triples: KnowledgeTriples, shown: Tensor | None = None) -> Tensor:
        """(K,): how much each triple counts for its head, which sum to 1; 0 for those that are not shown."""
        of_head, of_relation, of_tail = self.attend.weight[0].chunk(3)
        by_fact = (self.relations @ of_relation).index_select(0, triples.fact_relation)
        by_fact = by_fact + (self.entities @ of_tail).index_select(0, triples.fact_tail)
        logits = (self.entities @ of_head).index_select(0, triples.heads) + by_fact.index_select(0, triples.pattern.columns)
        return triples.pattern.softmax(leaky_relu(logits, SLOPE), shown)


class TripleEnergy(nn.Module):
    """Triples have less energy than those with another tail, by the embeddings of a table and a map of each relation.

    relations: 2R. dim: D. energy: "transr" or "tatec".
    """

    def __init__(self, relations: int, dim: int, energy: Energy) -> None:
        super().__init__()
        self.energy = ENERGIES[energy]
        self.maps = nn.Parameter(torch.eye(dim).repeat(relations, 1, 1))

    def forward(self, step: Step, triples: KnowledgeTriples, table: EntityTable) -> Tensor:
        """A mean of -log σ of the difference over triples that are drawn, as many as the batch has rows, and short rows."""
        options: dict[str, Any] = {"generator": step.draws.generator, "device": step.draws.device}
        drawn = torch.randint(len(triples), (step.draws.total,), **options)
        others = torch.randint(len(table.entities), (step.draws.total,), **options)
        relations = triples.relation.index_select(0, drawn)
        relation, maps = table.relations.index_select(0, relations), self.maps.index_select(0, relations)
        heads, tails = (ends.index_select(0, drawn) for ends in (triples.heads, triples.tails))
        head, true, false = (table.entities.index_select(0, own) for own in (heads, tails, others))
        above = self.energy(head, relation, true, maps) - self.energy(head, relation, false, maps)
        return softplus(above).mean() + LENGTH * squared_length(head, relation, true, false)


class KnowledgeBranch(LightGraphConvolution):
    """Users who gather items over the graph of interactions, items being the mean of two tables' rows by triples.

    graph: the triples. matrix: (U, I) CSR of the training interactions. dim: D. layers, deviation: as in LightGraphConvolution. Views as
    there, and perhaps "triples" (K,) bool of those that are shown; there are no `layers`.

    >>> graph = KnowledgeGraph(3, 4, np.array([0]), np.array([0]), np.array([3]), np.array(["genre"], dtype=object))
    >>> KnowledgeBranch(graph, csr_matrix(np.eye(2, 3)), dim=4).whole().shape
    torch.Size([5, 4])
    """

    def __init__(self, graph: KnowledgeGraph, matrix: csr_matrix, dim: int = 64, *, layers: int = 3, deviation: float = 0.1) -> None:
        super().__init__(matrix, dim, layers=layers, deviation=deviation)
        self.embedding = nn.Parameter(deviation * torch.randn(self.users, dim))  # users alone: items have tables
        self.triples = KnowledgeTriples(graph)
        self.tables = nn.ModuleList([EntityTable(self.triples, graph.entities, graph.items, dim, deviation) for _ in ENERGIES])

    def forward(self, view: View) -> Encoding:
        rows = self.whole(view.data.get("triples"), view.data.get("adjacency"))
        return Encoding(rows.index_select(0, view.data["nodes"]))

    def gathered(self, shown: Tensor | None = None) -> Tensor:
        """The rows (I, D) of items before the convolution, by the triples that are shown, (K,) bool, or by all."""
        return torch.stack([table(self.triples, shown) for table in self.tables]).mean(0)

    def whole(self, triples: Tensor | None = None, adjacency: Adjacency | None = None) -> Tensor:
        """The rows (U + I, D) of all users and items.

        triples: (K,) bool of those that are shown, by default all. adjacency: of the interactions, by default all.
        """
        start = torch.cat([self.embedding, self.gathered(triples)])
        return self.pooled(convolve(adjacency or self.adjacency, start, self.depth))

    def lengths(self, users: Tensor, items: Tensor, others: Tensor) -> Tensor:
        """Half the squared lengths of the embeddings of triples of nodes, (B,) each, over B; an item's is the mean of its tables'."""
        tables = torch.stack([cast("Tensor", table.entities) for table in self.tables]).mean(0)
        own = self.embedding.index_select(0, users)
        return squared_length(own, *(tables.index_select(0, side - self.users) for side in (items, others)))
