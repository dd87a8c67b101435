"""More objectives of information maximisation learn what their views agree on, and fail without what keeps them from collapse."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.evaluation.collapse import mean_standard_deviation
from anyview.objectives.lejepa import LeJEPA
from anyview.objectives.mixed_barlow_twins import MixedBarlowTwins, mixed_barlow_twins_terms
from anyview.objectives.objective import Objective
from anyview.objectives.tico import TiCo
from anyview.objectives.vicregl import VICRegL
from anyview.objectives.w_mse import WMSE
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.testing.tiny import tiny_draws
from anyview.views.noise import NoisePair
from anyview.views.view import View
from tests.objectives.test_learning import clusters, encoded, neighbours_score, pretrained

STEPS = 150
OBJECTIVES = {
    "mixed_barlow_twins": partial(MixedBarlowTwins, hidden=32, width=32, redundancy=1 / 32, mixing=1.0),
    "w_mse": partial(WMSE, hidden=32, width=8, window=32),
    "tico": partial(TiCo, hidden=64, width=16, momentum=0.9),
    "lejepa": partial(LeJEPA, bottleneck=32, hidden=64, width=16, directions=64),
}


def learnt(make: partial[Objective], steps: int = STEPS) -> tuple[float, Tensor]:
    """How much better neighbours tell the classes than before, and the trained rows."""
    source = clusters()
    before, after = (encoded(pretrained(make, source, number), source) for number in (0, steps))
    return neighbours_score(after, source.labels) - neighbours_score(before, source.labels), after


@pytest.mark.parametrize("name", OBJECTIVES)
def test_learns_what_the_views_share(name: str) -> None:
    torch.manual_seed(0)
    gain, rows = learnt(OBJECTIVES[name])
    assert gain > 0.25
    assert mean_standard_deviation(rows) > 0.3


WITHOUT = {"tico": {"contrast": 0.0}, "lejepa": {"normality": 0.0}}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_what_spreads_the_rows_they_collapse(name: str) -> None:
    torch.manual_seed(0)
    source = clusters()
    whole, without = (pretrained(partial(OBJECTIVES[name], **options), source, STEPS) for options in ({}, WITHOUT[name]))

    def spread(pretrainer: Pretrainer) -> float:
        with torch.no_grad():
            projected = next(iter(pretrainer.objectives.values())).project(encoded(pretrainer, source))
        return mean_standard_deviation(projected)

    assert spread(without) < 0.3 * spread(whole)


def test_the_mixing_term_falls_by_itself_only_where_it_is_asked_for() -> None:
    torch.manual_seed(0)
    source = clusters()

    def left(weight: float) -> float:
        pretrainer = pretrained(partial(OBJECTIVES["mixed_barlow_twins"], mixing=weight), source, STEPS)
        objective = next(iter(pretrainer.objectives.values()))
        x, partner = source.x[:200], torch.randperm(200, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            a, mixed = (
                normalize(objective.project(pretrainer.encoder(View(data)).rows), dim=1) for data in (x, 0.5 * x + 0.5 * x[partner])
            )
        return float(mixed_barlow_twins_terms(a, a, mixed, partner, 0.5)["mixing"])

    assert left(16.0) < 0.7 * left(0.0)


class Parts(Encoder):
    """A token from each part of a sample, and their mean."""

    dim, tokens = 16, True

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Sequential(torch.nn.Linear(12, 48), torch.nn.ReLU(), torch.nn.Linear(48, 16))

    def forward(self, view: View) -> Encoding:
        tokens = self.embed(view.data)
        places = torch.linspace(0, 1, tokens.shape[1])[:, None].expand(len(tokens), -1, -1)
        return Encoding(tokens.mean(1), tokens=tokens, coordinates=places)


def test_vicregl_learns_what_parts_share() -> None:
    """Each part is of one of four kinds, which four numbers tell and eight others hide."""
    torch.manual_seed(0)
    kinds = torch.randint(4, (300, 6))
    data = torch.cat([2.0 * torch.randn(4, 4)[kinds] + 0.5 * torch.randn(300, 6, 4), torch.zeros(300, 6, 8)], 2)
    encoder = Parts()
    objective = VICRegL(16, width=32, local_width=32, matches=4)
    stage = Stage([Task(HiddenPair(), objective)], encoder, 1, partial(torch.optim.AdamW, lr=3e-3))
    pretrainer = Pretrainer(stage).train()
    descent = stage.optimizer(pretrainer.parameters())

    def score() -> float:
        shown = data + torch.cat([torch.zeros(300, 6, 4), 3.0 * torch.randn(300, 6, 8)], 2)
        with torch.no_grad():
            return neighbours_score(encoder(View(shown)).tokens.flatten(0, 1), kinds.flatten())

    before = score()
    for step in range(STEPS):
        batch = Batch(data[torch.randperm(300)[:64]], 64)
        descent.zero_grad()
        pretrainer(StepInput(batch, tiny_draws(step, 64), step, STEPS)).total.backward()
        descent.step()
        pretrainer.after_step(step + 1, STEPS)
    assert score() > before + 0.15
    with torch.no_grad():
        assert mean_standard_deviation(encoder(View(data)).tokens.flatten(0, 1)) > 0.3


class HiddenPair(NoisePair):
    """Two views whose last eight numbers say nothing."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def __call__(self, batch: Batch, draws: object) -> object:
        views = super().__call__(batch, draws)
        weights = torch.cat([torch.full((4,), 0.2), torch.full((8,), 3.0)])
        for view in views.views:
            view.data = batch.data + weights * (view.data - batch.data)
        return views
