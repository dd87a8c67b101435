"""Teachers: slowly moving copies of a module."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.schedules import EqualWeights, Schedule, as_schedule
from anyview.views.view import View


class MovingAverage(nn.Module):
    """A copy of `source` whose parameters follow it: p' <- m p' + (1 - m) p, after every optimiser step.

    momentum: m, a number or a schedule over the stage. parameters: picks parameters by name; those it leaves out are kept equal to the
    source's (they are frozen or shared in training, as with adapters). buffers: "copy" takes the source's (default), "average" averages
    those that are floating point and copies the rest, "own" leaves them to the teacher's own forward passes.

    The training loop updates every MovingAverage it finds in a pretrainer, once per optimiser step, after it. The copy has no gradient,
    no optimiser and runs in the mode (train or eval) of the module that holds it.

    >>> student = nn.Linear(2, 2)
    >>> teacher = MovingAverage(student, momentum=0.9)
    >>> with torch.no_grad(): _ = student.weight.add_(1.0)
    >>> teacher.update(step=1, steps=10)
    >>> (student.weight - teacher.module.weight).mean().detach()
    tensor(0.9000)
    """

    def __init__(
        self,
        source: nn.Module,
        momentum: float | Schedule = 0.996,
        *,
        parameters: Callable[[str], bool] | None = None,
        buffers: Literal["copy", "average", "own"] = "copy",
    ) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)
        self.momentum = as_schedule(momentum)
        self.averaged = parameters
        self.buffer_rule = buffers
        self._source = (source,)  # in a tuple: followed, not owned, so its parameters are not registered twice

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The copy's output, without gradient."""
        with torch.no_grad():
            return self.module(*inputs, **options)

    def restart(self) -> None:
        """Become an exact copy of the source again."""
        self.module.load_state_dict(self._source[0].state_dict())

    @torch.no_grad()
    def update(self, step: int, steps: int) -> None:
        """Follow the source once; step of steps sets the momentum."""
        momentum = self.momentum(step, steps)
        source = self._source[0]
        theirs = dict(source.named_parameters())
        for name, own in self.module.named_parameters():
            if self.averaged is None or self.averaged(name):
                own.lerp_(theirs[name], 1.0 - momentum)
            else:
                own.copy_(theirs[name])
        if self.buffer_rule == "own":
            return
        buffers = dict(source.named_buffers())
        for name, kept in self.module.named_buffers():
            if self.buffer_rule == "average" and kept.is_floating_point():
                kept.lerp_(buffers[name], 1.0 - momentum)
            else:
                kept.copy_(buffers[name])


class Averaged(Encoder):
    """An encoder in training beside the mean of its weights over all steps, which is what a recipe keeps: `average.module`.

    encoder: what objectives see. momentum: as in MovingAverage; by default every step counts as much (stochastic weight averaging:
    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson. 2018, arXiv 1803.05407).

    >>> from anyview.encoders.mlp import MLP
    >>> averaged = Averaged(MLP(4, dim=2))
    >>> averaged(View(torch.randn(3, 4))).rows.shape, type(averaged.average.module).__name__
    (torch.Size([3, 2]), 'MLP')
    """

    def __init__(self, encoder: Encoder, momentum: float | Schedule | None = None) -> None:
        super().__init__()
        self.dim, self.tokens, self.encoder = encoder.dim, encoder.tokens, encoder
        self.average = MovingAverage(encoder, EqualWeights() if momentum is None else momentum)

    def forward(self, view: View) -> Encoding:
        encoding: Encoding = self.encoder(view)
        return encoding
