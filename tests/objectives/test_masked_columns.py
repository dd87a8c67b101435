from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anyview.data.source import Batch
from anyview.encoders.encoder import Wrapped
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.objectives.masked_columns import MaskedColumns, masked_columns_loss
from anyview.objectives.objective import Step
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.testing import check_objective, check_rank_exact
from anyview.testing.tiny import tiny_draws
from anyview.views.draws import Draws
from anyview.views.mask import MaskColumns, MaskRows, MaskTokens
from anyview.views.view import Mask, View, ViewSet

SMALL = partial(MaskedColumns, hidden=10)


def some(rows: int = 6, columns: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, rows, columns, generator=random, dtype=torch.float64)
    return prediction, target, torch.rand(rows, columns, generator=random) < 0.4


def test_is_the_mean_error_over_hidden_entries() -> None:
    prediction, target, hidden = some()
    entries = [(i, j) for i in range(6) for j in range(5) if hidden[i, j]]
    squared = sum((prediction[e] - target[e]) ** 2 for e in entries) / len(entries)
    torch.testing.assert_close(masked_columns_loss(prediction, target, hidden), squared, rtol=1e-10, atol=0)
    gaps = [abs(prediction[e] - target[e]) for e in entries]
    smooth = sum(gap**2 / 2 if gap < 1 else gap - 0.5 for gap in gaps) / len(entries)
    torch.testing.assert_close(masked_columns_loss(prediction, target, hidden, "smooth_l1"), smooth, rtol=1e-10, atol=0)


def test_gradcheck_and_no_gradient_where_nothing_is_hidden() -> None:
    prediction, target, hidden = some(3, 3)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: masked_columns_loss(p, target, hidden), (prediction,))
    masked_columns_loss(prediction, target, hidden).backward()
    assert torch.equal(prediction.grad != 0, hidden)


def test_without_hidden_entries_the_loss_is_nought() -> None:
    prediction, target, hidden = some()
    assert float(masked_columns_loss(prediction, target, hidden & False)) == 0.0


@pytest.mark.parametrize("hidden", [torch.tensor([True, False, True]), torch.rand(3, 4) < 0.5])
def test_masks_may_be_of_rows_or_entries_and_data_of_more_axes(hidden: Tensor) -> None:
    data = torch.randn(3, 4, 2)
    view = View(data, mask=Mask(hidden), target=data)
    objective, encoder = SMALL(5), Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(8, 5)), dim=5)
    objective.prepare(ViewSet([view]), 3)
    loss = objective(Step(ViewSet([view]), None, Draws.seeded(0, total=3), 0, 1, encoder))["reconstruction"]
    guess = objective.decode(encoder(view).rows).view(3, 4, 2)
    torch.testing.assert_close(loss, (guess - data)[hidden].square().mean())


@pytest.mark.parametrize("make_views", [MaskTokens, MaskColumns, MaskRows])
@pytest.mark.parametrize("loss", ["mse", "smooth_l1"])
def test_tables_keep_the_contract(make_views: Any, loss: str) -> None:
    check_objective(partial(SMALL, loss=loss), make_views=partial(make_views, 0.4))


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_that_hide_different_numbers_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows, make_views=partial(MaskRows, 0.3))


def test_a_mask_of_other_axes_is_told() -> None:
    view = View(torch.ones(3, 4), mask=Mask(torch.ones(3, 5, dtype=torch.bool)), target=torch.ones(3, 4))
    with pytest.raises(UserError, match=r"the target is \(3, 4\), and the mask \(3, 5\)"):
        SMALL(5).prepare(ViewSet([view]), 3)


def test_learns_columns_from_one_another() -> None:
    """Six columns that repeat three: a hidden one is known from its twin, so the error falls below the columns' variance, 1."""
    torch.manual_seed(0)
    half = torch.randn(200, 3)
    batch = Batch(torch.cat([half, half], 1), 200)
    optimizer = partial(torch.optim.AdamW, lr=5e-3)
    encoder = MLP(6, hidden=64, dim=32, layers=2, masked=True)
    stage = Stage([Task(MaskTokens(0.2), MaskedColumns(32, hidden=64))], encoder, 1, optimizer)
    pretrainer = Pretrainer(stage).train()
    pretrainer.prepare(StepInput(batch, tiny_draws(0, 200), 0, 300), 200)
    descent = optimizer(pretrainer.parameters())
    losses = []
    for step in range(300):
        descent.zero_grad()
        loss = pretrainer(StepInput(batch, tiny_draws(step, 200), step, 300)).total
        loss.backward()
        descent.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.9
    assert sum(losses[-20:]) / 20 < 0.3
