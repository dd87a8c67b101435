"""XSimGCL: one noisy pass for ranking and for contrast, between a node's last rows and one of its layers.

Yu, Xia, Chen, Cui, Hung, Yin. XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation. TKDE 2023, arXiv 2209.02544.

Noise is added after every layer; ranking is learned on the noisy rows, and these have to be found, among those of the batch, by what one of
the layers made of the same node. A step propagates once, as LightGCN's does. Recommendations are made without noise.
"""

from __future__ import annotations

import torch

from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import encode_batch
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.losses import node_contrast
from anyview_recommenders.noise import NoisyGraphConvolution, noisy
from anyview_recommenders.objectives import ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class XSimGCL(Objective):
    """BPR on noisy rows, and InfoNCE between them and one of the noisy layers, for users and for items.

    dim: width of the encoder's rows. layer: number of the layer that is contrasted, from 1; 0 are the embeddings. weight, temperature,
    noise: as in SimGCL. contrasted: of a batch's users, and of its items, at most so many are contrasted, drawn in each step; None for all,
    at a cost that grows with their square. l2: half the weight of the squared lengths of the embeddings of the batch's users and items,
    over the batch; those of the negatives are left free, as the authors leave them. Raises UserError where the encoder has no such layer,
    and for fewer than two contrasted nodes.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        *,
        layer: int = 1,
        weight: float = 0.2,
        temperature: float = 0.15,
        noise: float = 0.2,
        contrasted: int | None = None,
        l2: float = 1e-4,
    ) -> None:
        super().__init__()
        if contrasted is not None and contrasted < 2:
            raise UserError(f"a node is contrasted with others, and contrasted is {contrasted}; give 2 or more, or none for all")
        self.contrasted = contrasted
        self.layer, self.weight, self.temperature, self.noise, self.l2 = layer, weight, temperature, noise, l2

    def forward(self, step: Step) -> Losses:
        batch, users, items = encode_batch(step, at_most=self.contrasted, **noisy(step.draws, self.noise))
        terms = ranked(batch, self.l2, others=False)
        found = []
        for side in (users, items):
            layers = side.layers or []
            if not 0 <= self.layer < len(layers):
                raise UserError(f"layer {self.layer} is to be contrasted, and the encoder has layers 0 to {len(layers) - 1}; choose one")
            found.append(node_contrast(side.rows, layers[self.layer], self.temperature))
        terms["contrast"] = self.weight * torch.stack(found).sum()
        return terms


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "weight": 0.1, "noise": 0.1, "temperature": 0.2, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "weight": 0.1, "noise": 0.1, "temperature": 0.2, "epochs": 200},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "weight": 0.1, "noise": 0.1, "temperature": 0.2, "epochs": 100},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "weight": LogUniform(1e-2, 0.5),
    "temperature": LogUniform(0.05, 0.5),
    "noise": LogUniform(0.02, 0.5),
    "layer": Integers(1, 3),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def xsimgcl(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    layer: int = 1,
    weight: float = 0.2,
    temperature: float = 0.15,
    noise: float = 0.2,
    contrasted: int | None = None,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """XSimGCL: one noisy pass, contrasted with one of its layers (Yu et al., 2023, arXiv 2209.02544).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        layer: number of the layer that is contrasted, from 1
        weight: of the contrast
        temperature: what cosines are divided by
        noise: length of what is added to a node after each layer
        contrasted: of a batch's users, and of its items, at most so many are contrasted, drawn in each step; none for all
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = NoisyGraphConvolution(catalogue.train, dim, layers=layers, deviation=deviation)
    objective = XSimGCL(dim, layer=layer, weight=weight, temperature=temperature, noise=noise, contrasted=contrasted, l2=l2)
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
