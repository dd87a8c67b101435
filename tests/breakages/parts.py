"""What tests of the sixteen places share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyview.data.arrays import ArraySource
from anyview.data.source import Batch
from anyview.encoders.encoder import Wrapped
from anyview.encoders.mlp import MLP
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe, Stage, Task, recipe
from anyview.testing.tiny import sgd, tiny_draws
from anyview.views.noise import NoisePair


def train(pretrainer: Pretrainer, stage: Stage, batch: Batch, steps: int) -> list[float]:
    optimizer = stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad])
    totals = []
    for step in range(steps):
        optimizer.zero_grad()
        total = pretrainer(StepInput(batch, tiny_draws(step, batch.rows), step, steps)).total
        total.backward()
        optimizer.step()
        pretrainer.after_step(step + 1, steps)
        totals.append(float(total.detach()))
    return totals


class Rebuild(Objective):
    """Guess the features of hidden rows from the encoder's."""

    needs = Needs(masks=True, targets=True)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.decode = nn.Linear(dim, 12)
        self.hidden: list[Tensor] = []

    def forward(self, step: Step) -> Losses:
        view = step.views[0]
        hidden = view.mask.hidden
        self.hidden.append(hidden)
        return Losses(error=(self.decode(step.encode(view).rows) - view.target)[hidden].square().sum() / hidden.sum().clamp_min(1))


class LinearRows(Wrapped):
    def __init__(self, features: int) -> None:
        super().__init__(nn.Linear(features, 8), 8)


def tiny_recipe(source: ArraySource, objective: Objective, epochs: int) -> Recipe:
    @recipe()
    def tiny() -> Recipe:
        torch.manual_seed(0)
        encoder = MLP(12, hidden=10, dim=8, layers=2)
        return Recipe(source, [Stage([Task(NoisePair(), objective)], encoder, epochs=epochs, optimizer=sgd)], encoder)

    return tiny()
