"""MSN: a view with a part hidden has the same soft cluster as the whole, and all clusters are used.

Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat, Ballas. Masked Siamese Networks for Label-Efficient Learning. 2022,
arXiv 2204.07141. The prior over clusters: Assran, Balestriero, Duval, Bordes, Misra, Bojanowski, Vincent, Rabbat, Ballas. The Hidden
Uniform Cluster Prior in Self-Supervised Learning. 2022, arXiv 2210.07277.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.prototypes import Kind, Prototypes, cross_entropy, dead_prototypes
from anyview.objectives.sinkhorn import sinkhorn
from anyview.schedules import Cosine
from anyview.views.view import View


@torch.no_grad()
def msn_targets(scores: Tensor, temperature: float = 0.1, sharpening: float = 0.25, iterations: int = 3) -> Tensor:
    """The target view's sharpened distributions over prototypes, (M, K), shared out evenly by Sinkhorn; without gradient.

    scores: (M, K) cosines. sharpening: probabilities are raised to the power of its inverse and divided by their sum, which is the same as
    a temperature of temperature·sharpening. iterations: of Sinkhorn on them, 0 to leave it out.

    >>> msn_targets(torch.tensor([[0.1, 0.0]]), iterations=0).allclose(torch.tensor([[4.0, 0.0]]).softmax(1))
    True
    """
    logs = (full(scores) / (temperature * sharpening)).log_softmax(1)
    return sinkhorn(logs, epsilon=1.0, iterations=iterations) if iterations else logs.exp()


def msn_terms(anchors: Sequence[Tensor], targets: Tensor, temperature: float = 0.1, prior: float | None = None) -> dict[str, Tensor]:
    """The terms before weighting: "assignment" (cross-entropy, a mean over rows and anchors) and "prior" (see `prior_term`).

    anchors: (M, K) cosines of each anchor view's rows with the prototypes. targets: (M, K) distributions of the target view, without
    gradient. prior: as in `prior_term`. Without one, outputs that are all uniform give log K and 0, and outputs that all fall on one
    prototype 0 and log K.
    """
    logs = [(full(scores) / temperature).log_softmax(1) for scores in anchors]
    assignment = torch.stack([cross_entropy(targets, scores, temperature) for scores in anchors]).mean()
    return {"assignment": assignment, "prior": prior_term(torch.cat(logs), prior)}


def prior_term(logs: Tensor, power: float | None = None) -> Tensor:
    """How far the mean distribution of all rows is from the one that clusters should have; 0 where they are equal.

    logs: (M, K) log-probabilities. power: None for log K - H(mean), the divergence of the mean from uniform; else the divergence of a power
    law, k^-power at prototype k from 1 on, from the mean.

    >>> round(float(prior_term(torch.eye(4).clamp(min=1e-30).log())), 6)
    0.0
    """
    rows, count = logs.shape
    mean = logs.logsumexp(0) - math.log(rows)
    if power is None:
        return math.log(count) + (mean.exp() * mean).sum()
    wanted = power_law(mean, power)
    return (wanted.exp() * (wanted - mean)).sum()


def power_law(like: Tensor, power: float) -> Tensor:
    """The logarithm of the distribution k^-power over k = 1 .. K, (K,), K and type those of `like`."""
    return (-power * torch.arange(1, len(like) + 1, device=like.device).to(like).log()).log_softmax(0)


class MSN(Objective):
    """Objective over a target view, anchor views and a teacher; owns projector, the projector's moving average and prototypes.

    Target: the first view of role "clean", else of role "target", else the first that is seen whole. Anchors: views of role "context",
    else the other whole views and the local ones. Masked anchors ask encoders to leave hidden tokens out. Teacher and student are compared
    with the same prototypes, which learn from the student alone.

    dim: width of the encoder's rows. hidden, width: of the projector. prototypes, kind: how many, learned or fixed "equiangular" ones.
    temperature, sharpening, iterations: of the target, see `msn_targets`; the anchors share the temperature. prior_weight: of the term that
    keeps all clusters in use. prior: None for clusters of equal size, else the power of a power law (0.25 in PMSN). momentum,
    final_momentum: the teacher's, along half a cosine.

    Monitors: dead_prototypes, how many are the nearest of no anchor in the step.
    """

    needs = Needs(views=2, teacher=True, couples_rows=True, drops=True)
    tags = ("distillation", "clustering")
    evaluated = "teacher"

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 256,
        prototypes: int = 1024,
        kind: Kind = "learned",
        temperature: float = 0.1,
        sharpening: float = 0.25,
        iterations: int = 3,
        prior_weight: float = 1.0,
        prior: float | None = None,
        momentum: float = 0.996,
        final_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum = Cosine(momentum, final_momentum)
        self.project = mlp(dim, hidden, hidden, width, activation=nn.GELU)
        self.teacher_project = MovingAverage(self.project, self.momentum)
        self.prototypes = Prototypes(width, prototypes, kind=kind)
        self.temperature, self.sharpening, self.iterations = temperature, sharpening, iterations
        self.prior_weight, self.prior = prior_weight, prior

    def forward(self, step: Step) -> Losses:
        target, anchors = target_and_anchors(step)
        seen = self._scores(self.teacher_project(step.encode(target, teacher=True).rows))
        guessed = [self._scores(self.project(step.encode(view).rows)) for view in anchors]
        targets = msn_targets(seen, self.temperature, self.sharpening, self.iterations)
        terms = msn_terms(guessed, targets, self.temperature, self.prior)
        losses = Losses(assignment=terms["assignment"], prior=self.prior_weight * terms["prior"])
        losses.monitors = {"dead_prototypes": dead_prototypes(torch.cat(guessed))}
        return losses

    def _scores(self, rows: Tensor) -> Tensor:
        """Cosines of all ranks' rows with the prototypes, (M, K)."""
        scores: Tensor = self.prototypes(gather_rows(normalize(full(rows), dim=1)))
        return scores

    def collapse_line(self, rows: int) -> float:
        """The smaller of the two collapses: all outputs uniform, or all on one prototype (which no power law forgives)."""
        uniform = math.log(self.prototypes.count)
        if self.prior is None:
            return min(1.0, self.prior_weight) * uniform
        log = torch.full((1, self.prototypes.count), -uniform, dtype=torch.float64)
        return uniform + self.prior_weight * float(prior_term(log, self.prior))


def target_and_anchors(step: Step) -> tuple[View, list[View]]:
    """The view that the teacher sees, and those that the student does."""
    targets = step.set.role("clean") or step.set.role("target") or step.seen_whole
    anchors = step.set.role("context") or [*step.seen_whole[1:], *step.set.role("local")]
    return targets[0], anchors
