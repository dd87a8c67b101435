"""DirectAU: users lie close to their items, and users and items each spread over the sphere; no negatives.

Wang, Yu, Ma, Zhang, Chen, Liu, Ma. Towards Representation Alignment and Uniformity in Collaborative Filtering. KDD 2022, arXiv 2206.12811.

The encoder is LightGCN's, or with no layers matrix factorisation.
"""

from __future__ import annotations

from anyview.objectives.align_uniform import alignment
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import encode_batch
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.losses import spread, squared_length
from anyview_recommenders.objectives import embeddings, triples
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class DirectAU(Objective):
    """Alignment of the batch's pairs, and mean uniformity of its users and of its items, each node once.

    dim: width of the encoder's rows. uniformity: its weight, gamma in the paper. l2: half the weight of the squared lengths of the
    embeddings of the pairs, over the batch.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, uniformity: float = 1.0, l2: float = 1e-6) -> None:
        super().__init__()
        self.uniformity, self.l2 = uniformity, l2

    def forward(self, step: Step) -> Losses:
        batch, users, items = encode_batch(step)
        own, positives, _ = triples(batch.rows)
        terms = Losses(alignment=alignment(own, positives), uniformity=self.uniformity * spread(users.rows, items.rows))
        if self.l2:
            terms["l2"] = self.l2 * squared_length(*triples(embeddings(batch))[:2])
        return terms


PRESETS: Presets = {
    "generated": {"uniformity": 0.5, "epochs": 100},
    "lastfm": {"uniformity": 0.5, "epochs": 200},
    "ml-latest-small": {"uniformity": 0.5, "epochs": 100},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(3e-4, 1e-2),
    "uniformity": LogUniform(0.2, 5.0),
    "l2": LogUniform(1e-8, 1e-4),
    "layers": Integers(0, 3),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def direct_au(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    uniformity: float = 2.0,
    l2: float = 1e-6,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """DirectAU: users close to their items, both spread over the sphere (Wang et al., 2022, arXiv 2206.12811).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        uniformity: weight of uniformity
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **(reading or {}))
    catalogue = Catalogue.of(source)
    network = LightGraphConvolution(catalogue.train, dim, layers=layers, deviation=deviation)
    objective = DirectAU(dim, uniformity=uniformity, l2=l2)
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
