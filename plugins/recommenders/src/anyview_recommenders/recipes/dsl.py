"""DSL: users spread over their trust beside their interactions, and what trust says of two users counts where interactions bear it out.

Wang, Xia, Huang. Denoised Self-Augmented Learning for Social Recommendation. IJCAI 2023, arXiv 2305.12685.

One table of users is spread by two light graph convolutions, over interactions and over trust, taken both ways. Each learns to rank its own
links. Of random pairs of users a small network says from the first how alike they are, and in the second such users have to be close: trust
between users whose interactions differ is noise, and moves little.

The authors sum ranking, trust and agreement over batches of one size, so that the weights of the sums are those of the means here. To the
sums they add 0.01 of the squares of all weights; lengths here are of the batch's embeddings, as in all models, and a row that a batch has
once then counts as much at l2 0.02. They sum layers, which here are averaged unless `pool` says so, and clip the gradient of the sums,
which is left out: Adam divides the scale of means away. Their code drops half of the logits of likeness too, and ranks links of trust by
what interactions say of users; here links of each graph are ranked by its own rows.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy import sparse
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from anyview.errors import UserError
from anyview.objectives.objective import Losses, Step
from anyview.ranges import Integers, LogUniform
from anyview.recipe import Presets, Recipe, Task, recipe
from anyview.views.draws import Draws
from anyview_recommenders.batch_nodes import all_nodes, select
from anyview_recommenders.beside import trust_of
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import Reading, open_interactions
from anyview_recommenders.dropout import message_dropout
from anyview_recommenders.encoders import LightGraphConvolution, Pool
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.losses import bpr_loss
from anyview_recommenders.objectives import BPR, ranked
from anyview_recommenders.sampling import Unseen
from anyview_recommenders.sparse_product import SparseMatrix, degree_normalised
from anyview_recommenders.training import trained
from anyview_recommenders.trust import both_ways
from anyview_recommenders.views import Triples

SLOPE = 0.5


class SocialGraphConvolution(LightGraphConvolution):
    """A light graph convolution over users and items, and another of the same users over their trust.

    trust: (U, U) CSR of ones, taken both ways. matrix: (U, I) CSR of the training interactions. social_layers: of the convolution over
    trust; all else as in LightGraphConvolution. Rows are those of the interactions; `social` has the others.

    >>> encoder = SocialGraphConvolution(csr_matrix(np.eye(2)[::-1]), csr_matrix(np.eye(2, 3)), dim=4)
    >>> encoder.social().shape
    torch.Size([2, 4])
    """

    def __init__(self, trust: csr_matrix, matrix: csr_matrix, dim: int = 64, *, social_layers: int = 2, **options: Any) -> None:
        super().__init__(matrix, dim, **options)
        self.social_depth = social_layers
        self.trust = SparseMatrix(degree_normalised(both_ways(trust)))

    def social(self) -> Tensor:
        """The rows (U, D) of users by whom they trust and who trusts them."""
        layers = [self.sides(self.embedding)[0]]
        for _ in range(self.social_depth):
            layers.append(self.trust(layers[-1]))
        return self.pooled(layers)


class TrustLinks(nn.Module):
    """Links of trust to draw from, each beside somebody whom the user has no link with.

    trust: (U, U) CSR of ones, taken both ways. Users who have links with all others are left out; raises UserError where none is left.

    >>> links = TrustLinks(csr_matrix(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])))
    >>> user, friend, other = links.drawn(Draws.seeded(0, total=9))
    >>> sorted(set(user.tolist())), set((user + friend).tolist()), set(other.tolist())
    ([0, 1], {1}, {2})
    """

    users: Tensor
    friends: Tensor

    def __init__(self, trust: csr_matrix) -> None:
        super().__init__()
        links = both_ways(trust)
        taken = both_ways(csr_matrix(links + sparse.identity(links.shape[0], format="csr")))
        self.unseen = Unseen.of(taken)
        users, friends = (torch.from_numpy(ends).long() for ends in links.nonzero())
        kept = self.unseen.counts(users) > 0
        if not bool(kept.any()):
            raise UserError("every user with trust has links with all others, and some without are needed; choose a model without trust")
        self.register_buffer("users", users[kept], persistent=False)
        self.register_buffer("friends", friends[kept], persistent=False)

    def drawn(self, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Users, whom they have a link with and whom not, (B,) each: as many as the batch of all ranks has rows, the same on each."""
        link = torch.randint(len(self.users), (draws.total,), generator=draws.generator, device=draws.device)
        user = self.users[link]
        self.unseen = self.unseen.to(user.device)
        return user, self.friends[link], self.unseen.pick(user, draws.shared_uniform(draws.total))


class Likeness(nn.Module):
    """How alike two users are by their rows, 0 to 1: the sigmoid of w · (LeakyReLU(W [a; b]) + a + b)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = check_rate("dropout", dropout)
        self.both, self.judge = nn.Linear(2 * dim, dim), nn.Linear(dim, 1)

    def forward(self, a: Tensor, b: Tensor, generator: torch.Generator) -> Tensor:
        """(M,) of rows (M, D); generator: of what is left out of W [a; b]."""
        met = message_dropout(self.both(torch.cat([a, b], 1)), self.dropout, generator)
        return torch.sigmoid(self.judge(leaky_relu(met, SLOPE) + a + b)).squeeze(1)


def agreement_loss(likeness: Tensor, products: Tensor) -> Tensor:
    """Mean of max(0, 1 - z · p): how far users' products p (M,) in one graph are from 1, as they are alike in another, z (M,).

    >>> float(agreement_loss(torch.tensor([1.0, 0.5]), torch.tensor([2.0, 1.0])))
    0.25
    """
    return relu(1 - likeness * products).mean()


class DSL(BPR):
    """BPR of items, BPR of links of trust, and random pairs of users who are close by trust as far as they are alike by interactions.

    dim: width of the encoder's rows. trust: (U, U) CSR of ones. trust_weight: of BPR of links, as many in a step as there are interactions.
    weight: of the agreement of as many pairs. dropout: in the network that says how alike users are. l2: as in BPR.
    """

    def __init__(
        self, dim: int, trust: csr_matrix, *, trust_weight: float = 0.01, weight: float = 1e-3, dropout: float = 0.5, l2: float = 1e-4
    ) -> None:
        super().__init__(dim, l2=l2)
        self.trust_weight, self.weight = trust_weight, weight
        self.links, self.likeness = TrustLinks(trust), Likeness(dim, dropout)

    def forward(self, step: Step) -> Losses:
        encoder, draws = step.encoder, step.draws
        assert isinstance(encoder, SocialGraphConvolution)
        whole, social = all_nodes(step), encoder.social()
        terms = ranked(select(whole, step.set.role("triples")[0].data["nodes"]), self.l2)
        terms["trust"] = self.trust_weight * bpr_loss(*(social.index_select(0, own) for own in self.links.drawn(draws)))
        pairs = torch.randint(encoder.users, (2, draws.total), generator=draws.generator, device=draws.device)
        a, b = (whole.rows.index_select(0, users) for users in pairs)
        close = social.index_select(0, pairs[0]) * social.index_select(0, pairs[1])
        terms["agreement"] = self.weight * agreement_loss(self.likeness(a, b, draws.generator), close.sum(1))
        return terms


PRESETS: Presets = {
    "generated-social": {"lr": 5e-3, "l2": 1e-3, "trust_weight": 0.1, "epochs": 100},
    "lastfm": {"lr": 5e-3, "l2": 1e-3, "trust_weight": 0.1, "epochs": 200},
    "grid": {"data": "generated-social", "dim": 16, "epochs": 1},
}
RANGES = {
    "lr": LogUniform(1e-3, 2e-2),
    "l2": LogUniform(1e-5, 1e-2),
    "layers": Integers(1, 3),
    "social_layers": Integers(1, 3),
    "trust_weight": LogUniform(1e-3, 0.5),
    "weight": LogUniform(1e-4, 0.1),
}


@recipe(presets=PRESETS, views=Triples, ranges=RANGES)
def dsl(
    data: str = "lastfm",
    *,
    reading: Reading = None,
    dim: int = 64,
    layers: int = 3,
    social_layers: int = 2,
    deviation: float = 0.1,
    pool: Pool = "mean",
    trust_weight: float = 0.01,
    weight: float = 1e-3,
    dropout: float = 0.5,
    l2: float = 1e-4,
    epochs: int = 1000,
    batch_size: int = 2048,
    lr: float = 1e-3,
    look_every: int = 5,
    patience: int = 5,
) -> Recipe:
    """DSL: users close by trust as far as their interactions bear it out (Wang et al., 2023, arXiv 2305.12685).

    Args:
        data: a data set's name, or a file or folder of interactions
        reading: how they are read, filtered and split; see the options of open_interactions, of which trust is that of the data
        dim: width of the rows
        layers: convolutions over interactions
        social_layers: convolutions over trust
        deviation: of the normal distribution that embeddings start from
        pool: rows are the mean of embeddings and layers, or their sum
        trust_weight: of the ranking of links of trust
        weight: of the agreement of trust with interactions
        dropout: share of the numbers that the network of likeness leaves out
        l2: weight of half the squared lengths of a batch's embeddings
        epochs: passes over the training interactions, at most
        batch_size: interactions per step, over all devices
        lr: Adam's learning rate
        look_every: passes between two looks at the validation part
        patience: looks without a better score after which training ends
    """
    source = open_interactions(data, **{"trust": "own", **(reading or {})})
    catalogue, trust = Catalogue.of(source), trust_of(source)
    sizes: dict[str, Any] = {"layers": layers, "social_layers": social_layers, "deviation": deviation}
    network = SocialGraphConvolution(trust, catalogue.train, dim, pool=pool, **sizes)
    objective = DSL(dim, trust, trust_weight=trust_weight, weight=weight, dropout=dropout, l2=l2)
    return trained(source, network, [Task(Triples(catalogue.train), objective)], epochs, batch_size, lr, look_every, patience)
