"""A small log, steps over it, and the formulas of recommenders written out with dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder
from anyview.objectives.objective import Objective, Step
from anyview.views.draws import Draws
from anyview_recommenders.graph_convolution import Adjacency
from anyview_recommenders.views import Triples

USERS, ITEMS, DIM = 12, 15, 8


def small_log() -> csr_matrix:
    """A random log in which user 3 has nothing and item 5 is nobody's."""
    dense = np.random.default_rng(0).random((USERS, ITEMS)) < 0.3
    dense[3], dense[:, 5] = False, False
    return csr_matrix(dense.astype(np.float32))


def small_batch() -> Batch:
    """Every other interaction of the small log, in a random order, so that users and items come several times."""
    users, items = small_log().nonzero()
    order = np.random.default_rng(1).permutation(len(users))[::2]
    data = {"user": torch.from_numpy(users[order]).long(), "item": torch.from_numpy(items[order]).long()}
    return Batch(data, len(order), index=torch.from_numpy(order))


def small_triples() -> Triples:
    return Triples(small_log())


def step_of(encoder: Encoder, *, seed: int = 0, views: Any = None) -> Step:
    """A step over the small batch."""
    batch = small_batch()
    draws = Draws.seeded(seed, total=batch.rows)
    return Step((views or small_triples())(batch, draws), batch, draws, 0, 10, encoder)


def same(objective: Objective, encoder: Encoder, step: Step, expected: dict[str, Tensor]) -> None:
    """The objective's terms and their gradient to the embeddings are the expected ones."""
    found = objective(step)
    assert found.keys() == expected.keys()
    for name, term in found.items():
        torch.testing.assert_close(term, expected[name], rtol=1e-9, atol=1e-12)
        ours, theirs = (torch.autograd.grad(loss, [encoder.embedding], retain_graph=True)[0] for loss in (term, expected[name]))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def layers_of(graph: Adjacency | list[Adjacency], rows: Tensor, depth: int) -> list[Tensor]:
    """Rows and their dense products with the graph, or with that of each layer."""
    found = [rows]
    for layer in range(depth):
        matrix = (graph[layer] if isinstance(graph, list) else graph).matrix.to_dense()
        found.append(matrix @ found[-1])
    return found


def batch_nodes(step: Step) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Users, items and others of the triples, then users and items each once."""
    users, items, others = (part.tolist() for part in step.set.role("triples")[0].data["nodes"].chunk(3))
    return users, items, others, sorted(set(users)), sorted(set(items))


def bpr(rows: Tensor, step: Step) -> Tensor:
    users, items, others, *_ = batch_nodes(step)
    chances = [torch.sigmoid(rows[u] @ rows[p] - rows[u] @ rows[n]) for u, p, n in zip(users, items, others, strict=True)]
    return -torch.log(torch.stack(chances)).mean()


def half_squares(rows: Tensor, *nodes: list[int]) -> Tensor:
    return 0.5 * sum(rows[node] @ rows[node] for part in nodes for node in part) / len(nodes[0])


def info_nce(queries: Tensor, keys: Tensor, own: list[int], temperature: float) -> Tensor:
    """-log of the share that a query's own key has of exp(cosine / temperature) over all keys, a mean."""
    losses = []
    for query, place in zip(queries, own, strict=True):
        scores = torch.stack([torch.exp((query @ key) / (query.norm() * key.norm()) / temperature) for key in keys])
        losses.append(-torch.log(scores[place] / scores.sum()))
    return torch.stack(losses).mean()


def both_sides(a: Tensor, b: Tensor, step: Step, temperature: float) -> Tensor:
    """InfoNCE of two views of all nodes, among the batch's users and among its items."""
    *_, users, items = batch_nodes(step)
    return sum(info_nce(a[nodes], b[nodes], list(range(len(nodes))), temperature) for nodes in (users, items))
