"""Convolution of several behaviours that share embeddings, and its losses: BPR of each, and contrast of the target with the others.

Wei, Huang, Xia, Xu, Zhao, Yin. Contrastive Meta Learning with Behavior Multiplicity for Recommendation. WSDM 2022, arXiv 2202.08523.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

from anyview.encoders.encoder import Encoder, Encoding
from anyview.learning_rates import ParameterGroup
from anyview.objectives.contrast import in_blocks, part, products, unit
from anyview.objectives.objective import Step
from anyview.schedules import Constant
from anyview.views.view import View
from anyview_recommenders.batch_nodes import parts
from anyview_recommenders.behaviour_views import BehaviourBatch
from anyview_recommenders.encoders import SelectedLayers
from anyview_recommenders.losses import squared_length
from anyview_recommenders.objectives import embeddings
from anyview_recommenders.sparse_product import SparseMatrix, degree_normalised


class FusedConvolution(Encoder):
    """One embedding of each user and item, spread over the graph of each of K behaviours; every layer reads the mean of what came of them.

    behaviours: (U, I) CSR of each by name, the target last. dim: D. layers: L. deviation: of the normal distribution that embeddings start
    from. slope: of activations below 0; with 1 there are none. map_rate: of the weights, times the learning rate of embeddings.

    A layer's row of behaviour k is the activation of W times the neighbours' sum in the normalised graph of k, the fused one that of W
    times its mean over behaviours. Rows are linear maps of embeddings and layers side by side. Weights of users and of items are apart;
    they begin as identities and as means over layers, so that with one behaviour and a slope of 1 rows are at first LightGCN's.

    Views as in LightGraphConvolution; in training `layers` are the embeddings (M, D), then the rows (M, D) of each behaviour, which users
    alone have.

    >>> encoder = FusedConvolution({"view": csr_matrix(np.ones((2, 3))), "buy": csr_matrix(np.eye(2, 3))}, dim=4)
    >>> encoder(View({"nodes": torch.tensor([0, 4, 1])})).rows.shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        behaviours: Mapping[str, csr_matrix],
        dim: int = 64,
        *,
        layers: int = 3,
        deviation: float = 0.1,
        slope: float = 0.5,
        map_rate: float = 0.01,
    ) -> None:
        super().__init__()
        matrices = list(behaviours.values())
        self.dim, self.slope, self.map_rate = dim, slope, map_rate
        self.users, self.items = matrices[0].shape
        self.graphs = nn.ModuleList([SparseMatrix(degree_normalised(own)) for own in matrices])
        self.embedding = nn.Parameter(deviation * torch.randn(self.users + self.items, dim))
        self.weights = nn.Parameter(torch.eye(dim).repeat(layers, 2, 1, 1))
        self.joined = nn.Parameter(torch.eye(dim).repeat(2, layers + 1, 1) / (layers + 1))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup([self.weights, self.joined], Constant(self.map_rate))]

    def forward(self, view: View) -> Encoding:
        nodes, graphs = view.data["nodes"], cast("list[SparseMatrix]", list(self.graphs))
        users, items = self.embedding.split([self.users, self.items])
        fused, each = ([users], [items]), [[users] for _ in graphs]
        for of_users, of_items in self.weights:
            heard = [graph(items) @ of_users for graph in graphs]
            told = mean([graph.back(users) for graph in graphs]) @ of_items
            for layers, product in zip(each, heard, strict=True):
                layers.append(leaky_relu(product, self.slope))
            users, items = (leaky_relu(product, self.slope) for product in (mean(heard), told))
            fused[0].append(users)
            fused[1].append(items)
        rows = torch.cat([self.join(layers, side) for side, layers in enumerate(fused)]).index_select(0, nodes)
        if not self.training:
            return Encoding(rows)
        return Encoding(rows, layers=SelectedLayers([self.embedding, *(self.join(layers, 0) for layers in each)], nodes))

    def join(self, layers: list[Tensor], side: int) -> Tensor:
        """The rows of all users, side 0, or of all items, side 1, from their embeddings and layers."""
        return torch.cat(layers, 1) @ self.joined[side]


def mean(rows: list[Tensor]) -> Tensor:
    """Of as many rows of each node as there are behaviours."""
    return torch.stack(rows).mean(0)


def contrast_losses(target: Tensor, other: Tensor, temperature: float) -> Tensor:
    """InfoNCE of each of M users: cross-entropy of finding them among all in another behaviour, by their rows of the target; (M,).

    target, other: (M, D), each user once; products are cosines. It can be differentiated twice.

    >>> contrast_losses(torch.ones(8, 4), torch.ones(8, 4), 0.5).exp().round(decimals=3).tolist()[:2]
    [8.0, 8.0]
    """
    queries, keys = unit(target, 1 / temperature), unit(other)
    places = torch.arange(len(keys), device=keys.device)

    def losses(own: slice) -> Tensor:
        return nn.functional.cross_entropy(products(part(queries, own), keys), part(places, own), reduction="none")

    return in_blocks(losses, len(queries), len(keys))


class Counted(NamedTuple):
    """Losses (P,), whose they are, rows own and fused (P, D), and what each is multiplied by for a sum of means, (P,)."""

    losses: Tensor
    own: Tensor
    fused: Tensor
    shares: Tensor

    def total(self, weights: Tensor | float = 1.0) -> Tensor:
        """The sum over behaviours of the means of losses, or of weighted ones, (P,)."""
        return (weights * self.losses * self.shares).sum()


class FusedLosses(NamedTuple):
    """Of a batch of behaviours: BPR of each, contrast of its users in each behaviour but the target, and half the squared lengths."""

    ranking: Counted
    contrast: Counted
    length: Tensor


def fused_losses(step: Step, shown: BehaviourBatch, weight: float, temperature: float, auxiliary: float, **data: Any) -> FusedLosses:
    """The losses of a step whose encoder is a FusedConvolution, by `shown`, its batch of all ranks.

    weight: of the contrast, a sum over behaviours of means over users. temperature: what its cosines are divided by. auxiliary: weight of
    BPR of each behaviour beside the target. data: what else the encoder's view has. Of one behaviour the contrast is of no losses.
    """
    people, place = shown.users.unique(return_inverse=True)
    items = torch.stack([shown.positives, shown.negatives])
    at, behaviour = shown.there.nonzero(as_tuple=True)
    whose, count = place[at], len(at)
    encoding = step.encode(View({"nodes": torch.cat([people, items[:, at, behaviour].flatten()]), **data}))
    of_people, positives, negatives = parts(encoding, [len(people), count, count])
    fused, own = of_people.rows, torch.stack([*(of_people.layers or [])[1:]])
    losses = softplus((fused[whose] * (negatives.rows - positives.rows)).sum(1))
    ranking = Counted(losses, own[behaviour, whose], fused[whose], shown.shares(auxiliary)[behaviour])
    length = squared_length(embeddings(of_people)[place], embeddings(positives), embeddings(negatives))
    return FusedLosses(ranking, _contrasted(own, fused, weight, temperature), length)


def _contrasted(own: Tensor, fused: Tensor, weight: float, temperature: float) -> Counted:
    """Of M users, each once, who are looked for in every other behaviour; own: (K, M, D) rows. fused: (M, D)."""
    others, count = len(own) - 1, len(fused)
    losses = [contrast_losses(own[-1], other, temperature) for other in own[:-1]]
    found = torch.cat(losses) if losses else fused.new_zeros(0)
    return Counted(found, own[:-1].flatten(0, 1), fused.repeat(others, 1), torch.full_like(found, weight / count))
