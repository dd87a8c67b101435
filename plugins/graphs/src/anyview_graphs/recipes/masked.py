"""A graph with some nodes hidden, and any objective that reads what they hid.

GraphMAE's views (Hou et al., GraphMAE: Self-Supervised Masked Graph Autoencoders, 2022, arXiv 2205.10803) with a slot: by default
GraphMAE's own objective, else one that predicts features, or rows that a teacher gives the untouched graph. `graphs/graphmae` is the paper
with its presets.
"""

from __future__ import annotations

import functools

import torch

from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview_graphs.datasets import open_graph
from anyview_graphs.encoders import EncoderKind, make_encoder
from anyview_graphs.layers import Norm
from anyview_graphs.objectives import MaskedFeatures
from anyview_graphs.views import MaskNodes

PRESETS: Presets = {
    "cora": {"replace_rate": 0.05, "weight_decay": 2e-4},
    "digits": {"norm": "batch"},
    "grid": {"data": "wine", "hidden": 16, "heads": 2},
}
RANGES = {
    "lr": LogUniform(1e-4, 1e-2),
    "weight_decay": LogUniform(1e-6, 1e-3),
    "mask_rate": Uniform(0.3, 0.8),
    "replace_rate": Uniform(0.0, 0.2),
}


@recipe(presets=PRESETS, views=MaskNodes, ranges=RANGES)
def masked(
    data: str = "cora",
    *,
    encoder: EncoderKind = "gat",
    hidden: int = 256,
    layers: int = 2,
    heads: int = 4,
    norm: Norm = "none",
    input_dropout: float = 0.2,
    attention_dropout: float = 0.1,
    mask_rate: float = 0.5,
    replace_rate: float = 0.0,
    drop_edge: float = 0.0,
    objective: ObjectiveSlot = MaskedFeatures,
    epochs: int = 300,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
) -> Recipe:
    """A graph with the features of some nodes hidden, and any objective that predicts what they hid.

    Args:
        data: a data set's name, or a graph of your own (.npz, edges.csv,features.csv, a saved PyG Data)
        encoder: kind of the encoder's layers
        hidden: width of every encoder layer's output
        layers: encoder layers
        heads: attention heads of a gat, each of width hidden / heads
        norm: after every encoder layer
        input_dropout: on every layer's input
        attention_dropout: on the attention weights
        mask_rate: share of the nodes that are hidden
        replace_rate: share of those that show another node's features instead of the token
        drop_edge: share of the edges that the encoder does not see
        objective: any objective over masked views of rows
        epochs: steps, one for the whole graph each
        lr: Adam's learning rate, which falls to 0 along half a cosine
        weight_decay: L2 in the gradient
    """
    source = open_graph(data)
    network = make_encoder(
        encoder,
        source.shape["features"],
        hidden=hidden,
        layers=layers,
        heads=heads,
        norm=norm,
        input_dropout=input_dropout,
        attention_dropout=attention_dropout,
    )
    made = objective(hidden)
    views = MaskNodes(mask_rate, replace_rate=replace_rate, drop_edge=drop_edge, target=made.needs.targets)
    stage = Stage(
        tasks=[Task(views, made)],
        encoder=network,
        epochs=epochs,
        optimizer=functools.partial(torch.optim.Adam, lr=lr, weight_decay=weight_decay),
        schedule=Cosine(),
    )
    return Recipe(source=source, stages=[stage], embedder=stage.embedder)
