"""AdaGCL: two graphs are learned, one generated and one without noise, and a node finds itself from one in the other.

Jiang, Huang, Xia. Adaptive Graph Contrastive Learning for Recommendation. KDD 2023, arXiv 2305.10837.

A variational autoencoder, learned from LightGCN's rows, keeps the interactions that it believes; a denoiser, learned from the embeddings,
gates them layer by layer. Both learn to rank by themselves and hand over graphs without gradient. In what these make of the embeddings,
the batch's users and items have to find each other among all of them, and, as an information bottleneck, to move apart in each.

The authors take three steps of the main model for each batch, by contrast, bottleneck and ranking, then one of each generator. Here all of
it is one step: every loss has a gradient to its own model alone, and Adam keeps each weight's state to itself, so the generators learn as
by optimisers of their own; but the main model's three losses are summed, and their weights count as Adam's steps of one loss alone would
not let them. With no step between them, the rows that the bottleneck contrasts with are the views' own, without gradient.
"""

from __future__ import annotations

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.objectives.objective import Losses, Needs, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview_recommenders.batch_nodes import all_nodes, select, unique_nodes
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.graph_generators import GraphAutoencoder, GraphDenoiser, found_again
from anyview_recommenders.losses import bpr_loss, decoupled_contrast
from anyview_recommenders.objectives import BPR, ranked, triples
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples

WARMEST, COLDEST, COOLING = 2.0, 0.05, 0.98
"""The temperature of gates that are drawn: at first, at last, and what a pass over the data multiplies it by."""


class AdaGCL(BPR):
    """BPR on the whole graph, contrast of a generated with a denoised graph, each with itself, and what the two are learned by.

    dim: width of the encoder's rows. matrix: (U, I) CSR of the training interactions. layers: of the encoder. contrast, bottleneck: weights
    of the contrast between the views, and of each with itself. temperature: of both. divergence: weight of the codes' distance from a
    standard normal distribution. sparsity: weight of the share of gates that are open. l2: as in BPR.
    """

    needs = Needs(views=0, roles=("triples",), couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        matrix: csr_matrix,
        *,
        layers: int = 2,
        contrast: float = 0.1,
        bottleneck: float = 0.01,
        temperature: float = 0.5,
        divergence: float = 0.1,
        sparsity: float = 1e-4,
        l2: float = 1e-5,
    ) -> None:
        super().__init__(dim, l2=l2)
        self.contrast, self.bottleneck, self.temperature = contrast, bottleneck, temperature
        self.divergence, self.sparsity = divergence, sparsity
        self.autoencoder, self.denoiser = GraphAutoencoder(dim), GraphDenoiser(matrix, dim, layers)

    def forward(self, step: Step) -> Losses:
        encoder, nodes = step.encoder, step.set.role("triples")[0].data["nodes"]
        assert isinstance(encoder, LightGraphConvolution)
        whole = all_nodes(step)
        terms = ranked(select(whole, nodes), self.l2)
        rows = whole.rows.detach()
        noise = torch.randn(rows.shape, generator=step.generator, dtype=rows.dtype, device=rows.device)
        codes, distance = self.autoencoder(rows, noise)
        generated = all_nodes(step, adjacency=self.autoencoder.graph(encoder.adjacency, codes)).rows
        denoised = encoder.pooled(self.denoiser(encoder.embedding))
        batch = torch.cat(unique_nodes(nodes))
        a, b = (view.index_select(0, batch) for view in (generated, denoised))
        apart = [decoupled_contrast(view, view.detach(), self.temperature) for view in (a, b)]
        terms["contrast"] = self.contrast * decoupled_contrast(a, b, self.temperature)
        terms["bottleneck"] = self.bottleneck * torch.stack(apart).sum()
        terms["generator"] = self.generation(codes.index_select(0, nodes)) + self.divergence * distance
        terms["denoiser"] = self.denoising(step, encoder, nodes)
        return terms

    def collapse_line(self, rows: int) -> float | None:
        return None  # the contrast's part follows from how many different users and items a batch has

    def generation(self, codes: Tensor) -> Tensor:
        """How well codes (3 b, D) of triples tell who has which item, by the autoencoder's own log-odds and by their products."""
        users, items, others = triples(codes)
        logits = self.autoencoder.logits
        return found_again(logits(users, items), logits(users, others)) + bpr_loss(users, items, others)

    def denoising(self, step: Step, encoder: LightGraphConvolution, nodes: Tensor) -> Tensor:
        """How well embeddings rank that a convolution with gates spreads, and the share of the gates that are open."""
        temperature = max(COLDEST, WARMEST * COOLING**step.epoch)
        numbers = step.draws.shared_uniform(encoder.depth, len(self.denoiser.pattern))
        layers, share = self.denoiser.noisy(encoder.embedding.detach(), numbers, temperature)
        return bpr_loss(*triples(encoder.pooled(layers).index_select(0, nodes))) + self.sparsity * share


PRESETS: Presets = {
    "generated": {"lr": 5e-3, "l2": 1e-3, "layers": 3, "contrast": 0.2, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "epochs": 200},
    "ml-latest-small": {"lr": 5e-3, "l2": 1e-3, "epochs": 60},
    "grid": {"data": "generated", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "layers": Integers(1, 3),
    "contrast": LogUniform(1e-2, 0.5),
    "bottleneck": LogUniform(1e-3, 0.1),
    "temperature": LogUniform(0.1, 1.0),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def adagcl(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 2,
    deviation: float = 0.1,
    contrast: float = 0.1,
    bottleneck: float = 0.01,
    temperature: float = 0.5,
    divergence: float = 0.1,
    sparsity: float = 1e-4,
    l2: float = 1e-5,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """AdaGCL: a generated graph against a denoised one, both learned (Jiang et al., 2023, arXiv 2305.10837).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions
        dim: width of the rows
        layers: graph convolutions
        deviation: of the normal distribution that embeddings start from
        contrast: weight of the contrast between the two graphs' rows
        bottleneck: weight of the contrast of each graph's rows with themselves
        temperature: what cosines are divided by
        divergence: weight of the distance of the autoencoder's codes from a standard normal distribution
        sparsity: weight of the share of the denoiser's gates that are open
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
    weights = {"contrast": contrast, "bottleneck": bottleneck, "divergence": divergence, "sparsity": sparsity}
    objective = AdaGCL(dim, catalogue.train, layers=layers, temperature=temperature, l2=l2, **weights)
    tasks = [Task(Triples(catalogue.train), objective)]
    return trained(source, network, tasks, epochs, batch_size, lr, look_every, patience)
