"""LeJEPA: views agree, and along every direction their rows look drawn from a standard normal distribution; no teacher, no predictor.

Balestriero, LeCun. LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics. 2025, arXiv 2511.08544.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.distributed import sum_over_ranks
from anyview.encoders.heads import mlp
from anyview.objectives.gram import full, full_products
from anyview.objectives.objective import Losses, Needs, Objective, Step

KNOTS, REACH = 17, 3.0
"""The characteristic function is compared at so many equally spaced places from 0 to REACH."""


def epps_pulley(numbers: Tensor) -> Tensor:
    """How far samples are from a standard normal distribution: M·∫ |mean exp(itu) - exp(-t²/2)|² exp(-t²/2) dt, by the trapezoid rule.

    numbers: (..., M), this rank's of all ranks' samples u; returns (...). They are neither centred nor scaled first. About 1.0525 for
    samples that are standard normal, never 0; 0.40205·M for samples that are all 0.

    >>> round(float(epps_pulley(torch.zeros(100))), 3)
    40.205
    """
    numbers = full(numbers)
    count = sum_over_ranks(numbers.new_full((), numbers.shape[-1])).detach()
    cosines, sines = sum_over_ranks(_CharacteristicSums.apply(numbers)) / count
    normal, weights = _quadrature(numbers)
    return count * (((cosines - normal).square() + sines.square()) * weights).sum(-1)


def sigreg(rows: Tensor, directions: Tensor) -> Tensor:
    """`epps_pulley` of rows along directions, a mean over directions and views.

    rows: (..., M, D), this rank's, of one or more views. directions: (D, S), given unit length here, the same on all ranks.

    >>> rows, directions = torch.randn(4000, 8), torch.randn(8, 500)
    >>> abs(float(sigreg(rows, directions)) - 1.05) < 0.4 < float(sigreg(2 * rows, directions))
    True
    """
    with full_products(rows.device):
        along = normalize(directions.to(full(rows)), dim=0).T @ full(rows).mT
    return epps_pulley(along).mean()


def lejepa_terms(rows: Sequence[Tensor], whole: int, directions: Tensor) -> dict[str, Tensor]:
    """The terms before weighting: "invariance", to the mean of the views that are seen whole, and "normality", see `sigreg`.

    rows: (M, D) for each view, this rank's, the first `whole` of them seen whole. The invariance is a mean over views, all ranks' rows and
    columns. Gradients flow through the mean too.

    >>> terms = lejepa_terms([torch.zeros(10, 4)] * 3, whole=2, directions=torch.randn(4, 50))
    >>> {name: round(float(term), 4) for name, term in terms.items()}
    {'invariance': 0.0, 'normality': 4.0205}
    """
    views = torch.stack([full(each) for each in rows])
    errors = (views - views[:whole].mean(0)).square().mean((0, 2))
    total = sum_over_ranks(torch.stack([errors.sum(), errors.new_full((), len(errors))]))
    return {"invariance": total[0] / total[1].detach(), "normality": sigreg(views, directions)}


class LeJEPA(Objective):
    """Objective over two or more views, those that are seen whole first; owns the projector that the loss is taken on.

    dim: width of the encoder's rows. bottleneck, hidden, width: of the projector, a linear layer and two hidden ones. normality: weight
    of the test for normality, beside 1 - normality of the invariance. directions: how many random directions are tested, drawn anew in each
    step, the same for all views and ranks.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("information maximisation", "joint-embedding prediction")

    def __init__(
        self, dim: int, *, bottleneck: int = 512, hidden: int = 2048, width: int = 512, normality: float = 0.05, directions: int = 1024
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, bottleneck), mlp(bottleneck, hidden, hidden, width))
        self.width, self.normality, self.directions = width, normality, directions

    def forward(self, step: Step) -> Losses:
        rows = [self.project(step.encode(view).rows) for view in step.crops]
        directions = torch.randn(self.width, self.directions, generator=step.generator, device=step.draws.device)
        terms = lejepa_terms(rows, len(step.seen_whole), directions.to(rows[0].device))
        return Losses(invariance=(1 - self.normality) * terms["invariance"], normality=self.normality * terms["normality"])

    def collapse_line(self, rows: int) -> float:
        """For rows that are all 0, the least of all values that equal rows can have."""
        return self.normality * float(epps_pulley_of_noughts()) * rows


def epps_pulley_of_noughts() -> Tensor:
    """The share of M that `epps_pulley` gives to M samples that are all 0.

    >>> round(float(epps_pulley_of_noughts()), 5)
    0.40205
    """
    normal, weights = _quadrature(torch.zeros((), dtype=torch.float64))
    return ((1 - normal).square() * weights).sum()


def _quadrature(like: Tensor) -> tuple[Tensor, Tensor]:
    """exp(-t²/2) at the knots, and the weights of an integral over the whole line, of an even function times exp(-t²/2); each (KNOTS,)."""
    knots = torch.linspace(0, REACH, KNOTS, dtype=like.dtype, device=like.device)
    normal = (-knots.square() / 2).exp()
    ends = torch.ones_like(knots)
    ends[0] = ends[-1] = 0.5
    return normal, 2 * REACH / (KNOTS - 1) * ends * normal


def _powers(numbers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """cos(tu) and sin(tu) at each knot t in turn, by the angles' addition."""
    angle = numbers * (REACH / (KNOTS - 1))
    once, turned = angle.cos(), angle.sin()
    cosine, sine = torch.ones_like(angle), torch.zeros_like(angle)
    for _ in range(KNOTS):
        yield cosine, sine
        cosine, sine = cosine * once - sine * turned, sine * once + cosine * turned


class _CharacteristicSums(torch.autograd.Function):
    """Sums over samples (..., M) of cos(tu) and sin(tu) at every knot t, (2, ..., KNOTS).

    The knots are multiples of one step, so that the powers of exp(i·step·u) give all of them: one cosine and one sine per sample instead of
    KNOTS, and nothing of the size (..., M, KNOTS) is kept for the backward, which makes the powers again.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        ctx.save_for_backward(numbers)
        return torch.stack([torch.stack([c.sum(-1), s.sum(-1)]) for c, s in _powers(numbers)], dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (numbers,) = ctx.saved_tensors
        slope = torch.zeros_like(numbers)
        for knot, (cosine, sine) in enumerate(_powers(numbers)):
            of_cosine, of_sine = (knot * REACH / (KNOTS - 1) * gradients[0][..., knot]).unsqueeze(-1)
            slope = slope + of_sine * cosine - of_cosine * sine
        return slope
