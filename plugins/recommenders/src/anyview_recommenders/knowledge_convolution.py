"""Convolution over a knowledge graph: entities gather what triples say of them, and users gather their items.

What an entity can be said to be is a fact: a relation with a tail. Triples are the entries of a sparse matrix of entities by facts, so that
messages along them, and attention to them, are sparse products, and nothing is made of the size of triples times width.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.encoders.encoder import Encoder, Encoding
from anyview.views.view import View
from anyview_recommenders.dropout import message_dropout, seeded
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.sparse_product import SparsePattern


class KnowledgeTriples(nn.Module):
    """The triples of a knowledge graph and their inverses, 2T = K, as entries of a pattern of entities by facts.

    relation, inverse: (K,) int64, of each entry its relation, 0 .. 2R - 1, and the entry that says it the other way round. fact_relation,
    fact_tail: (F,) int64, what each fact is. Inverses of relation r have the relation R + r.

    >>> triples = KnowledgeTriples(KnowledgeGraph(1, 2, np.array([0]), np.array([0]), np.array([1]), np.array(["genre"], dtype=object)))
    >>> triples.relation.tolist(), triples.heads.tolist(), triples.tails.tolist(), triples.inverse.tolist()
    ([0, 1], [0, 1], [1, 0], [1, 0])
    """

    relation: Tensor
    inverse: Tensor
    fact_relation: Tensor
    fact_tail: Tensor

    def __init__(self, graph: KnowledgeGraph) -> None:
        super().__init__()
        heads, relations, tails = graph.both_ways()
        facts, fact = np.unique(relations * graph.entities + tails, return_inverse=True)
        order = np.lexsort((fact, heads))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self.relations = 2 * len(graph.relations)
        self.pattern = SparsePattern(sparse.csr_array((np.ones(len(heads)), (heads, fact)), shape=(graph.entities, len(facts))))
        buffers = {
            "relation": relations[order],
            "inverse": place[(order + len(graph.head)) % max(1, len(order))],
            "fact_relation": facts // graph.entities,
            "fact_tail": facts % graph.entities,
        }
        for name, buffer in buffers.items():  # a run keeps the triples themselves, so they are no weights
            self.register_buffer(name, torch.from_numpy(buffer), persistent=False)

    def __len__(self) -> int:
        return len(self.pattern)

    @property
    def heads(self) -> Tensor:
        """(K,) the entity that each entry is said of."""
        return self.pattern.rows

    @property
    def tails(self) -> Tensor:
        """(K,) the entity that it is said with."""
        return self.fact_tail.index_select(0, self.pattern.columns)

    def facts(self, entities: Tensor, relations: Tensor) -> Tensor:
        """e_r ⊙ e_t for every fact, (F, D), from rows of entities (E, D) and of relations (2R, D)."""
        return entities.index_select(0, self.fact_tail) * relations.index_select(0, self.fact_relation)


class KnowledgeConvolution(Encoder):
    """Embeddings of users and entities, and in each hop entities gather facts and users their items; rows are sums over hops.

    graph: the triples. matrix: (U, I) CSR of the training interactions. dim: D. hops: layers. deviation: of the normal distribution that
    embeddings start from. dropout: the share of messages' numbers that a view with a seed loses.

    After each hop what was gathered loses that share, is brought to length 1, and is added. How a hop gathers is up to subclasses (`hop`).

    It reads views whose data has "nodes", (M,) int64 of users 0 .. U - 1, items U .. U + I - 1 and other entities behind them; perhaps
    "triples", (K,) bool of those that are shown; "interactions", (n,) what each training interaction is multiplied by; and "seed", an
    integer that dropout follows from. In training `layers` are the embeddings alone. Views of evaluation have nodes alone, so that nothing
    is left out there.
    """

    def __init__(
        self, graph: KnowledgeGraph, matrix: csr_matrix, dim: int = 64, *, hops: int = 2, deviation: float = 0.1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.dim, self.hops, self.dropout = dim, hops, check_rate("dropout", dropout)
        self.users, self.items = matrix.shape
        self.embedding = nn.Parameter(deviation * torch.randn(self.users + graph.entities, dim))
        self.triples = KnowledgeTriples(graph)
        self.relations = nn.Parameter(deviation * torch.randn(self.triples.relations, dim))
        self.interactions = SparsePattern(matrix)

    def forward(self, view: View) -> Encoding:
        nodes = view.data["nodes"]
        return Encoding(self.whole(view).index_select(0, nodes), layers=[self.embedding.index_select(0, nodes)] if self.training else None)

    def whole(self, view: View) -> Tensor:
        """The rows (U + E, D) of all users and entities."""
        users, entities = self.embedding[: self.users], self.entities
        generator = seeded(view, self.embedding.device)
        weights = self.interactions.shares() * view.data.get("interactions", 1.0)
        total: Tensor = self.embedding
        for _ in range(self.hops):
            of_entities = self.hop(entities, view.data.get("triples"))
            users = self.of_users(users, self.interactions(weights, entities[: self.items]))
            rows = normalize(message_dropout(torch.cat([users, of_entities]), self.dropout, generator))
            users, entities, total = rows[: self.users], rows[self.users :], total + rows
        return total

    @property
    def entities(self) -> Tensor:
        """The embeddings of items and other entities, (E, D)."""
        return self.embedding[self.users :]

    def hop(self, entities: Tensor, shown: Tensor | None) -> Tensor:
        """What entities (E, D) gather along the triples that are shown, (K,) bool or all: (E, D)."""
        raise NotImplementedError(f"{type(self).__name__} must define hop")

    def of_users(self, users: Tensor, gathered: Tensor) -> Tensor:
        """Users' next rows (U, D), from their rows and the mean of their items (U, D); here the latter."""
        return gathered
