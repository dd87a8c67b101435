"""DiffKG: a diffusion model of the knowledge graph keeps the triples that it would write again, and views with and without the others meet.

Jiang, Yang, Xia, Huang. DiffKG: Knowledge Graph Diffusion Model for Recommendation. WSDM 2024, arXiv 2312.16890.

Items gather entities by attention, and users and items then each other by a light graph convolution, once by all triples and once by those
that diffusion kept; nodes of the one have to find themselves in the other. Diffusion learns to write an entity's row of tails anew, and the
items of what it writes have to be used by whom the entity is close to. Before each pass over the data every row is written, and of the
triples of an entity with the tails that are written largest, read both ways, a random half stays.

The authors train diffusion on all rows between the passes; here each step has a batch of `heads` rows, whose losses have a gradient to the
diffusion's own weights alone, and Adam keeps their state apart, so that it learns as by an optimiser of its own. In the first pass it knows
nothing, and the second view has next to no triples. They attend to at most 10 triples of an entity, drawn once; here to all. Losses are
means; L2 is of the batch's embeddings and not of all weights. Rows are dense: a graph with too many entities for `hidden` is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.view import View
from anyview_recommenders.batch_nodes import all_nodes, select, unique_nodes
from anyview_recommenders.beside import knowledge_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.dropout import dropping
from anyview_recommenders.encoders import Pool
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.knowledge import KnowledgeGraph
from anyview_recommenders.losses import contrast_among
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.ones import of_ones
from anyview_recommenders.recipes.kgcl import RelationalAttention
from anyview_recommenders.row_diffusion import AT_ONCE, RowDiffusion
from anyview_recommenders.sparse_product import SparseMatrix
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

Branch = Literal["whole", "denoised"]


class DenoisedAttention(RelationalAttention):
    """RelationalAttention in which entities keep themselves, and which knows the triples that diffusion kept.

    ranks_by: which triples a view shows that does not say, all ("whole") or those that were kept ("denoised"). All else as in
    RelationalAttention, but that a hop adds what an entity gathers to what it was, and halves the sum of the hops before.
    `denoised`: (K,) bool, all until `KnowledgeDiffusion` says otherwise; it is saved with the weights.
    """

    carried = 0.5
    denoised: Tensor

    def __init__(self, graph: KnowledgeGraph, matrix: csr_matrix, dim: int = 64, *, ranks_by: Branch = "whole", **options: Any) -> None:
        super().__init__(graph, matrix, dim, **options)
        self.ranks_by = ranks_by
        self.register_buffer("denoised", torch.ones(len(self.triples), dtype=torch.bool))

    def gathered(self, view: View) -> Tensor:
        if "triples" not in view.data:
            view = View({**view.data, "triples": self.branch(self.ranks_by)})
        return super().gathered(view)

    def hop(self, entities: Tensor, shown: Tensor | None) -> Tensor:
        return super().hop(entities, shown) + entities

    def branch(self, which: Branch) -> Tensor | None:
        """The triples of a branch, (K,) bool; None for all."""
        return self.denoised if which == "denoised" else None


class DiffKG(BPR):
    """BPR by one branch, InfoNCE of it with the other, and a diffusion model of the triples.

    dim: width of the encoder's rows. graph: the triples. matrix: (U, I) CSR of the training interactions. weight, temperature: of InfoNCE,
    of the batch's users among all users and of its items among all items. heads: rows that diffusion learns from in a step, fewer where
    they would be more than 64 MiB. tails: of a written row that count, the largest. rate: share of the triples with these that is dropped.
    collaboration: share that users have in the loss of diffusion, 0 to 1. hidden, steps, dropout: as in RowDiffusion. l2: as in BPR.
    Raises UserError for too many entities, and for numbers out of range.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        graph: KnowledgeGraph,
        matrix: csr_matrix,
        *,
        weight: float = 0.1,
        temperature: float = 0.1,
        heads: int = 256,
        tails: int = 1,
        rate: float = 0.5,
        collaboration: float = 0.5,
        hidden: int = 1000,
        steps: int = 5,
        dropout: float = 0.5,
        l2: float = 1e-5,
    ) -> None:
        super().__init__(dim, l2=l2)
        if not 0 <= collaboration <= 1:
            raise UserError(f"the share of users in the loss of diffusion lies between 0 and 1, and {collaboration:g} was given; try 0.5")
        if min(heads, tails, steps) < 1:
            raise UserError(f"diffusion needs at least 1 of heads, tails and steps, and they are {heads}, {tails} and {steps}; give more")
        self.weight, self.temperature, self.tails = weight, temperature, tails
        self.heads = min(heads, max(1, AT_ONCE // graph.entities))
        self.rate, self.collaboration = check_rate("rate", rate), collaboration
        self.diffusion = RowDiffusion(related(graph), hidden, steps=steps, dropout=dropout)
        self.users_of = SparseMatrix(csr_matrix(matrix.T))

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        encoder = next(look()).encoder
        assert isinstance(encoder, DenoisedAttention)
        numbers = torch.rand(len(encoder.triples)).to(encoder.denoised.device)
        encoder.denoised.copy_(self.written(encoder) & (numbers >= self.rate))

    def forward(self, step: Step) -> Losses:
        encoder, nodes = step.encoder, step.set.role("triples")[0].data["nodes"]
        assert isinstance(encoder, DenoisedAttention)
        other: Branch = "whole" if encoder.ranks_by == "denoised" else "denoised"
        whole = all_nodes(step, **dropping(step.draws))
        beside = all_nodes(step, triples=encoder.branch(other), **dropping(step.draws, 1)).rows
        terms, found = ranked(select(whole, nodes), self.l2), []
        users, items = unique_nodes(nodes)
        for a, b, own in zip(encoder.sides(whole.rows), encoder.sides(beside), (users, items - encoder.users), strict=True):
            found.append(contrast_among(a.index_select(0, own), b, own, self.temperature))
        terms["contrast"] = self.weight * torch.stack(found).sum()
        terms["diffusion"] = self.diffused(step, encoder)
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # InfoNCE's part follows from how many users and items there are

    def written(self, encoder: DenoisedAttention) -> Tensor:
        """(K,) bool: triples whose tail is among the largest that diffusion writes of the head, or the other way round."""
        triples = encoder.triples
        entities = torch.arange(len(encoder.entities), device=triples.heads.device)
        largest = self.diffusion.largest(entities, min(self.tails, len(entities)))
        there, back = (
            (largest.index_select(0, one) == another[:, None]).any(1)
            for one, another in ((triples.heads, triples.tails), (triples.tails, triples.heads))
        )
        return there | back

    def diffused(self, step: Step, encoder: DenoisedAttention) -> Tensor:
        """What diffusion does not know of the rows of some entities, equal on all ranks: of their tails, and of who uses these."""
        draws, model, heads = step.draws, self.diffusion, encoder.triples.heads
        if not len(heads):
            return model.kept.new_zeros(())
        options: dict[str, Any] = {"generator": draws.generator, "device": draws.device}
        entity = heads[torch.randint(len(heads), (self.heads,), **options)]
        place = torch.randint(model.steps, (self.heads,), **options)
        clean = model.rows(entity)
        noise = torch.randn(clean.shape, dtype=clean.dtype, **options)
        found = model(model.noisy(clean, place, noise), place, draws.generator)
        users, entities = encoder.embedding[: encoder.users].detach(), encoder.entities.detach()
        used = found[:, : encoder.items] @ self.users_of(users)
        tails = (model.weights()[place] * (found - clean).square().mean(1)).mean()
        close = (used - entities.index_select(0, entity)).square().mean()
        return (1 - self.collaboration) * tails + self.collaboration * close


def related(graph: KnowledgeGraph) -> csr_matrix:
    """(E, E) CSR of ones where an entity has another in a triple, read both ways.

    >>> related(KnowledgeGraph(1, 2, np.array([0]), np.array([0]), np.array([1]), np.array(["genre"], dtype=object))).toarray().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    heads, _, tails = graph.both_ways()
    return of_ones(csr_matrix((np.ones(len(heads), dtype=np.float32), (heads, tails)), shape=(graph.entities, graph.entities)))


PRESETS: Presets = {
    "generated-knowledge": {"lr": 5e-3, "l2": 1e-3, "hidden": 200, "epochs": 100},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "hidden": 200, "epochs": 60},
    "grid": {"data": "generated-knowledge", "dim": 16, "hidden": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "hops": Integers(1, 3),
    "weight": LogUniform(1e-2, 0.5),
    "temperature": LogUniform(0.05, 0.5),
    "tails": Integers(1, 4),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def diffkg(
    data: str = "ml-latest-small",
    *,
    reading: Reading = None,
    dim: int = 64,
    hops: int = 2,
    layers: int = 2,
    deviation: float = 0.1,
    pool: Pool = "mean",
    ranks_by: Branch = "whole",
    weight: float = 0.1,
    temperature: float = 0.1,
    heads: int = 256,
    tails: int = 1,
    rate: float = 0.5,
    collaboration: float = 0.5,
    hidden: int = 1000,
    steps: int = 5,
    dropout: float = 0.1,
    l2: float = 1e-5,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """DiffKG: views by all triples, and by those that diffusion would write again (Jiang et al., 2024, arXiv 2312.16890).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions, of which knowledge is that of the data
        dim: width of the rows
        hops: steps along triples
        layers: graph convolutions of users and items
        deviation: of the normal distribution that embeddings start from
        pool: rows are the mean of embeddings and layers, or their sum
        ranks_by: triples of the branch that ranks, all or those that diffusion kept
        weight: of the contrast
        temperature: what cosines are divided by
        heads: entities whose rows diffusion learns from in a step
        tails: of a written row that count
        rate: share of the kept triples that is dropped
        collaboration: share of users in the loss of diffusion
        hidden: width of the diffusion's network
        steps: of noise
        dropout: share of the numbers in messages along triples that a step leaves out
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"knowledge": "own", **(reading or {})})
    train, graph = Catalogue.of(source).train, knowledge_of(source)
    sizes: dict[str, Any] = {"hops": hops, "layers": layers, "deviation": deviation, "dropout": dropout, "pool": pool}
    network = DenoisedAttention(graph, train, dim, ranks_by=ranks_by, **sizes)
    written: dict[str, Any] = {
        "heads": heads,
        "tails": tails,
        "rate": rate,
        "collaboration": collaboration,
        "hidden": hidden,
        "steps": steps,
    }
    objective = DiffKG(dim, graph, train, weight=weight, temperature=temperature, l2=l2, **written)
    return trained(source, network, [Task(Triples(train), objective)], epochs, batch_size, lr, look_every, patience)
