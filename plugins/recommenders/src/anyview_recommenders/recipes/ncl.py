"""NCL: a node is known by those two steps away in the graph, and by the prototype of those that are like it.

Lin, Tian, Hou, Zhao. Improving Graph Collaborative Filtering with Neighborhood-enriched Contrastive Learning. WWW 2022, arXiv 2202.06200.

Two layers on stand nodes of the same kind: a user's row there has to find the user's embedding among those of all users. After some
epochs embeddings are clustered by k-means, anew every so often, and each has to find its cluster's centre among all centres. The authors
sum over the batch and weigh by 1e-6 to 1e-8; here losses are means, with weights to match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import all_nodes, select, unique_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.losses import contrast_among
from anyview_recommenders.objectives import ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples


class NCL(Objective):
    """BPR, contrast of an even layer with the embeddings of all users or items, and contrast of embeddings with prototypes.

    dim: width of the encoder's rows. users, items: U and I. hops: the even layer is number 2·hops. structure, prototype: weights of the two
    contrasts. prototypes: how many centres users have, and items. temperature: of both. items_weight: of items against users, alpha in the
    paper. warmup: epochs before the first clustering; every: epochs between two. l2: as in BPR.
    Raises UserError for more prototypes than there are users or items, and where the encoder lacks the even layer.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive", "clustering")
    clustered: Tensor

    def __init__(
        self,
        dim: int,
        users: int,
        items: int,
        *,
        hops: int = 1,
        structure: float = 1e-3,
        prototype: float = 1e-4,
        prototypes: int = 1000,
        temperature: float = 0.1,
        items_weight: float = 1.0,
        warmup: int = 20,
        every: int = 1,
        l2: float = 1e-4,
    ) -> None:
        super().__init__()
        if not 1 <= prototypes <= min(users, items):
            raise UserError(f"{prototypes} prototypes were asked for, of {users:,} users and {items:,} items; choose fewer than either")
        self.hops, self.structure, self.prototype, self.temperature = hops, structure, prototype, temperature
        self.items_weight, self.warmup, self.every, self.l2 = items_weight, warmup, every, l2
        self.register_buffer("clustered", torch.zeros(()))
        for side, count in {"users": users, "items": items}.items():
            self.register_buffer(f"centres_of_{side}", torch.zeros(prototypes, dim))
            self.register_buffer(f"cluster_of_{side}", torch.zeros(count, dtype=torch.long))

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        if epoch < self.warmup or (epoch - self.warmup) % self.every:
            return
        encoder = next(look()).encoder
        assert isinstance(encoder, LightGraphConvolution)
        for side, rows in zip(("users", "items"), encoder.sides(encoder.embedding), strict=True):
            self._cluster(side, rows)
        self.clustered.fill_(1.0)

    def _cluster(self, side: str, rows: Tensor) -> None:
        """Make the centres of one side anew; seeded by torch's global generator, which is the same on all ranks."""
        centres, clusters = self.get_buffer(f"centres_of_{side}"), self.get_buffer(f"cluster_of_{side}")
        seed = int(torch.randint(2**31, ()))
        found = KMeans(len(centres), n_init=1, max_iter=20, random_state=seed).fit(rows.numpy(force=True))
        centres.copy_(torch.from_numpy(found.cluster_centers_))
        clusters.copy_(torch.from_numpy(found.labels_))

    def forward(self, step: Step) -> Losses:
        encoder = step.encoder
        assert isinstance(encoder, LightGraphConvolution)
        if 2 * self.hops > encoder.depth:
            raise UserError(f"{self.hops} hops need layer {2 * self.hops}, and the encoder has {encoder.depth} layers; give it more")
        whole, nodes = all_nodes(step), step.set.role("triples")[0].data["nodes"]
        terms = ranked(select(whole, nodes), self.l2)
        users, items = unique_nodes(nodes)
        layers = whole.layers or []
        near, own = encoder.sides(layers[2 * self.hops]), encoder.sides(layers[0])
        batch = (users, items - encoder.users)
        neighbours = [contrast_among(a[at], b, at, self.temperature) for a, b, at in zip(near, own, batch, strict=True)]
        likes = [self._like(side, rows[at], at) for side, rows, at in zip(("users", "items"), own, batch, strict=True)]
        terms["structure"] = self.structure * (neighbours[0] + self.items_weight * neighbours[1])
        terms["prototype"] = self.clustered * self.prototype * (likes[0] + self.items_weight * likes[1])
        return terms

    def _like(self, side: str, rows: Tensor, at: Tensor) -> Tensor:
        """Contrast of embeddings (M, D) of the users or items `at` with their clusters' centres, among all centres."""
        return contrast_among(rows, self.get_buffer(f"centres_of_{side}"), self.get_buffer(f"cluster_of_{side}")[at], self.temperature)


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "prototypes": 50, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "prototypes": 100, "epochs": 300},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "prototypes": 100, "epochs": 100},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "structure": LogUniform(1e-4, 1e-1),
    "prototype": LogUniform(1e-5, 1e-2),
    "temperature": LogUniform(0.05, 0.2),
    "prototypes": Integers(20, 200, log=True),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def ncl(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    deviation: float = 0.1,
    hops: int = 1,
    structure: float = 1e-3,
    prototype: float = 1e-4,
    prototypes: int = 1000,
    temperature: float = 0.1,
    items_weight: float = 1.0,
    warmup: int = 20,
    recluster: int = 1,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """NCL: nodes two steps away and prototypes of those alike (Lin et al., 2022, arXiv 2202.06200).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        hops: pairs of steps to the nodes that a node is contrasted with; layer 2 hops is read
        structure: weight of the contrast with neighbours
        prototype: weight of the contrast with prototypes
        prototypes: centres of users, and of items
        temperature: what cosines are divided by
        items_weight: of items against users
        warmup: epochs before the first clustering
        recluster: epochs between two clusterings
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
    objective = NCL(
        dim,
        source.shape["users"],
        source.shape["items"],
        hops=hops,
        structure=structure,
        prototype=prototype,
        prototypes=prototypes,
        temperature=temperature,
        items_weight=items_weight,
        warmup=warmup,
        every=recluster,
        l2=l2,
    )
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
