"""TiCo: a view agrees with a teacher's other view, and rows keep out of the directions that rows have lately pointed in.

Zhu, Moraes, Karakulak, Sobol, Canziani, LeCun. TiCo: Transformation Invariance and Covariance Contrast for Self-Supervised Visual
Representation Learning. 2022, arXiv 2206.10698.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.gram import full, full_products
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.schedules import Cosine


@torch.no_grad()
def second_moment(rows: Tensor) -> Tensor:
    """The mean of z zᵀ over rows z that are given unit length, (D, D), without gradient; rows: (M, D).

    >>> second_moment(torch.tensor([[3.0, 0.0], [0.0, 5.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    unit = normalize(full(rows), dim=1, eps=1e-12)
    with full_products(rows.device):
        return (unit / len(unit)).T @ unit


def tico_terms(rows: Tensor, target: Tensor, moment: Tensor) -> dict[str, Tensor]:
    """The terms before weighting: "invariance", 1 - cos, and "contrast", zᵀCz; both are means over rows.

    rows: (M, D) of the student, z when they have unit length. target: (M, D) of the teacher's other view, without gradient. moment: C,
    (D, D), symmetric: the second moments of this batch's rows and of earlier batches', averaged. It has no gradient, the z on either side
    of it do.

    >>> z = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    >>> {name: round(float(term), 4) for name, term in tico_terms(z, z, 0.1 * second_moment(z)).items()}
    {'invariance': 0.0, 'contrast': 0.1}
    """
    unit, other = (normalize(full(z), dim=1, eps=1e-12) for z in (rows, target.detach()))
    return {"invariance": 1 - (unit * other).sum(1).mean(), "contrast": _Contrast.apply(unit, moment.detach().to(unit))}


class _Contrast(torch.autograd.Function):
    """The mean of zᵀCz over unit rows z. C is symmetric and fixed, so that the forward pass's product, Cz, is half of the gradient."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, moment: Tensor) -> Tensor:
        with full_products(unit.device):
            turned = unit @ moment
        ctx.save_for_backward(turned)
        return (unit * turned).sum(1).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (turned,) = ctx.saved_tensors
        return turned * (2 * gradients[0] / len(turned)), None


class TiCo(Objective):
    """Objective over two views and a teacher; owns projector, its moving average and the second moments of earlier batches.

    The student sees the first view, the teacher the second. dim: width of the encoder's rows. hidden, width: of the projector. contrast:
    weight of the covariance contrast (rho in the paper, 8 to 20). decay: share of earlier batches in the second moment (beta). momentum,
    final_momentum: the teacher's, from the first to the last step along half a cosine.
    """

    needs = Needs(views=2, teacher=True, couples_rows=True)
    tags = ("information maximisation", "distillation")
    moment: Tensor

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 4096,
        width: int = 256,
        contrast: float = 8.0,
        decay: float = 0.9,
        momentum: float = 0.99,
        final_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum = Cosine(momentum, final_momentum)
        self.project = mlp(dim, hidden, width)
        self.teacher_project = MovingAverage(self.project, self.momentum)
        self.contrast, self.decay = contrast, decay
        self.register_buffer("moment", torch.zeros(width, width))
        self._seen: dict[int, Tensor] = {}

    def forward(self, step: Step) -> Losses:
        first, second = step.seen_whole[:2]
        rows = gather_rows(self.project(step.encode(first).rows))
        target = gather_rows(self.teacher_project(step.encode(second, teacher=True).rows))
        own = second_moment(rows)
        if self.training:
            self._seen[id(step)] = own
        terms = tico_terms(rows, target, self.moment.to(own).lerp(own, 1 - self.decay))
        return Losses(invariance=terms["invariance"], contrast=self.contrast * terms["contrast"])

    def after_step(self, step: Step) -> None:
        if id(step) in self._seen:
            self.moment.lerp_(self._seen.pop(id(step)).to(self.moment), 1 - self.decay)

    def collapse_line(self, rows: int) -> float:
        return self.contrast
