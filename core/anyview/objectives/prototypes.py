"""Prototypes: unit rows that samples are scored against, and what the objectives over them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from anyview.errors import UserError
from anyview.objectives.gram import full
from anyview.objectives.objective import Step

Kind = Literal["learned", "equiangular"]


class Prototypes(nn.Module):
    """K unit rows of width D; scores rows (M, D) by their products with each, (M, K): cosines where the rows have unit length too.

    dim: D. count: K. kind: "learned", or "equiangular": fixed, as far apart as K directions can be. max_cosine: the largest cosine that
    two equiangular prototypes may have, by default the smallest that can be reached. seed: of the equiangular ones.

    Learned prototypes are divided by their length in every product, so that neither a step nor weight decay changes what they score;
    this is weight normalisation with a gain of 1. Products are taken in float32 (or float64) under autocast too.

    >>> Prototypes(dim=2, count=3)(torch.zeros(4, 2)).shape
    torch.Size([4, 3])
    """

    weight: Tensor

    def __init__(self, dim: int, count: int, *, kind: Kind = "learned", max_cosine: float | None = None, seed: int = 0) -> None:
        super().__init__()
        if count < 1:
            raise UserError(f"{count} prototypes were asked for; give at least one")
        self.count, self.kind = count, kind
        if kind == "learned":
            self.weight = nn.Parameter(normalize(torch.randn(count, dim), dim=1))
        elif kind == "equiangular":
            from anyview.objectives.equiangular import equiangular_basis

            basis = equiangular_basis(count, dim, max_cosine=max_cosine, seed=seed)
            self.register_buffer("weight", basis.to(torch.get_default_dtype()))
        else:
            raise UserError(f"prototypes are 'learned' or 'equiangular', and {kind!r} was asked for")

    def forward(self, rows: Tensor, frozen: bool = False) -> Tensor:
        """The scores of rows (M, D), (M, K), float32 or float64. frozen: give the prototypes a gradient of 0, and the rows theirs."""
        weight = self.weight.detach() + 0.0 * self.weight if frozen else self.weight  # 0, not none: ranks wait for every gradient
        with torch.autocast(rows.device.type, enabled=False):
            return full(rows) @ normalize(full(weight), dim=1).T


def dead_prototypes(scores: Tensor) -> Tensor:
    """How many of K prototypes score highest for no row, a whole number; scores: (M, K).

    >>> int(dead_prototypes(torch.eye(4)[:3]))
    1
    """
    dead = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
    dead[scores.detach().argmax(1)] = False
    return dead.sum()


def cross_entropy(targets: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """-Σ p log softmax(logits / temperature) for each row, (M,).

    targets: (M, K) distributions, or sums of some, which get no gradient. logits: (M, K), computed with in float32 or float64.

    >>> cross_entropy(torch.full((2, 4), 0.25), torch.zeros(2, 4)).exp()
    tensor([4., 4.])
    """
    return _cross_entropies([targets], [logits], temperature)


def swapped_cross_entropy(targets: Sequence[Tensor], logits: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
    """Cross-entropy of each view's targets with every other view's logits, (M,): a mean over pairs of views, for each row.

    targets: (M, K) distributions of the first views, without gradient. logits: (M, K) of all views, in the same order, divided by
    `temperature`. As it is linear in the targets, a view's log-probabilities are multiplied once, with the sum of the others' targets.
    Raises ValueError for a single view.

    >>> uniform = torch.full((5, 4), 0.25)
    >>> swapped_cross_entropy([uniform, uniform], [torch.zeros(5, 4)] * 3)[0] / torch.tensor(4.0).log()
    tensor(1.)
    """
    pairs = len(targets) * (len(logits) - 1)
    if pairs == 0:
        raise ValueError(f"views are compared with each other, and there are {len(logits)}, {len(targets)} of them with targets")
    every = _sum(targets) if len(logits) > len(targets) else None
    wanted, rows = [], []
    for seen, row in enumerate(logits):
        others = [target for guessed, target in enumerate(targets) if guessed != seen]
        target = every if seen >= len(targets) else _sum(others) if others else None
        if target is not None:
            wanted.append(target)
            rows.append(row)
    return _cross_entropies(wanted, rows, temperature, pairs)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])


def _cross_entropies(targets: Sequence[Tensor], logits: Sequence[Tensor], temperature: float, divisor: int = 1) -> Tensor:
    """The sum over pairs of targets and logits, divided by a number, for each row, (M,)."""
    rows = [full(row) for row in logits]
    wanted = [target.detach().to(row) for target, row in zip(targets, rows, strict=True)]
    losses: Tensor = _CrossEntropies.apply(wanted, temperature, divisor, *rows)
    return losses


class _CrossEntropies(torch.autograd.Function):
    """Autograd's own form with half of its matrices (M, K): both softmax kernels read a row before they write it, so each may overwrite
    what it is given, and temperature and divisor scale M numbers of the gradient in place of M·K. All pairs are one node of autograd,
    because on small matrices the nodes cost as much as the numbers.
    """

    @staticmethod
    def forward(ctx: Any, targets: Sequence[Tensor], temperature: float, divisor: int, *logits: Tensor) -> Tensor:
        logs = [row / temperature for row in logits]
        for row in logs:
            torch.ops.aten._log_softmax.out(row, 1, False, out=row)
        ctx.save_for_backward(*targets, *logs)
        ctx.scale = temperature * divisor
        return _sum([(target * row).sum(1) for target, row in zip(targets, logs, strict=True)]).div_(-divisor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        scale = (gradients[0] / -ctx.scale)[:, None]
        found: list[Tensor] = []
        for target, logs in zip(saved[: len(saved) // 2], saved[len(saved) // 2 :], strict=True):
            slopes = target * scale
            found.append(torch.ops.aten._log_softmax_backward_data.out(slopes, logs, 1, logs.dtype, out=slopes))
        return None, None, None, *found


def phase(step: Step, epochs: float) -> float:
    """How much is done of a phase that takes the first `epochs` passes over the data, 0 to 1, and 1 ever after.

    Papers give such phases in epochs of long trainings; in a short one a phase takes half of the stage at most.
    """
    length = min(epochs, step.epochs / 2)
    return min(1.0, step.epoch / length) if length > 0 else 1.0
