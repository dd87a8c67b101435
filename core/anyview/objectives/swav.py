"""SwAV: predict a view's cluster assignment from another view, while all clusters are used equally.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin. Unsupervised Learning of Visual Features by Contrasting Cluster Assignments. 2020,
arXiv 2006.09882.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.prototypes import Kind, Prototypes, dead_prototypes, phase, swapped_cross_entropy
from anyview.objectives.queue import Queue
from anyview.objectives.sinkhorn import sinkhorn
from anyview.views.view import ViewSet


def swav_loss(scores: Sequence[Tensor], assignments: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """Cross-entropy of each view's assignment with the other views' predictions, a mean over rows and pairs of views.

    scores: (M, K) cosines of every view's rows with the prototypes. assignments: (M, K) distributions of the first of these views, to
    which no gradient flows. Scores and assignments that are all equal give log K.

    >>> scores = [torch.zeros(6, 10), torch.zeros(6, 10)]
    >>> round(float(swav_loss(scores, [sinkhorn(score) for score in scores])), 4)
    2.3026
    """
    return swapped_cross_entropy(assignments, scores, temperature).mean()


class SwAV(Objective):
    """Objective over two views that are seen whole and any local ones; owns projector, prototypes and queues.

    dim: width of the encoder's rows. hidden, width: of the projector. prototypes: how many, several times the expected classes (3000 for
    ImageNet). kind: "learned" or fixed "equiangular" prototypes. temperature: of the predictions. epsilon, iterations: of the Sinkhorn
    assignment, which is taken for each view on the rows of all ranks. frozen_epochs: passes in which the prototypes stay as they were
    drawn (half of the stage at most). queue: earlier rows per view that take part in the assignment, 0 for none; 3840 in the paper, where
    batches are much smaller than `prototypes`. queue_from: passes before they take part (half of the stage at most, and only real rows).

    Monitors: dead_prototypes, how many are the nearest of no row in the step.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("clustering",)

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 128,
        prototypes: int = 3000,
        kind: Kind = "learned",
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        frozen_epochs: float = 1.0,
        queue: int = 0,
        queue_from: float = 15.0,
    ) -> None:
        super().__init__()
        self.project = mlp(dim, hidden, width)
        self.prototypes = Prototypes(width, prototypes, kind=kind)
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.frozen_epochs, self.queue_from = frozen_epochs, queue_from
        self.queue, self.width = queue, width
        self.queues = nn.ModuleList()
        self._incoming: dict[int, list[Tensor]] = {}

    def prepare(self, views: ViewSet, samples: int) -> None:
        """Make one queue for each view that is seen whole."""
        if self.queue:
            self.queues = nn.ModuleList(Queue(self.queue, self.width) for _ in views.seen_whole)

    def forward(self, step: Step) -> Losses:
        frozen = phase(step, self.frozen_epochs) < 1
        rows = [normalize(full(self.project(step.encode(view).rows)), dim=1) for view in step.crops]
        scores = [self.prototypes(gather_rows(own), frozen) for own in rows]
        whole = len(step.seen_whole)
        assignments = [self._assign(position, score, step) for position, score in enumerate(scores[:whole])]
        if self.queue:
            self._incoming[id(step)] = [own.detach() for own in rows[:whole]]
        dead = dead_prototypes(torch.cat(scores[:whole]))
        return Losses(swav=swav_loss(scores, assignments, self.temperature), monitors={"dead_prototypes": dead})

    @torch.no_grad()
    def _assign(self, position: int, scores: Tensor, step: Step) -> Tensor:
        """A view's assignments (M, K), shared out over its rows and, when it is their time, those of its queue."""
        rows = scores
        if self.queue and phase(step, self.queue_from) == 1 and self.queues[position].full:
            rows = torch.cat([scores, self.prototypes(self.queues[position].rows)])
        return sinkhorn(rows, self.epsilon, self.iterations)[: len(scores)]

    def after_step(self, step: Step) -> None:
        for queue, rows in zip(self.queues, self._incoming.pop(id(step), []), strict=False):
            assert isinstance(queue, Queue)
            queue.push(rows)

    def collapse_line(self, rows: int) -> float:
        return math.log(self.prototypes.count)
