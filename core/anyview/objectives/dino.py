"""DINO: a student's view of a sample matches what a slowly moving teacher makes of the whole, without labels or negatives.

Caron, Touvron, Misra, Jégou, Mairal, Bojanowski, Joulin. Emerging Properties in Self-Supervised Vision Transformers. 2021,
arXiv 2104.14294. Sinkhorn centring and the KoLeo regulariser: Oquab et al. DINOv2: Learning Robust Visual Features without Supervision.
2023, arXiv 2304.07193.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.distributed import gather_rows, rank
from anyview.encoders.heads import mlp
from anyview.encoders.moving_average import MovingAverage
from anyview.errors import UserError
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.prototypes import Prototypes, phase, swapped_cross_entropy
from anyview.objectives.sinkhorn import sinkhorn
from anyview.objectives.tokens import mean_of_all
from anyview.schedules import Cosine

KOLEO_EPS = 1e-8


def teacher_targets(outputs: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """The teacher's distributions (M, K), centred and sharpened, without gradient; outputs: (M, K), centre: (K,)."""
    return ((full(outputs) - centre) / temperature).softmax(1).detach()


def dino_loss(targets: Sequence[Tensor], outputs: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """Cross-entropy of the teacher's distribution of a view with the student's of another, a mean over rows and pairs of views.

    targets: (M, K) distributions of the views that the teacher sees. outputs: (M, K) of the student's views, those first, of which each
    is divided by `temperature`. The mean is over the rows of all ranks. Never below the targets' entropy; uniform ones give log K.

    >>> round(float(dino_loss([torch.full((6, 10), 0.1)], [torch.zeros(6, 10)] * 2)), 4)
    2.3026
    """
    return mean_of_all(swapped_cross_entropy(targets, outputs, temperature))


def koleo_loss(rows: Tensor, eps: float = KOLEO_EPS) -> Tensor:
    """-log of the distance from each row to its nearest neighbour on the unit sphere, a mean over rows: rows are spread evenly.

    rows: (M, D), M > 1. All rows equal gives -log eps and a gradient of 0. Raises ValueError for a single row, which has no neighbour.

    >>> round(float(koleo_loss(torch.eye(4))), 4)
    -0.3466
    """
    if len(rows) < 2:
        raise ValueError(f"the KoLeo term needs at least two rows, found {len(rows)}; make the batch larger")
    with torch.autocast(rows.device.type, enabled=False):
        unit = normalize(full(rows), dim=1)
        neighbour = (unit @ unit.T).detach().fill_diagonal_(-torch.inf).argmax(1)
    return -((unit - unit.index_select(0, neighbour)).norm(dim=1) + eps).log().mean()


class DinoHead(nn.Module):
    """Projector, bottleneck of unit length, and a last layer with unit weights: rows (M, dim) to outputs (M, K) between -1 and 1.

    dim: width of the rows. hidden, width: of the projector and of its bottleneck. count: K. norm: batch norm in the projector, which starts
    as published, with small weights and without biases: a bias that all rows share would make the first outputs, and the teacher's targets,
    nearly the same.
    """

    def __init__(self, dim: int, hidden: int, width: int, count: int, *, norm: bool = False) -> None:
        super().__init__()
        self.project = mlp(dim, hidden, hidden, width, norm=norm, activation=nn.GELU)
        self.project.apply(_start_small)
        self.last = Prototypes(width, count)

    def embed(self, rows: Tensor) -> Tensor:
        """The bottleneck's unit rows, (..., width)."""
        return normalize(full(self.project(rows)), dim=-1)

    def forward(self, rows: Tensor, frozen: bool = False) -> Tensor:
        """Outputs; frozen: the last layer gets a gradient of 0."""
        scores: Tensor = self.last(self.embed(rows), frozen)
        return scores


def _start_small(module: nn.Module) -> None:
    """A linear layer's weights from a normal distribution of deviation 0.02, its bias 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Centre(nn.Module):
    """A running mean of the teacher's outputs, (K,), that is taken off them so that no prototype wins everywhere.

    momentum: how much of it stays at each step. It moves in `after_step`, once the outputs that it centres have been used.
    """

    value: Tensor

    def __init__(self, count: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(count))

    @torch.no_grad()
    def follow(self, mean: Tensor) -> None:
        """Move towards a step's mean output, (K,), of all rows, views and ranks."""
        self.value.lerp_(mean.to(self.value), 1 - self.momentum)


class DINO(Objective):
    """Objective over two views that are seen whole and any local ones, and a teacher; owns head, the head's moving average and the centre.

    The teacher sees the whole views, the student all; each prediction is of a view that the student did not see. dim: width of the
    encoder's rows. hidden, width, prototypes: of the head (1024 to 4096 prototypes serve small data). norm: batch norm in the head, which
    residual networks learn faster with. temperature: the student's.
    teacher_temperature, final_teacher_temperature: the teacher's, linear over the first warmup_epochs passes. frozen_epochs: passes in
    which the last layer stays as it was drawn. (Either takes half of the stage at most.) centre_momentum: of the centre.
    centering: "centre", or "sinkhorn" to use every prototype equally, for each view on the rows of all ranks, in 3 iterations. koleo:
    weight of the KoLeo term on the encoder's rows of whole views (0.1 in DINOv2), a mean over them. momentum, final_momentum: the
    teacher's, along half a cosine.

    Monitors: teacher_entropy, of the mean of the teacher's distributions (0 where all fall on one prototype); kl, from the teacher's to
    the student's (near 0, with an entropy near log K, where both are uniform).
    """

    needs = Needs(views=2, teacher=True)
    tags = ("distillation",)
    evaluated = "teacher"

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 256,
        prototypes: int = 65536,
        norm: bool = False,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        final_teacher_temperature: float = 0.07,
        warmup_epochs: float = 30.0,
        frozen_epochs: float = 1.0,
        centering: Literal["centre", "sinkhorn"] = "centre",
        centre_momentum: float = 0.9,
        koleo: float = 0.0,
        momentum: float = 0.996,
        final_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        if centering not in ("centre", "sinkhorn"):
            raise UserError(f"centering is 'centre' or 'sinkhorn', and {centering!r} was asked for")
        self.momentum = Cosine(momentum, final_momentum)
        self.head = DinoHead(dim, hidden, width, prototypes, norm=norm)
        self.teacher_head = MovingAverage(self.head, self.momentum)
        self.centre = Centre(prototypes, centre_momentum) if centering == "centre" else None
        self.temperature, self.koleo, self.frozen_epochs = temperature, koleo, frozen_epochs
        self.teacher_temperature = TeacherTemperature(teacher_temperature, final_teacher_temperature, warmup_epochs)
        if koleo or self.centre is None:
            self.needs = replace(self.needs, couples_rows=True)
        self._means: dict[int, Tensor] = {}

    def forward(self, step: Step) -> Losses:
        frozen = phase(step, self.frozen_epochs) < 1
        teacher = [self.teacher_head(step.encode(view, teacher=True).rows) for view in step.seen_whole]
        targets = [self._targets(output, self.teacher_temperature(step)) for output in teacher]
        outputs = [self.head(step.encode(view).rows, frozen) for view in step.crops]
        losses = Losses(dino=dino_loss(targets, outputs, self.temperature))
        losses.monitors = teacher_monitors(targets, losses["dino"])
        if self.koleo:
            spread = [koleo_loss(gather_rows(step.encode(view).rows)) for view in step.seen_whole]
            losses["koleo"] = self.koleo * torch.stack(spread).mean()
        if self.centre is not None:
            self._means[id(step)] = mean_of_all(torch.cat(teacher))
        return losses

    def _targets(self, outputs: Tensor, temperature: float) -> Tensor:
        if self.centre is not None:
            return teacher_targets(outputs, self.centre.value, temperature)
        return own_rows(sinkhorn(gather_rows(outputs), temperature), outputs)

    def after_step(self, step: Step) -> None:
        if self.centre is not None and id(step) in self._means:
            self.centre.follow(self._means.pop(id(step)))

    def collapse_line(self, rows: int) -> float:
        """All outputs uniform, which the centre turns equal rows into."""
        return math.log(self.head.last.count) - self.koleo * math.log(KOLEO_EPS)


class TeacherTemperature:
    """A temperature that goes in a line from `start` to `final` over the first `epochs` passes, or half of a shorter stage."""

    def __init__(self, start: float, final: float, epochs: float) -> None:
        self.start, self.final, self.epochs = start, final, epochs

    def __call__(self, step: Step) -> float:
        """The temperature of a step."""
        return self.start + (self.final - self.start) * phase(step, self.epochs)


@torch.no_grad()
def teacher_monitors(targets: Sequence[Tensor], loss: Tensor) -> dict[str, float | Tensor]:
    """The entropy of the mean of the teacher's distributions (M, K), and what the loss has above their own mean entropy."""
    rows = torch.cat(list(targets))
    entropy = -torch.xlogy(rows, rows).sum(1)
    mean = mean_of_all(rows)
    return {"teacher_entropy": -torch.xlogy(mean, mean).sum(), "kl": loss.detach() - mean_of_all(entropy)}


def own_rows(gathered: Tensor, own: Tensor) -> Tensor:
    """This rank's part of all ranks' rows, where `own` were its rows before they were gathered."""
    counts = gather_rows(torch.tensor([len(own)], device=own.device))
    start = int(counts[: rank()].sum())
    return gathered[start : start + len(own)]
