"""What is compared: our form of a loss, other libraries' forms, and where they mean different things by one name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from anyview.objectives.queue import Queue
from shared_losses.libraries import library

LIGHTLY, STABLE = "lightly", "stable-pretraining"
Form = Callable[..., Tensor]


@dataclass(frozen=True)
class Theirs:
    """Another library's form of a loss: what makes it (anew, with fresh state), and where it differs, why.

    alike: makes our form and theirs with that difference taken away from one of them. comparable: whether it does work of the same kind,
    so that its time may be held against ours.
    """

    library: str
    make: Callable[[], Form]
    differs: str = ""
    alike: tuple[Callable[[], Form], Callable[[], Form]] | None = None
    comparable: bool = True


@dataclass(frozen=True)
class Case:
    """A loss on given inputs; gradients are taken of those that require one, and where none does the forward pass alone counts."""

    objective: str
    size: str
    inputs: tuple[Tensor, ...]
    make: Callable[[], Form]
    theirs: list[Theirs] = field(default_factory=list)


def rows(*shape: int, of: int = 2, noise: float = 1.0) -> tuple[Tensor, ...]:
    """Views of equal samples: one random tensor, plus noise for each view."""
    common = torch.randn(shape)
    return tuple((common + noise * torch.randn(shape)).requires_grad_() for _ in range(of))


def fixed(form: Form) -> Callable[[], Form]:
    """Makes a form that has no state."""
    return lambda: form


class Rows(nn.Module):
    """An encoder that shows rows as they are, for methods of stable-pretraining that hold their loss; they try it on an image first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, shown: Tensor) -> Tensor:
        return shown if shown.ndim == 2 else shown.new_zeros(len(shown), self.width)


class Passed(nn.Identity):
    """A projector that passes rows on, the student's and the teacher's."""

    forward_student = forward_teacher = nn.Identity.forward


def of_rows(module: str, name: str, width: int, bank: Tensor | None = None, **options: Any) -> Any:
    """A method of stable-pretraining whose encoder and projector pass rows on, and whose queue, if it has one, is full of `bank`."""
    if bank is not None:
        options["queue_length"] = len(bank)
    method = getattr(library(f"stable_pretraining.methods.{module}"), name)(encoder_name=Rows(width), projector_dims=(1, width), **options)
    method.projector = Passed()
    if bank is not None:
        method.queue.out.copy_(bank)
        method.queue.filled.fill_(True)
    return method


class Pushed:
    """A queue that begins as `bank` and takes in each call's rows at the start of the next, as an objective does after the optimiser."""

    def __init__(self, bank: Tensor) -> None:
        self.queue, self.waiting = Queue(*bank.shape), bank[:0]
        self.queue.rows.copy_(bank)

    def now(self, then_push: Tensor) -> Tensor:
        """All rows, (size, D)."""
        self.queue.push(self.waiting)
        self.waiting = then_push
        return self.queue.rows

    def nearest(self, rows: Tensor, then_push: Tensor | None = None) -> Tensor:
        """The row nearest to each of `rows`."""
        keys = self.queue.rows if then_push is None else self.now(then_push)
        return keys[self.queue.nearest(rows)]
