"""The nodes of a batch as objectives need them: its triples, and each of its users and items once.

Contrast needs nodes once: a user who is there twice would be a negative of itself. Which nodes these are follows from the batch of all
ranks together, and every rank encodes all of them: the convolution is taken over the whole graph in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.encoders.encoder import Encoding
from anyview.objectives.objective import Step
from anyview.views.draws import derive_seed
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution, SelectedLayers


def unique_nodes(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The users and the positive items of all ranks' triples, each once and in ascending order: (M,) and (K,) int64.

    nodes: (3 b,) of this rank: b users, their items, the others.

    >>> [part.tolist() for part in unique_nodes(torch.tensor([1, 0, 1, 4, 4, 2, 3, 3, 3]))]
    [[0, 1], [2, 4]]
    """
    users, items, _ = gathered_nodes(nodes)
    return users.unique(), items.unique()


def gathered_nodes(nodes: Tensor) -> tuple[Tensor, ...]:
    """The users, their items and the others of all ranks' triples, (B,) int64 each; nodes: (3 b,) of this rank."""
    return gather_rows(torch.stack(nodes.chunk(3), 1)).unbind(1)


def encode_nodes(step: Step, **shown: Any) -> tuple[Encoding, Encoding]:
    """The encodings of the batch's users and of its items, each once, from one pass; shown: what else the view's data has."""
    users, items = unique_nodes(step.set.role("triples")[0].data["nodes"])
    encoding = step.encode(View({"nodes": torch.cat([users, items]), **shown}))
    of_users, of_items = parts(encoding, [len(users), len(items)])
    return of_users, of_items


def encode_batch(step: Step, *, at_most: int | None = None, **shown: Any) -> tuple[Encoding, Encoding, Encoding]:
    """The encodings of this rank's triples, 3 b rows, and of `encode_nodes`, all from one pass.

    at_most: of more users, or more items, so many are drawn, anew in each step and the same on every rank.
    """
    nodes = step.set.role("triples")[0].data["nodes"]
    users, items = (drawn(side, at_most, step, number) for number, side in enumerate(unique_nodes(nodes)))
    encoding = step.encode(View({"nodes": torch.cat([nodes, users, items]), **shown}))
    of_triples, of_users, of_items = parts(encoding, [len(nodes), len(users), len(items)])
    return of_triples, of_users, of_items


def drawn(nodes: Tensor, at_most: int | None, step: Step, number: int = 0) -> Tensor:
    """The nodes (M,), or at most so many of them, drawn without replacement in the order that they had: equal on all ranks.

    number: tells apart what is drawn in one step.
    """
    if at_most is None or len(nodes) <= at_most:
        return nodes
    seed = derive_seed(step.draws.generator.initial_seed(), "nodes", number)
    order = torch.randperm(len(nodes), generator=torch.Generator(nodes.device).manual_seed(seed), device=nodes.device)
    return nodes[order[:at_most].sort().values]


def parts(encoding: Encoding, lengths: Sequence[int]) -> list[Encoding]:
    """An encoding of nodes and its layers, cut into consecutive parts of these lengths."""
    rows = encoding.rows.split(list(lengths))
    return [replace(encoding, rows=own, layers=layers) for own, layers in zip(rows, _selected(encoding).split(lengths), strict=True)]


def all_nodes(step: Step, **shown: Any) -> Encoding:
    """The encoding of every user and item, with its layers, in the encoder's own order; shown: what else the view's data has."""
    encoder = step.encoder
    assert isinstance(encoder, LightGraphConvolution)
    return step.encode(View({"nodes": torch.arange(len(encoder.embedding), device=encoder.embedding.device), **shown}))


def select(encoding: Encoding, nodes: Tensor) -> Encoding:
    """The encoding of some nodes (M,), from that of all."""
    return replace(encoding, rows=encoding.rows.index_select(0, nodes), layers=_selected(encoding).select(nodes))


def _selected(encoding: Encoding) -> SelectedLayers:
    """An encoding's layers; those that are rows of its nodes already are all selected."""
    if isinstance(encoding.layers, SelectedLayers):
        return encoding.layers
    return SelectedLayers(encoding.layers or [], torch.arange(len(encoding.rows), device=encoding.rows.device))
