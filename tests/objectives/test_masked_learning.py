"""Every objective of masked prediction learns what the tokens of a sequence tell of one another, without collapse."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from anyview.data.source import Batch
from anyview.encoders.transformer import SequenceTransformer
from anyview.objectives.data2vec import Data2Vec
from anyview.objectives.i_jepa import IJEPA
from anyview.objectives.masked_reconstruction import MaskedReconstruction
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.testing.tiny import tiny_draws
from anyview.views.blocks import ContextTargets, MaskGrid
from anyview.views.maker import ViewMaker
from anyview.views.view import View

CLASSES, TOKENS, SIGNAL, NUISANCE = 6, 8, 4, 8
STEPS = {"data2vec": 500}  # its targets have to be learned first
SMALL = {"width": 16, "depth": 1, "heads": 2}
METHODS = {
    "masked_reconstruction": (MaskGrid(0.5, drop=True), partial(MaskedReconstruction, normalise_target=False, **SMALL)),
    "masked_reconstruction, replaced": (MaskGrid(0.5), partial(MaskedReconstruction, normalise_target=False, **SMALL)),
    "data2vec": (MaskGrid(0.5), partial(Data2Vec, momentum=0.98, final_momentum=0.999)),
    "i_jepa": (ContextTargets(targets=2), partial(IJEPA, momentum=0.98, **SMALL)),
}


def sequences(rows: int = 400) -> tuple[Tensor, Tensor]:
    """Six courses of four numbers over eight tokens, beside eight numbers that say nothing and vary more."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % CLASSES
    course = torch.randn(CLASSES, TOKENS, SIGNAL, generator=random)[labels]
    signal = course + 0.5 * torch.randn(rows, TOKENS, SIGNAL, generator=random)
    return torch.cat([signal, 2.0 * torch.randn(rows, TOKENS, NUISANCE, generator=random)], 2), labels


def trained(views: ViewMaker, objective: Any, data: Tensor, steps: int) -> Pretrainer:
    torch.manual_seed(1)
    encoder = SequenceTransformer(SIGNAL + NUISANCE, dim=16, depth=1, heads=2, masked=True)
    stage = Stage([Task(views, objective(16))], encoder, 1, partial(torch.optim.AdamW, lr=5e-3))
    pretrainer = Pretrainer(stage).train()
    pretrainer.prepare(StepInput(Batch(data[:80], 80), tiny_draws(0, 80), 0, steps), len(data))
    pretrainer.start()
    descent = stage.optimizer([parameter for parameter in pretrainer.parameters() if parameter.requires_grad])
    for step in range(steps):
        descent.zero_grad()
        batch = Batch(data[torch.randperm(len(data))[:80]], 80)
        pretrainer(StepInput(batch, tiny_draws(step, 80), step, steps)).total.backward()
        descent.step()
        pretrainer.after_step(step + 1, steps)
    return pretrainer.eval()


@torch.no_grad()
def rows_of(pretrainer: Pretrainer, data: Tensor) -> Tensor:
    return pretrainer.encoder(View(data)).rows


def score(rows: Tensor, labels: Tensor) -> float:
    """Accuracy on the second half by neighbours from the first."""
    half = len(rows) // 2
    return float(KNeighborsClassifier(5).fit(rows[:half], labels[:half]).score(rows[half:], labels[half:]))


@pytest.mark.parametrize("name", METHODS)
def test_learns_which_course_a_sequence_takes(name: str) -> None:
    data, labels = sequences()
    before, after = (rows_of(trained(*METHODS[name], data, steps), data) for steps in (0, STEPS.get(name, 200)))
    assert score(after, labels) > score(before, labels) + 0.15
    assert float(torch.nn.functional.normalize(after, dim=1).std(0).mean()) * 16**0.5 > 0.3
