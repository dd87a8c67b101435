"""Every objective learns what its views agree on, and fails where the paper says that it must."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from anyview.data.arrays import ArraySource
from anyview.data.source import Epoch
from anyview.encoders.mlp import MLP
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.byol import BYOL
from anyview.objectives.objective import Objective
from anyview.objectives.vicreg import VICReg
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.views.draws import Draws
from anyview.views.pair import Pair
from anyview.views.view import View

SIGNAL, NUISANCE, CLASSES, STEPS = 4, 28, 5, 300
OBJECTIVES = {
    "barlow_twins": partial(BarlowTwins, width=32, redundancy=1 / 32),
    "vicreg": partial(VICReg, width=32),
    "byol": partial(BYOL, hidden=64, width=16, momentum=0.9),
}


def clusters() -> ArraySource:
    """Five classes in four columns, beside 28 columns that say nothing and vary more."""
    labels = torch.arange(600) % CLASSES
    signal = 2.0 * torch.randn(CLASSES, SIGNAL)[labels] + 0.5 * torch.randn(600, SIGNAL)
    return ArraySource(torch.cat([signal, 2.0 * torch.randn(600, NUISANCE)], 1), labels, name="clusters")


def other_nuisance(data: Tensor, draws: Draws) -> Tensor:
    noise = torch.cat([0.2 * draws.normal(SIGNAL), 3.0 * draws.normal(NUISANCE)], 1)
    return data + noise


def pretrained(make: partial[Objective], source: ArraySource, steps: int) -> Pretrainer:
    torch.manual_seed(1)
    encoder = MLP(SIGNAL + NUISANCE, hidden=64, dim=16, layers=2)
    optimizer = partial(torch.optim.AdamW, lr=3e-3, weight_decay=1e-4)
    pretrainer = Pretrainer(Stage([Task(Pair(other_nuisance), make(16))], encoder, epochs=1, optimizer=optimizer)).train()
    descent = optimizer([p for p in pretrainer.parameters() if p.requires_grad])
    batches = (batch for number in range(steps) for batch in source.batches(Epoch(number, batch_size=150)))
    for step in range(steps):
        batch = next(batches)
        descent.zero_grad()
        pretrainer(StepInput(batch, Draws.seeded(step, total=batch.total), step, steps)).total.backward()
        descent.step()
        pretrainer.after_step(step + 1, steps)
    return pretrainer.eval()


@torch.no_grad()
def encoded(pretrainer: Pretrainer, source: ArraySource) -> Tensor:
    return pretrainer.encoder(View(source.x)).rows


def neighbours_score(rows: Tensor, labels: Tensor) -> float:
    """Accuracy on the second half by neighbours from the first."""
    half = len(rows) // 2
    return float(KNeighborsClassifier(5).fit(rows[:half], labels[:half]).score(rows[half:], labels[half:]))


def effective_rank(rows: Tensor) -> float:
    """exp of the entropy of the singular values of the centred rows."""
    values = torch.linalg.svdvals((rows - rows.mean(0)).double())
    share = values / values.sum()
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_learns_what_the_views_share(name: str) -> None:
    source = clusters()
    before, after = (encoded(pretrained(OBJECTIVES[name], source, steps), source) for steps in (0, STEPS))
    untrained, trained = (neighbours_score(rows, source.labels) for rows in (before, after))
    assert trained > untrained + 0.3
    assert float(torch.nn.functional.normalize(after, dim=1).std(0).mean()) * 16**0.5 > 0.3


def projections(make: partial[Objective]) -> Tensor:
    source = clusters()
    pretrainer = pretrained(make, source, STEPS)
    with torch.no_grad():
        return next(iter(pretrainer.objectives.values())).project(encoded(pretrainer, source))


def test_vicreg_without_variance_collapses() -> None:
    whole, without = projections(OBJECTIVES["vicreg"]), projections(partial(VICReg, width=32, variance=0.0))
    assert float(without.std(0).mean()) < 0.05 * float(whole.std(0).mean())


def test_barlow_twins_without_its_off_diagonal_part_repeats_itself() -> None:
    whole, without = projections(OBJECTIVES["barlow_twins"]), projections(partial(BarlowTwins, width=32, redundancy=0.0))
    assert effective_rank(without) < 0.5 * effective_rank(whole)
