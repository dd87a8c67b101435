"""GraphMAE: a masked autoencoder of node features.

Hou, Liu, Cen, Dong, Yang, Wang, Tang. GraphMAE: Self-Supervised Masked Graph Autoencoders. KDD 2022, arXiv 2205.10803.

Hide the features of some nodes (a few show another node's instead of the token), encode the graph, hide the same nodes' codes again, and
decode them from their neighbours' codes with one more graph layer. Only hidden nodes are judged, by the scaled cosine error.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import torch

from anyview.ranges import Choices, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Stage, Task, recipe
from anyview.schedules import Constant, Cosine
from anyview_graphs.datasets import open_graph
from anyview_graphs.decoders import DecoderKind
from anyview_graphs.encoders import EncoderKind, make_encoder
from anyview_graphs.layers import Norm
from anyview_graphs.objectives import MaskedFeatures
from anyview_graphs.views import MaskNodes


def _tuned(
    hidden: int, heads: int, layers: int, lr: float, weight_decay: float, epochs: int, mask_rate: float, alpha: float, **more: Any
) -> dict[str, Any]:
    """A row of the authors' table of settings."""
    row = {"hidden": hidden, "heads": heads, "layers": layers, "lr": lr, "weight_decay": weight_decay, "epochs": epochs}
    return {**row, "mask_rate": mask_rate, "alpha": alpha, **more}


DEEP = {"norm": "layer", "residual": True, "probe_lr": 0.005, "probe_weight_decay": 0.0}
TUNED: Presets = {
    "cora": _tuned(512, 4, 2, 1e-3, 2e-4, 1500, 0.5, 3.0, replace_rate=0.05),
    "citeseer": _tuned(512, 2, 2, 1e-3, 2e-5, 300, 0.5, 1.0, replace_rate=0.1, probe_weight_decay=0.01),
    "pubmed": _tuned(1024, 4, 2, 1e-3, 1e-5, 1000, 0.75, 3.0),
    "ogbn-arxiv": _tuned(1024, 4, 3, 1e-3, 0.0, 1000, 0.5, 3.0, drop_edge=0.5, norm="layer", probe_weight_decay=5e-4, probe_epochs=600),
    "ppi": _tuned(1024, 4, 3, 1e-4, 0.0, 1000, 0.5, 3.0, replace_rate=0.1, probe_epochs=2000, **DEEP),
    "reddit": _tuned(512, 2, 4, 1e-3, 2e-4, 500, 0.75, 3.0, replace_rate=0.15, drop_edge=0.5, probe_epochs=500, **DEEP),
}
OURS: Presets = {
    "digits": {"lr": 1e-3, "epochs": 300, "norm": "batch"},
    "quick": {"epochs": 200},
    "demo": {"data": "digits"},
    "grid": {"data": "wine", "hidden": 16, "heads": 2},
}
PAPER = {
    "cora": "84.2 ± 0.4 accuracy, linear, 20 seeds",
    "citeseer": "73.4 ± 0.4 accuracy, linear, 20 seeds",
    "pubmed": "81.1 ± 0.4 accuracy, linear, 20 seeds",
    "ogbn-arxiv": "71.75 ± 0.17 accuracy, linear, 20 seeds",
    "ppi": "74.50 ± 0.29 micro-F1, linear, 5 seeds",
    "reddit": "96.01 ± 0.08 accuracy, linear, 5 seeds",
}
RANGES = {
    "lr": LogUniform(1e-4, 1e-2),
    "weight_decay": LogUniform(1e-6, 1e-3),
    "mask_rate": Uniform(0.3, 0.8),
    "replace_rate": Uniform(0.0, 0.2),
    "alpha": Choices(1.0, 2.0, 3.0),
}


@recipe(presets={**TUNED, **OURS}, views=MaskNodes, results=PAPER, ranges=RANGES)
def graphmae(
    data: str = "cora",
    *,
    encoder: EncoderKind = "gat",
    decoder: DecoderKind = "gat",
    hidden: int = 256,
    layers: int = 2,
    heads: int = 4,
    norm: Norm = "none",
    residual: bool = False,
    input_dropout: float = 0.2,
    attention_dropout: float = 0.1,
    mask_rate: float = 0.5,
    replace_rate: float = 0.0,
    drop_edge: float = 0.0,
    loss: Literal["sce", "mse"] = "sce",
    alpha: float = 2.0,
    concat_hidden: bool = False,
    epochs: int = 200,
    lr: float = 0.005,
    weight_decay: float = 5e-4,
    cosine: bool = True,
    probe_lr: float = 0.01,
    probe_weight_decay: float = 1e-4,
    probe_epochs: int = 300,
) -> Recipe:
    """GraphMAE: rebuild the features of hidden nodes (Hou et al., 2022, arXiv 2205.10803).

    Args:
        data: a data set's name, or a graph of your own (.npz, edges.csv,features.csv, a saved PyG Data)
        encoder: kind of the encoder's layers
        decoder: kind of the decoder's one layer
        hidden: width of every encoder layer's output
        layers: encoder layers
        heads: attention heads, each of width hidden / heads
        norm: after every encoder layer
        residual: around every encoder layer
        input_dropout: on every layer's input
        attention_dropout: on the attention weights
        mask_rate: share of the nodes that are hidden
        replace_rate: share of those that show another node's features instead of the token
        drop_edge: share of the edges that the encoder does not see
        loss: scaled cosine error or mean squared error
        alpha: exponent of the scaled cosine error, at least 1
        concat_hidden: let the decoder read all encoder layers side by side
        epochs: steps, one for the whole graph each
        lr: Adam's learning rate
        weight_decay: L2 in the gradient
        cosine: let the learning rate fall to 0 along half a cosine
        probe_lr: learning rate of the linear probe that goes with the method
        probe_weight_decay: its L2 in the gradient
        probe_epochs: its epochs
    """
    source = open_graph(data)
    network = make_encoder(
        encoder,
        source.shape["features"],
        hidden=hidden,
        layers=layers,
        heads=heads,
        norm=norm,
        residual=residual,
        input_dropout=input_dropout,
        attention_dropout=attention_dropout,
    )
    objective = MaskedFeatures(
        hidden,
        decoder=decoder,
        loss=loss,
        alpha=alpha,
        input_dropout=input_dropout,
        attention_dropout=attention_dropout,
        norm=norm,
        concat_hidden=layers if concat_hidden else 1,
    )
    stage = Stage(
        tasks=[Task(MaskNodes(mask_rate, replace_rate=replace_rate, drop_edge=drop_edge, target=False), objective)],
        encoder=network,
        epochs=epochs,
        optimizer=functools.partial(torch.optim.Adam, lr=lr, weight_decay=weight_decay, fused=True),
        schedule=Cosine() if cosine else Constant(),
    )
    probe = {"linear": {"lr": probe_lr, "weight_decay": probe_weight_decay, "epochs": probe_epochs}}
    return Recipe(source=source, stages=[stage], embedder=network, probe=probe)
