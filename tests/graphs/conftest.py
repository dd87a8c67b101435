"""Small graphs, and a recorder of dropout masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anyview_graphs import dropout
from anyview_graphs.datasets import GraphSource, open_graph
from anyview_graphs.graph import Graph, add_self_loops


def random_graph(nodes: int = 14, features: int = 40, *, density: float = 0.06, seed: int = 0) -> Graph:
    """A directed graph with self-loops and non-negative features in float64; sparse below density 0.1, one row empty."""
    generator = torch.Generator().manual_seed(seed)
    adjacency = torch.rand(nodes, nodes, generator=generator) < 0.2
    x = torch.rand(nodes, features, generator=generator, dtype=torch.float64) + 0.1
    x = x * (torch.rand(nodes, features, generator=generator) < density)
    x[0], x[1:, 0] = 0.0, 1.0
    return add_self_loops(Graph.from_edges(adjacency.nonzero().t(), x))


@pytest.fixture
def graph() -> Graph:
    """Sparse features."""
    return random_graph()


@pytest.fixture
def dense_graph() -> Graph:
    """Dense features."""
    return random_graph(density=0.9)


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every dropout mask that is drawn, its factor included, in order."""
    drawn: list[Tensor] = []
    draw = dropout.keep_mask

    def record(shape: Sequence[int], rate: float, like: Tensor) -> tuple[Tensor, float]:
        keep, scale = draw(shape, rate, like)
        drawn.append(keep * scale)
        return keep, scale

    monkeypatch.setattr(dropout, "keep_mask", record)
    return drawn


@pytest.fixture
def cora(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> GraphSource:
    """Cora, or a skip."""
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    if not any((base / "Cora" / "raw").is_dir() for base in (data_root / "graphs", data_root)):
        pytest.skip("Cora's raw files are not under the data root")
    return open_graph("cora")
