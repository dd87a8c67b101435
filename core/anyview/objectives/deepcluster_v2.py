"""DeepCluster-v2: once per epoch cluster the projections of all samples, then predict each sample's cluster.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin. Unsupervised Learning of Visual Features by Contrasting Cluster Assignments. 2020,
arXiv 2006.09882, appendix on DeepCluster-v2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from anyview.data.source import Epoch
from anyview.distributed import gather_rows, rank, ranks, sum_over_ranks
from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.views.draws import derive_seed
from anyview.views.view import View, ViewSet

IGNORED = -100
CHUNK = 16384  # rows that are compared with all centroids at once


def spherical_kmeans(rows: Tensor, seeds: Tensor, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Unit centroids (K, D) and the nearest one of each row (M,), by cosine; the same centroids on every rank.

    rows: (M, D) unit rows, this rank's part of all. seeds: (K, D) the first centroids, the same on every rank; a centroid without rows
    (or whose rows cancel) keeps its place. Sums and counts are taken over ranks.

    >>> rows = torch.eye(4)
    >>> spherical_kmeans(rows, rows[[2, 0]])[1][[0, 2]].tolist()
    [1, 0]
    """
    centroids = seeds
    for _ in range(iterations):
        sums = sum_over_ranks(torch.zeros_like(centroids).index_add_(0, nearest(rows, centroids), rows))
        centroids = torch.where(sums.norm(dim=1, keepdim=True) > 1e-6, normalize(sums, dim=1), centroids)
    return centroids, nearest(rows, centroids)


def nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """The centroid with the largest product, for each row: (M, D) and (K, D) to (M,)."""
    return torch.cat([(part @ centroids.T).argmax(1) for part in rows.split(CHUNK)])


def deepcluster_loss(scores: Tensor, assignments: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of scores with assignments, a mean over the rows that have one; 0 where none has.

    scores: (M, K) cosines with the centroids. assignments: (M,) whole numbers below K, or -100 where a row has none. Equal scores give
    log K.

    >>> round(float(deepcluster_loss(torch.zeros(6, 10), torch.arange(6))), 4)
    2.3026
    """
    total = cross_entropy(full(scores) / temperature, assignments, ignore_index=IGNORED, reduction="sum")
    return total / (assignments != IGNORED).sum().clamp(min=1)


class DeepClusterV2(Objective):
    """Objective over two views that are seen whole and any local ones, of samples with an index; owns projector, bank and centroids.

    The bank holds a projection of each sample for each view that is seen whole; a look at the data fills it before the first epoch, and
    the steps overwrite it. At the start of each epoch head h clusters the bank of view h (modulo their number); until the next epoch its
    centroids are fixed and a sample's cluster is its label. A sample that was not seen so far has none.

    dim: width of the encoder's rows. hidden, width: of the projector. prototypes: centroids per head. heads: how many times the samples
    are clustered. temperature: of the predictions. iterations: of k-means, which starts from random rows. Raises UserError where there are
    fewer samples than centroids.
    """

    needs = Needs(views=2, index=True)
    tags = ("clustering",)
    bank: Tensor
    known: Tensor
    centroids: Tensor
    assignments: Tensor
    seed: Tensor

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 128,
        prototypes: int = 3000,
        heads: int = 3,
        temperature: float = 0.1,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        self.project = mlp(dim, hidden, width)
        self.width, self.count, self.heads = width, prototypes, heads
        self.temperature, self.iterations = temperature, iterations
        self._incoming: dict[int, tuple[Tensor, Tensor]] = {}

    def prepare(self, views: ViewSet, samples: int) -> None:
        """Make an empty bank of `samples` rows for each view that is seen whole; raises UserError where they are too few."""
        self._check(samples)
        device = next(self.project.parameters()).device
        self.register_buffer("bank", torch.zeros(len(views.seen_whole), samples, self.width, device=device))
        self.register_buffer("known", torch.zeros(samples, dtype=torch.bool, device=device))
        self.register_buffer("centroids", torch.zeros(self.heads, self.count, self.width, device=device))
        self.register_buffer("assignments", torch.full((self.heads, samples), IGNORED, device=device))
        self.register_buffer("seed", torch.randint(2**62, ()).to(device))

    def before_epoch(self, epoch: int, look: Callable[[], Iterator[Step]]) -> None:
        """Fill the bank where nothing is in it, then cluster it for each head."""
        if not self.known.any():
            for step in look():
                self._store(*self._projections(step, step.seen_whole))
        samples = self.known.nonzero()[:, 0]
        self._check(len(samples))
        part = Epoch(rank=rank(), ranks=ranks()).own(len(samples))
        for head in range(self.heads):
            rows = self.bank[head % len(self.bank), samples]
            random = torch.Generator().manual_seed(derive_seed(int(self.seed), epoch, head))
            seeds = rows[torch.randperm(len(rows), generator=random)[: self.count].to(rows.device)]
            self.centroids[head], own = spherical_kmeans(rows[part], seeds, self.iterations)
            self.assignments[head, samples] = gather_rows(own)

    def forward(self, step: Step) -> Losses:
        rows, index = self._projections(step, step.crops)
        self._incoming[id(step)] = rows[: len(self.bank)].detach(), index
        with torch.autocast(rows.device.type, enabled=False):
            scores = rows @ self.centroids.mT[:, None]
        labels = self.assignments[:, None, index].expand(scores.shape[:-1])
        return Losses(deepcluster_v2=deepcluster_loss(scores.flatten(0, 2), labels.flatten(), self.temperature))

    def after_step(self, step: Step) -> None:
        if incoming := self._incoming.pop(id(step), None):
            self._store(*incoming)

    def collapse_line(self, rows: int) -> float:
        return math.log(self.count)

    def _projections(self, step: Step, views: list[View]) -> tuple[Tensor, Tensor]:
        """Unit rows of all ranks (V, M, width), and the samples (M,) that they are of."""
        rows = [gather_rows(normalize(full(self.project(step.encode(view).rows)), dim=1)) for view in views]
        assert views[0].index is not None
        return torch.stack(rows), gather_rows(views[0].index)

    def _store(self, rows: Tensor, index: Tensor) -> None:
        self.bank[:, index] = rows.to(self.bank)
        self.known[index] = True

    def _check(self, samples: int) -> None:
        if samples < self.count:
            asked = f"{self.count} clusters were asked for, and there are {samples} samples"
            raise UserError(f"{asked}; set prototypes to {samples} or fewer")
