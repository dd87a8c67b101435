"""KGCL: a knowledge graph that has lost half of its triples says which interactions to trust, and views without the others are contrasted.

Yang, Huang, Xia, Li. Knowledge Graph Contrastive Learning for Recommendation. SIGIR 2022, arXiv 2205.00976. TransE: Bordes, Usunier,
Garcia-Durán, Weston, Yakhnenko. Translating Embeddings for Modeling Multi-relational Data. NeurIPS 2013.

Items gather entities by attention, and users and items then each other by a light graph convolution. An item whose rows from two halves of
the triples differ is one of which the graph says little that is sure, and each view keeps fewer of its interactions. The authors alternate
with passes of TransE over the triples; here it is a term of each step, left out by default. Losses are means, not sums over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, leaky_relu, normalize, softplus

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.view import View
from anyview_recommenders.batch_nodes import all_nodes, unique_nodes
from anyview_recommenders.beside import knowledge_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.dropout import dropping, message_dropout, seeded
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.graph_convolution import check_rate, convolve
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_convolution import KnowledgeTriples
from anyview_recommenders.knowledge_views import KnowledgeViews, from_least_to_largest
from anyview_recommenders.losses import contrast_among
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

SLOPE = 0.2
LEAST, MOST = 0.3, 0.95
"""The least weight of an item's interactions against others', and the largest chance that one stays."""


class RelationalAttention(LightGraphConvolution):
    """A light graph convolution over users and items, whose items start from what entities gather by attention to triples.

    graph: the triples. matrix: (U, I) CSR of the training interactions. dim: D. hops: along triples; layers: of the convolution. dropout:
    the share of messages' numbers that a view with a seed loses.

    In a hop an entity h gathers the sum of a e_t over its triples, a being the softmax over them of LeakyReLU(<W [e_h; e_t], e_r>); that is
    brought to length 1, and an item's row is the sum over hops. Without triples it is LightGraphConvolution. Views as there, and perhaps
    "triples" (K,) bool of those that are shown and "seed"; layers are the embeddings alone.

    >>> graph = KnowledgeGraph(3, 4, np.array([0]), np.array([0]), np.array([3]), np.array(["genre"], dtype=object))
    >>> RelationalAttention(graph, csr_matrix(np.eye(2, 3)), dim=4)(View({"nodes": torch.tensor([0, 4])})).rows.shape
    torch.Size([2, 4])
    """

    carried = 1.0
    """What a hop leaves of the sum over those before it."""

    def __init__(
        self, graph: KnowledgeGraph, matrix: csr_matrix, dim: int = 64, *, hops: int = 2, dropout: float = 0.1, **options: Any
    ) -> None:
        super().__init__(matrix, dim, **options)
        self.hops, self.dropout = hops, check_rate("dropout", dropout)
        deviation = options.get("deviation", 0.1)
        self.triples = KnowledgeTriples(graph)
        self.others = nn.Parameter(deviation * torch.randn(graph.entities - graph.items, dim))
        self.relations = nn.Parameter(deviation * torch.randn(self.triples.relations, dim))
        self.of_head, self.of_tail = (nn.Linear(dim, dim, bias=False) for _ in range(2))

    def forward(self, view: View) -> Encoding:
        nodes = view.data["nodes"]
        items = self.gathered(view)[: self.items]
        start = torch.cat([self.embedding[: self.users], items])
        layers = convolve(view.data.get("adjacency", self.adjacency), start, self.depth)
        rows = self.pooled(layers).index_select(0, nodes)
        return Encoding(rows, layers=[self.embedding.index_select(0, nodes)] if self.training else None)

    @property
    def entities(self) -> Tensor:
        """The embeddings of items and other entities, (E, D)."""
        return torch.cat([self.embedding[self.users :], self.others])

    def gathered(self, view: View) -> Tensor:
        """The rows of all entities (E, D), from the triples that a view shows."""
        generator = seeded(view, self.embedding.device)
        rows = total = self.entities
        for _ in range(self.hops):
            rows = normalize(message_dropout(self.hop(rows, view.data.get("triples")), self.dropout, generator))
            total = self.carried * total + rows
        return total

    def hop(self, entities: Tensor, shown: Tensor | None) -> Tensor:
        """What entities (E, D) gather along the triples that are shown, (K,) bool or all: (E, D)."""
        pattern = self.triples.pattern
        gathered: Tensor = pattern(self.attention(entities, shown), entities.index_select(0, self.triples.fact_tail))
        return gathered

    def attention(self, entities: Tensor, shown: Tensor | None = None) -> Tensor:
        """(K,): how much each triple counts for its head, which sum to 1; 0 for those that are not shown."""
        triples = self.triples
        by_relation = self.relations.index_select(0, triples.fact_relation)
        by_fact = (self.of_tail(entities).index_select(0, triples.fact_tail) * by_relation).sum(1)
        logits = triples.pattern.products(self.of_head(entities), by_relation) + by_fact.index_select(0, triples.pattern.columns)
        return triples.pattern.softmax(leaky_relu(logits, SLOPE), shown)


def chances(stability: Tensor, share: float) -> Tensor:
    """The chance that an item's interactions stay in a view, (I,), from the cosine of its rows from two halves of the triples, (I,).

    Weights are exp(stability), of which the smallest becomes 0 and the largest 1, and what is below 0.3 becomes that; a chance is `share`
    times the weight over the mean weight, at most 0.95.

    >>> chances(torch.tensor([0.0, 0.0, 1.0]), 0.4).round(decimals=3).tolist()
    [0.225, 0.225, 0.75]
    """
    weights = from_least_to_largest(stability.exp()).clamp(min=LEAST)
    return (share * weights / weights.mean()).clamp(max=MOST)


class KGCL(BPR):
    """BPR on all there is, and InfoNCE between two views that see half of the triples and the interactions of items that these agree on.

    dim: width of the encoder's rows. interactions: n, for training. weight, temperature: of InfoNCE, of the batch's users among all users,
    and of its items among all items. rate: share of the triples that a view loses. share: the chance that interactions of an item of mean
    weight stay, mu in the paper. translation: weight of TransE on as many triples as the batch has interactions. l2: as in BPR. An epoch's
    views follow from a seed and the items' chances, which are taken at its start. Raises UserError for shares that are none.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        interactions: int,
        *,
        weight: float = 0.1,
        temperature: float = 0.2,
        rate: float = 0.5,
        share: float = 0.7,
        translation: float = 0.0,
        l2: float = 1e-5,
    ) -> None:
        super().__init__(dim, l2=l2)
        if not 0 < share <= 1:
            raise UserError(f"the share of interactions that stay lies above 0 and is at most 1, and {share:g} was given; try 0.7")
        self.weight, self.temperature, self.share, self.translation = weight, temperature, share, translation
        self.views = KnowledgeViews(interactions, rate, min(share, MOST))

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        encoder = next(look()).encoder
        assert isinstance(encoder, RelationalAttention)
        self.views.renew()
        halves = self.views.halves(len(encoder.triples))
        first, second = (encoder.gathered(View({"triples": shown}))[: encoder.items] for shown in halves)
        of_items = chances(cosine_similarity(first, second), self.share)
        self.views.stays.copy_(of_items.index_select(0, encoder.adjacency.ends()[1] - encoder.users))

    def forward(self, step: Step) -> Losses:
        encoder, nodes = step.encoder, step.set.role("triples")[0].data["nodes"]
        assert isinstance(encoder, RelationalAttention)
        terms = ranked(step.encode(View({"nodes": nodes, **dropping(step.draws)})), self.l2)
        first, second = (
            all_nodes(step, **shown, **dropping(step.draws, number)).rows
            for number, shown in enumerate(self.views(len(encoder.triples), encoder.adjacency), 1)
        )
        users, items = unique_nodes(nodes)
        sizes = [encoder.users, encoder.items]
        found = []
        for a, b, own in zip(first.split(sizes), second.split(sizes), (users, items - encoder.users), strict=True):
            found.append(contrast_among(a.index_select(0, own), b, own, self.temperature))
        terms["contrast"] = self.weight * torch.stack(found).sum()
        if self.translation and len(encoder.triples):
            terms["translation"] = self.translation * self._translated(step, encoder)
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # InfoNCE's part follows from how many users and items there are

    def _translated(self, step: Step, encoder: RelationalAttention) -> Tensor:
        """TransE of triples drawn from all, each beside one whose tail is drawn from all entities."""
        triples, entities, draws = encoder.triples, encoder.entities, step.draws
        options: dict[str, Any] = {"generator": draws.generator, "device": draws.device}
        drawn = torch.randint(len(triples), (draws.total,), **options)
        tails = triples.tails.index_select(0, drawn), torch.randint(len(entities), (draws.total,), **options)
        moved = entities.index_select(0, triples.heads[drawn]) + encoder.relations.index_select(0, triples.relation[drawn])
        true, false = (entities.index_select(0, tail) for tail in tails)
        return translation_loss(moved, true, false) + 1e-3 * (moved.square() + true.square() + false.square()).sum(1).mean() / 2


def translation_loss(moved: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """Mean of softplus(|h + r - t|² - |h + r - t'|²): how far heads that relations move are from nearer to their tails than to others.

    moved: (M, D), h + r. true, false: (M, D), t and t'.

    >>> round(float(translation_loss(torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 3)).exp()), 4)
    2.0
    """
    return softplus((moved - true).square().sum(1) - (moved - false).square().sum(1)).mean()


PRESETS: Presets = {
    "generated-knowledge": {"lr": 5e-3, "l2": 1e-3, "epochs": 100},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "epochs": 60},
    "grid": {"data": "generated-knowledge", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "hops": Integers(1, 3),
    "weight": LogUniform(1e-2, 0.5),
    "temperature": LogUniform(0.05, 0.5),
    "share": Uniform(0.5, 0.95),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def kgcl(
    data: str = "ml-latest-small",
    *,
    reading: Reading = None,
    dim: int = 64,
    hops: int = 2,
    layers: int = 2,
    deviation: float = 0.1,
    weight: float = 0.1,
    temperature: float = 0.2,
    rate: float = 0.5,
    share: float = 0.7,
    translation: float = 0.0,
    dropout: float = 0.1,
    l2: float = 1e-5,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """KGCL: views without the interactions that a knowledge graph does not bear out (Yang et al., 2022, arXiv 2205.00976).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions, of which knowledge is that of the data
        dim: width of the rows
        hops: steps along triples
        layers: graph convolutions of users and items
        deviation: of the normal distribution that embeddings start from
        weight: of the contrast
        temperature: what cosines are divided by
        rate: share of the triples that a view loses
        share: chance that interactions of an item of mean weight stay in a view
        translation: weight of TransE on triples
        dropout: share of the numbers in messages along triples that a step leaves out
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"knowledge": "own", **(reading or {})})
    catalogue = Catalogue.of(source)
    sizes: dict[str, Any] = {"hops": hops, "layers": layers, "deviation": deviation, "dropout": dropout}
    network = RelationalAttention(knowledge_of(source), catalogue.train, dim, **sizes)
    objective = KGCL(
        dim,
        catalogue.train.nnz,
        weight=weight,
        temperature=temperature,
        rate=rate,
        share=share,
        translation=translation,
        l2=l2,
    )
    return trained(source, network, [Task(Triples(catalogue.train), objective)], epochs, batch_size, lr, look_every, patience)
