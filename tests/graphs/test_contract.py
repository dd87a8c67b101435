"""The plugin's components keep the contracts that the training loop counts on."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from anyview.data.source import Batch
from anyview.testing import check_encoder, check_objective, check_source
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_graphs.datasets import digits
from anyview_graphs.encoders import GraphAttention, GraphConvolution, GraphIsomorphism
from anyview_graphs.graph import Graph, add_self_loops
from anyview_graphs.objectives import MaskedFeatures
from anyview_graphs.views import MaskNodes

ENCODERS = (GraphAttention, GraphConvolution, GraphIsomorphism)


def small_graph() -> Graph:
    """A ring of 24 nodes with dense features."""
    ring = torch.stack([torch.arange(24), torch.arange(24).roll(-1)])
    return add_self_loops(Graph.from_edges(ring, torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), undirected=True))


def batch() -> Batch:
    """The graph as the one batch of an epoch."""
    return Batch(small_graph(), rows=24, index=torch.arange(24))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders(encoder: type[GraphAttention]) -> None:
    view: View = MaskNodes(0.5)(batch(), Draws.seeded(0, total=24)).views[0]
    check_encoder(encoder(6, hidden=8), view)


@pytest.mark.parametrize("decoder", ["gat", "gcn", "gin", "mlp", "linear"])
def test_objectives(decoder: str) -> None:
    quiet = {"input_dropout": 0.0, "attention_dropout": 0.0}
    check_objective(
        lambda dim: MaskedFeatures(dim, decoder=decoder, **quiet),  # type: ignore[arg-type]
        make_views=lambda: MaskNodes(0.5, replace_rate=0.2),
        make_encoder=partial(GraphAttention, 6, hidden=8, **quiet),
        make_batch=batch,
    )


def test_view_maker_gives_what_it_says() -> None:
    first, again, other = (MaskNodes(0.5, replace_rate=0.2)(batch(), Draws.seeded(seed, total=24)).views[0] for seed in (0, 0, 1))
    assert torch.equal(first.mask.hidden, again.mask.hidden)
    assert torch.equal(first.data.rows, again.data.rows)
    assert not torch.equal(first.mask.hidden, other.mask.hidden)
    assert first.target is not None


def test_source() -> None:
    check_source(digits)
