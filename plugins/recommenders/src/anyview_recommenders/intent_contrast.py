"""Intents: once an epoch all sequences are clustered, and views of a sequence have to find the centre of its cluster.

Chen, Liu, Li, McAuley, Xiong. Intent Contrastive Learning for Sequential Recommendation. WWW 2022, arXiv 2202.02519.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from anyview.data.source import Epoch
from anyview.distributed import gather_rows, rank, ranks
from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.evaluation.embedding import frozen
from anyview.objectives.contrast import products, unit
from anyview.objectives.deepcluster_v2 import spherical_kmeans
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.views.view import ViewSet


def intent_losses(states: Tensor, centroids: Tensor, intents: Tensor, temperature: float = 1.0, *, alike: bool = False) -> Tensor:
    """Cross-entropy of finding a sequence's intent among those of the batch's other sequences, by products as they are: (M,).

    states: (M, D). centroids: (K, D). intents: (M,) int64, the centroid of each. Each sequence of the batch brings its centroid, so one of
    many sequences counts as often; alike: the others of a sequence's own intent are negatives too. An M x K matrix is all that is made.

    >>> states, centroids, intents = torch.zeros(4, 2), torch.ones(9, 2), torch.tensor([7, 7, 7, 2])
    >>> intent_losses(states, centroids, intents).exp().round(decimals=3).tolist()
    [2.0, 2.0, 2.0, 4.0]
    >>> intent_losses(states, centroids, intents, alike=True).exp().round(decimals=3).tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    scores = products(full(states) / temperature, centroids)
    with_own = scores.gather(1, intents[:, None])
    counts = torch.bincount(intents, minlength=len(centroids))
    weighted = scores + counts.to(scores).log()
    if not alike:
        weighted = weighted.scatter(1, intents[:, None], with_own)
    return weighted.logsumexp(1) - with_own[:, 0]


def mean_state(encoding: Encoding) -> Tensor:
    """The mean of each sequence's states, (B, D); zeros where a sequence has no item."""
    assert encoding.tokens is not None
    assert encoding.valid is not None
    return encoding.tokens.sum(1) / encoding.valid.sum(1, keepdim=True).clamp(min=1)


class IntentContrast(Objective):
    """InfoNCE between the mean states of two views of a sequence and the centroid of its intent; the mean of both views.

    Before each epoch the mean states of all sequences, on the unit sphere, are clustered by k-means; until the next one centroids and the
    intent of each sequence are fixed. They are equal on all ranks, and saved.

    dim: width of the encoder's rows. intents: centroids. temperature: what products are divided by. alike: sequences of one intent are
    negatives of each other. iterations: of k-means, which starts from random sequences. Raises UserError for a temperature that is not
    above 0, and where there are fewer sequences than intents.
    """

    needs = Needs(views=2, roles=("clean",), tokens=True, index=True, couples_rows=True)
    tags = ("contrastive", "clustering")
    centroids: Tensor
    intents: Tensor

    def __init__(self, dim: int, *, intents: int = 256, temperature: float = 1.0, alike: bool = False, iterations: int = 10) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"products are divided by a temperature above 0, and it is {temperature:g}; try 1")
        if intents < 1:
            raise UserError(f"sequences have at least 1 intent, and intents is {intents}; try 256")
        self.temperature, self.alike, self.iterations = temperature, alike, iterations
        self.register_buffer("centroids", torch.zeros(intents, dim))

    def prepare(self, views: ViewSet, samples: int) -> None:
        """Make room for the intents of `samples` sequences."""
        self.register_buffer("intents", torch.zeros(samples, dtype=torch.long, device=self.centroids.device))

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        """Cluster all sequences, by the encoder in evaluation mode."""
        found, samples = zip(*(self._seen(step) for step in look()), strict=True)
        rows, count = torch.cat(found), len(self.centroids)
        if len(rows) < count:
            raise UserError(f"{count} intents were asked for, of {len(rows):,} sequences to learn from; choose fewer")
        seeds = rows[torch.randperm(len(rows))[:count].to(rows.device)]  # by the global generator, which is alike on all ranks
        own = Epoch(rank=rank(), ranks=ranks()).own(len(rows))
        centroids, nearest = spherical_kmeans(rows[own], seeds, self.iterations)
        self.centroids.copy_(centroids)
        self.intents[torch.cat(samples)] = gather_rows(nearest)

    def _seen(self, step: Step) -> tuple[Tensor, Tensor]:
        """Unit mean states (M, D) of all ranks' sequences, and the samples (M,) that they are of."""
        view = step.set.role("clean")[0]
        assert view.index is not None
        with frozen(step.encoder, self.centroids.device):
            rows = unit(mean_state(step.encode(view)))
        return gather_rows(rows), gather_rows(view.index)

    def forward(self, step: Step) -> Losses:
        views = step.seen_whole[:2]
        assert views[0].index is not None
        intents = self.intents[gather_rows(views[0].index)]
        states = [gather_rows(mean_state(step.encode(view))) for view in views]
        losses = [intent_losses(own, self.centroids, intents, self.temperature, alike=self.alike).mean() for own in states]
        return Losses(intent=torch.stack(losses).mean())
