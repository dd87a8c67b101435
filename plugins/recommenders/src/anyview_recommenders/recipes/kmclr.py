"""KMCLR: what users do in several ways, and what a knowledge graph says of items, each a branch, of which users are a mixture.

Xuan, Liu, Li, Yin. Knowledge Enhancement for Multi-Behavior Contrastive Recommendation. WSDM 2023, arXiv 2301.05403.

One branch is CML's convolution: every behaviour is ranked, and a user's row of the target is contrasted with those of others. The other is
a light graph convolution over the target, whose items gather entities by attention from two tables, one taught by TransR and one by TATEC.
Its views lose half of the triples and some interactions: those stay that users like, of items whose rows from two halves of the triples
agree. Users are ranked by nine tenths of the first branch and one of the second, items by the first.

The authors alternate: an epoch of passes over triples, then for each batch a step of one branch and a step of the other. Here all of it is
one step. How much a user likes an item is a softmax over the user's own items, where the authors take all, and an item has as many
entities as triples say, where they draw 10. Losses are means, not sums over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.view import View
from anyview_recommenders.behaviour_views import BehaviourBatch, BehaviourTriples
from anyview_recommenders.beside import behaviours_of, knowledge_of
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.fused_convolution import FusedConvolution, fused_losses
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_branch import ENERGIES, KnowledgeBranch, TripleEnergy
from anyview_recommenders.knowledge_views import KnowledgeViews, from_least_to_largest
from anyview_recommenders.losses import bpr_loss, node_contrast
from anyview_recommenders.sparse_product import SparsePattern
from anyview_recommenders.training import trained

LEAST = 0.6
"""The least chance that an interaction stays in a view."""


class KnowledgeOfBehaviours(FusedConvolution):
    """A FusedConvolution whose users are mixed with those of a knowledge branch.

    graph: the triples. behaviours: (U, I) CSR of each by name, the target last. share: of the knowledge branch in users' rows, 0 to 1.
    known_layers: of its convolution. All else as in FusedConvolution. A view's data may have "known" (U + I, D), the branch's rows where
    they are there already. Raises UserError for a share outside [0, 1].

    >>> graph = KnowledgeGraph(3, 4, np.array([0]), np.array([0]), np.array([3]), np.array(["genre"], dtype=object))
    >>> encoder = KnowledgeOfBehaviours(graph, {"view": csr_matrix(np.ones((2, 3))), "buy": csr_matrix(np.eye(2, 3))}, dim=4)
    >>> encoder(View({"nodes": torch.tensor([0, 4, 1])})).rows.shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        graph: KnowledgeGraph,
        behaviours: Mapping[str, csr_matrix],
        dim: int = 64,
        *,
        layers: int = 3,
        known_layers: int = 3,
        share: float = 0.1,
        deviation: float = 0.1,
        slope: float = 0.5,
        map_rate: float = 0.01,
    ) -> None:
        super().__init__(behaviours, dim, layers=layers, deviation=deviation, slope=slope, map_rate=map_rate)
        if not 0 <= share <= 1:
            raise UserError(f"users are mixed of two branches, and the share of knowledge is {share:g}; give one from 0 to 1, such as 0.1")
        self.share = share
        target = list(behaviours.values())[-1]
        self.branch = KnowledgeBranch(graph, target, dim, layers=known_layers, deviation=deviation)
        self.pairs = SparsePattern(target)

    def forward(self, view: View) -> Encoding:
        encoding, nodes = super().forward(view), view.data["nodes"]
        known = view.data["known"] if "known" in view.data else self.branch.whole()
        share = self.share * (nodes < self.users)[:, None]
        return replace(encoding, rows=(1 - share) * encoding.rows + share * known.index_select(0, nodes))

    def chances(self, first: Tensor, second: Tensor) -> Tensor:
        """How likely each interaction of the target is to stay in a view, (n,): 0.6, and up to 1 the more it is liked and its item is sure.

        first, second: items' rows (I, D) from two halves of the triples. Liked is the softmax over a user's items of the product of their
        embeddings, sure the cosine of the two rows; of what comes of them the least counts 0 and the largest 1.
        """
        liked = self.pairs.softmax(self.pairs.products(self.branch.embedding, self.branch.gathered()))
        sure = cosine_similarity(first, second).index_select(0, self.pairs.columns)
        return LEAST + (1 - LEAST) * from_least_to_largest(liked * sure)


class KMCLR(Objective):
    """BPR of every behaviour and contrast of them; BPR by knowledge, contrast of two of its views, and energies of triples.

    dim: width of the encoder's rows. interactions: n, of the target for training. relations: 2R, of the triples and their inverses; 0 where
    there are none. weight, temperature: of the contrast of behaviours, a sum over them of means over users. auxiliary: weight of BPR of
    each behaviour beside the target. known: of BPR by the knowledge branch. known_weight, known_temperature: of InfoNCE of its views, of
    the batch's users and of its items. energy: of triples, as many as the batch has rows. rate: share of the triples that a view loses. l2:
    weight of half the squared lengths of the batch's embeddings.
    """

    needs = Needs(views=0, roles=("behaviours",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        interactions: int,
        relations: int,
        *,
        weight: float = 0.005,
        temperature: float = 0.5,
        auxiliary: float = 1.0,
        known: float = 1.0,
        known_weight: float = 0.1,
        known_temperature: float = 0.2,
        energy: float = 1.0,
        rate: float = 0.5,
        l2: float = 1e-4,
    ) -> None:
        super().__init__()
        self.weight, self.temperature, self.auxiliary = weight, temperature, auxiliary
        self.known, self.known_weight, self.known_temperature = known, known_weight, known_temperature
        self.energy, self.l2 = energy, l2
        self.views = KnowledgeViews(interactions, rate)
        self.energies = nn.ModuleList([TripleEnergy(relations, dim, own) for own in ENERGIES] if relations else [])

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        encoder = next(look()).encoder
        assert isinstance(encoder, KnowledgeOfBehaviours)
        self.views.renew()
        halves = (encoder.branch.gathered(shown) for shown in self.views.halves(len(encoder.branch.triples)))
        self.views.stays.copy_(encoder.chances(*halves))

    def forward(self, step: Step) -> Losses:
        encoder, shown = step.encoder, BehaviourBatch.of(step)
        assert isinstance(encoder, KnowledgeOfBehaviours)
        branch, known = encoder.branch, encoder.branch.whole()
        of_behaviours = fused_losses(step, shown, self.weight, self.temperature, self.auxiliary, known=known)
        users, items, others = shown.target
        of_triples = bpr_loss(*(known.index_select(0, own) for own in (users, items, others)))
        terms = Losses(
            bpr=of_behaviours.ranking.total(),
            contrast=of_behaviours.contrast.total(),
            known=self.known * of_triples,
            views=self.known_weight * self.contrasted(branch, users.unique(), items.unique()),
            l2=self.l2 * (of_behaviours.length + branch.lengths(users, items, others)),
        )
        if len(self.energies):
            taught = [energy(step, branch.triples, table) for energy, table in zip(self.energies, branch.tables, strict=True)]
            terms["energy"] = self.energy * torch.stack(taught).sum()
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # InfoNCE's parts follow from how many users and items a batch has

    def contrasted(self, branch: KnowledgeBranch, users: Tensor, items: Tensor) -> Tensor:
        """InfoNCE between both views of users (M,), and between those of items (K,), each node once."""
        first, second = (branch.whole(**shown) for shown in self.views(len(branch.triples), branch.adjacency))
        sides = ((rows.index_select(0, own) for rows in (first, second)) for own in (users, items))
        return torch.stack([node_contrast(a, b, self.known_temperature) for a, b in sides]).sum()


PRESETS: Presets = {
    "generated-behaviours": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "grid": {"data": "generated-behaviours", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "layers": Integers(1, 3),
    "map_rate": LogUniform(1e-3, 1e-1),
    "share": Uniform(0.0, 0.5),
    "weight": LogUniform(1e-3, 0.5),
    "auxiliary": LogUniform(1e-2, 1.0),
    "known_weight": LogUniform(1e-2, 0.5),
}


@recipe(presets=PRESETS, views=BehaviourTriples, ranges=RANGES)
def kmclr(
    data: str = "generated-behaviours",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    known_layers: int = 3,
    share: float = 0.1,
    deviation: float = 0.1,
    slope: float = 0.5,
    map_rate: float = 0.01,
    weight: float = 0.005,
    temperature: float = 0.5,
    auxiliary: float = 1.0,
    known: float = 1.0,
    known_weight: float = 0.1,
    known_temperature: float = 0.2,
    energy: float = 1.0,
    rate: float = 0.5,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """KMCLR: several behaviours and a knowledge graph, each a branch with contrast of its own (Xuan et al., 2023, arXiv 2301.05403).

    Args:
        data: a data set's name, or a file or folder of interactions with behaviours
        reading: how they are read, filtered and split; see the options of open_interactions, of which target is the last behaviour and
            knowledge that of the data
        dim: width of the rows
        layers: graph convolutions of behaviours
        known_layers: graph convolutions of the knowledge branch
        share: of the knowledge branch in users' rows
        deviation: of the normal distribution that embeddings start from
        slope: of activations below 0 in the convolutions of behaviours
        map_rate: learning rate of the maps within and after these convolutions, as a share of lr
        weight: of the contrast of behaviours
        temperature: what its cosines are divided by
        auxiliary: weight of ranking each behaviour beside the target
        known: weight of ranking by the knowledge branch
        known_weight: of the contrast of its views
        known_temperature: what its cosines are divided by
        energy: weight of the energies of triples
        rate: share of the triples that a view loses
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the target's training interactions, at most
        batch_size: interactions of the target per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"target": "last", "knowledge": "own", **(reading or {})})
    behaviours = behaviours_of(source)
    network = KnowledgeOfBehaviours(
        knowledge_of(source),
        behaviours,
        dim,
        layers=layers,
        known_layers=known_layers,
        share=share,
        deviation=deviation,
        slope=slope,
        map_rate=map_rate,
    )
    objective = KMCLR(
        dim,
        network.branch.adjacency.size,
        network.branch.triples.relations,
        weight=weight,
        temperature=temperature,
        auxiliary=auxiliary,
        known=known,
        known_weight=known_weight,
        known_temperature=known_temperature,
        energy=energy,
        rate=rate,
        l2=l2,
    )
    return trained(source, network, [Task(BehaviourTriples(behaviours), objective)], epochs, batch_size, lr, look_every, patience)
