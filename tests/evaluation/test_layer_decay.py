"""Blocks of networks, and how many layers follow each parameter."""

from __future__ import annotations

import pytest
from torch import nn

from anyview.encoders.encoder import Streams, Wrapped
from anyview.encoders.mlp import MLP
from anyview.encoders.transformer import SequenceTransformer
from anyview.errors import UserError
from anyview.evaluation.layer_decay import blocks, depths


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3))
        self.norm = nn.LayerNorm(2)


def test_an_mlps_blocks_are_its_inner_layers():
    mlp = MLP(4, hidden=3, dim=2, layers=4)
    assert blocks(mlp) == list(mlp.inner)
    found = depths(mlp)
    assert [found[f"inner.{number}.0.weight"] for number in range(3)] == [3, 2, 1]
    assert found["last.weight"] == 0


def test_what_stands_before_the_blocks_is_slowest():
    found = depths(Deep())
    assert (found["stem.weight"], found["blocks.0.0.weight"], found["blocks.2.0.bias"], found["norm.weight"]) == (4, 3, 1, 0)


def test_stages_of_blocks_follow_each_other():
    def stage() -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    network = nn.Sequential(nn.Conv2d(1, 1, 1), stage(), stage(), nn.ReLU())
    assert [depths(network)[f"{outer}.{inner}.weight"] for outer, inner in ((1, 0), (1, 1), (2, 0), (2, 1))] == [4, 3, 2, 1]


def test_an_encoder_without_blocks_is_refused():
    with pytest.raises(UserError, match="Wrapped has no blocks; leave it at 1"):
        depths(Wrapped(nn.Linear(2, 2), dim=2))


def test_streams_have_blocks_too():
    assert len(blocks(Streams({"a": MLP(2, hidden=3, dim=2), "b": MLP(2, hidden=3, dim=2)}))) == 4


def test_the_map_to_tokens_stands_before_a_transformers_blocks():
    found = depths(SequenceTransformer(3, dim=8, depth=2, heads=2, masked=True, pool="class"))
    before, after = ("linear.weight", "linear.bias", "class_token", "mask_token"), ("blocks.norm.weight",)
    assert [found[name] for name in (*before, *after)] == [3, 3, 3, 3, 0]
    assert [found[f"blocks.blocks.{number}.attention.qkv.weight"] for number in range(2)] == [2, 1]
