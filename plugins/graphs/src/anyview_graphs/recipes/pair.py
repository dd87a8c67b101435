"""Two corrupted views of a graph, and any objective between them.

The views are those of GRACE (Zhu et al., Deep Graph Contrastive Representation Learning, 2020, arXiv 2006.04131) and BGRL (Thakoor et al.,
Large-Scale Representation Learning on Graphs via Bootstrapping, 2022, arXiv 2102.06514): each loses some edges and some columns of the
features. Rows are nodes and one graph is the whole batch, so that an objective that contrasts rows contrasts all nodes. With `core/simclr`
the loss is GRACE's (negatives from both views), with `core/byol` BGRL's with a projector.
"""

from __future__ import annotations

import functools

import torch

from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import ObjectiveSlot
from anyview.ranges import LogUniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Cosine
from anyview_graphs.datasets import open_graph
from anyview_graphs.encoders import EncoderKind, make_encoder
from anyview_graphs.layers import Activation, Norm
from anyview_graphs.views import CorruptedPair

PRESETS: Presets = {
    "cora": {"drop_edges": (0.2, 0.4), "mask_features": (0.3, 0.4), "norm": "none"},
    "citeseer": {"drop_edges": (0.2, 0.0), "mask_features": (0.3, 0.2)},
    "pubmed": {"drop_edges": (0.4, 0.1), "mask_features": (0.0, 0.2)},
    "digits": {"drop_edges": (0.2, 0.2), "mask_features": (0.2, 0.2), "epochs": 100},
    "demo": {"data": "digits"},
    "grid": {"data": "wine", "hidden": 16},
}
SMALL_BARLOW_TWINS = functools.partial(BarlowTwins, width=256, redundancy=1 / 256)
RANGES = {"lr": LogUniform(1e-4, 1e-2), "weight_decay": LogUniform(1e-6, 1e-3), "objective.redundancy": LogUniform(1e-4, 5e-2)}


@recipe(presets=PRESETS, views=CorruptedPair, ranges=RANGES)
def pair(
    data: str = "cora",
    *,
    encoder: EncoderKind = "gcn",
    hidden: int = 256,
    layers: int = 2,
    heads: int = 4,
    norm: Norm = "batch",
    activation: Activation = "prelu",
    input_dropout: float = 0.0,
    drop_edges: tuple[float, float] = (0.2, 0.4),
    mask_features: tuple[float, float] = (0.3, 0.4),
    symmetric: bool = False,
    objective: ObjectiveSlot = SMALL_BARLOW_TWINS,
    epochs: int = 200,
    lr: float = 2e-3,
    weight_decay: float = 1e-5,
    warmup: int = 20,
) -> Recipe:
    """Two views of a graph, each without some edges and columns of features, and any objective between their nodes.

    Args:
        data: a data set's name, or a graph of your own (.npz, edges.csv,features.csv, a saved PyG Data)
        encoder: kind of the encoder's layers
        hidden: width of every encoder layer's output
        layers: encoder layers
        heads: attention heads of a gat, each of width hidden / heads
        norm: after every encoder layer
        activation: after every encoder layer
        input_dropout: on every layer's input
        drop_edges: share of the edges that each view loses
        mask_features: share of the columns of the features that each view shows as zeros
        symmetric: drop both directions of an edge together, instead of each for itself as published
        objective: any objective over two views
        epochs: steps, one for the whole graph each
        lr: AdamW's learning rate, at its highest
        weight_decay: AdamW's
        warmup: steps of linear warm-up before the cosine
    """
    source = open_graph(data)
    network = make_encoder(
        encoder,
        source.shape["features"],
        hidden=hidden,
        layers=layers,
        heads=heads,
        norm=norm,
        activation=activation,
        input_dropout=input_dropout,
    )
    stage = Stage(
        tasks=[Task(CorruptedPair(drop_edges, mask_features, symmetric=symmetric), objective(hidden))],
        encoder=network,
        epochs=epochs,
        optimizer=functools.partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay),
        schedule=Cosine(warmup=warmup),
    )
    return Recipe(source=source, stages=[stage], embedder=stage.embedder)
