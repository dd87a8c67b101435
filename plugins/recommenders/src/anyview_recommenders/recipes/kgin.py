"""KGIN: users gather items by a few intents, each a mixture of a knowledge graph's relations, and items gather what the graph says of them.

Wang, Huang, Wang, Yuan, Liu, He, Chua. Learning Intents behind Interactions with Knowledge Graph for Recommendation. WWW 2021,
arXiv 2102.07057.

Triples and interactions are dropped in training alone: public code leaves dropout on where it evaluates, and its scores are random.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform, Uniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.view import View
from anyview_recommenders.beside import knowledge_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.dropout import dropping
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.knowledge_convolution import KnowledgeConvolution
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

GUARD = 1e-8
"""What is added under roots, as the authors' code does."""


class IntentConvolution(KnowledgeConvolution):
    """Entities gather the mean of their facts e_r ⊙ e_t; users gather the mean of their items, weighted number by number by intents.

    intents: K. An intent p is a softmax over relations of their embeddings; a user attends to them by a softmax of products with a key of
    each, and gathers a + (sum over intents of attention times p) ⊙ a, a being the mean of the items. All else as in KnowledgeConvolution.

    >>> graph = KnowledgeGraph(3, 4, np.array([0]), np.array([0]), np.array([3]), np.array(["genre"], dtype=object))
    >>> IntentConvolution(graph, csr_matrix(np.eye(2, 3)), dim=4)(View({"nodes": torch.tensor([0, 4])})).rows.shape
    torch.Size([2, 4])
    """

    def __init__(self, graph: KnowledgeGraph, matrix: csr_matrix, dim: int = 64, *, intents: int = 4, **options: float) -> None:
        super().__init__(graph, matrix, dim, **options)  # type: ignore[arg-type]
        self.mixtures = nn.Parameter(torch.randn(intents, self.triples.relations))
        self.keys = nn.Parameter(torch.randn(intents, dim) / dim**0.5)

    def hop(self, entities: Tensor, shown: Tensor | None) -> Tensor:
        pattern = self.triples.pattern
        found: Tensor = pattern(pattern.shares(shown), self.triples.facts(entities, self.relations))
        return found

    def of_users(self, users: Tensor, gathered: Tensor) -> Tensor:
        attention = (users @ self.keys.T).softmax(1)
        return gathered + (attention @ self.intents()) * gathered

    def intents(self) -> Tensor:
        """(K, D): each a mixture of the relations' embeddings."""
        return self.mixtures.softmax(1) @ self.relations


def distance_correlations(rows: Tensor) -> Tensor:
    """The distance correlation of each pair of rows, each read as R samples of one number: (K, K) of rows (K, R).

    Székely, Rizzo, Bakirov. Measuring and Testing Dependence by Correlation of Distances. Annals of Statistics 2007.

    >>> distance_correlations(torch.tensor([[0.0, 1.0, 2.0], [5.0, 3.0, 1.0]]).double()).round(decimals=3).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    distances = (rows[:, :, None] - rows[:, None, :]).abs()
    centred = distances - distances.mean(1, keepdim=True) - distances.mean(2, keepdim=True) + distances.mean((1, 2), keepdim=True)
    flat = centred.flatten(1) / rows.shape[1]
    covariances = ((flat @ flat.T).clamp(min=0.0) + GUARD).sqrt()
    variances = covariances.diagonal()
    return covariances / (variances[:, None] * variances + GUARD).sqrt()


class KGIN(BPR):
    """BPR, and intents that are mixtures of relations as different as may be: a sum over pairs of distance correlations.

    dim: width of the encoder's rows. weight: of the correlations. rate: share of the triples, and of the interactions, that a step leaves
    out of the graphs. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",))
    tags = ("ranking",)

    def __init__(self, dim: int, *, weight: float = 1e-4, rate: float = 0.5, l2: float = 1e-5) -> None:
        super().__init__(dim, l2=l2)
        self.weight, self.rate = weight, check_rate("rate", rate)

    def forward(self, step: Step) -> Losses:
        encoder, draws = step.encoder, step.draws
        assert isinstance(encoder, IntentConvolution)
        triples, interactions = (draws.shared_uniform(len(part)) >= self.rate for part in (encoder.triples, encoder.interactions))
        shown = {"triples": triples, "interactions": interactions / (1 - self.rate), **dropping(draws)}
        terms = ranked(step.encode(View({"nodes": step.set.role("triples")[0].data["nodes"], **shown})), self.l2)
        terms["independence"] = self.weight * distance_correlations(encoder.mixtures).triu(1).sum()
        return terms


PRESETS: Presets = {
    "generated-knowledge": {"lr": 5e-3, "l2": 1e-3, "rate": 0.2, "epochs": 100},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "rate": 0.2, "epochs": 60},
    "grid": {"data": "generated-knowledge", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "hops": Integers(1, 3),
    "weight": LogUniform(1e-5, 1e-2),
    "rate": Uniform(0.0, 0.5),
    "dropout": Uniform(0.0, 0.3),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def kgin(
    data: str = "ml-latest-small",
    *,
    reading: Reading = None,
    dim: int = 64,
    hops: int = 2,
    intents: int = 4,
    deviation: float = 0.1,
    weight: float = 1e-4,
    rate: float = 0.5,
    dropout: float = 0.1,
    l2: float = 1e-5,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-4,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """KGIN: users gather items by intents over a knowledge graph's relations (Wang et al., 2021, arXiv 2102.07057).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions, of which knowledge is that of the data
        dim: width of the rows
        hops: steps along triples
        intents: mixtures of relations
        deviation: of the normal distribution that embeddings start from
        weight: of the intents' distance correlations
        rate: share of triples and of interactions that a step leaves out
        dropout: share of the numbers in messages that a step leaves out
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"knowledge": "own", **(reading or {})})
    catalogue = Catalogue.of(source)
    sizes: dict[str, Any] = {"hops": hops, "intents": intents, "deviation": deviation, "dropout": dropout}
    network = IntentConvolution(knowledge_of(source), catalogue.train, dim, **sizes)
    tasks = [Task(Triples(catalogue.train), KGIN(dim, weight=weight, rate=rate, l2=l2))]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
