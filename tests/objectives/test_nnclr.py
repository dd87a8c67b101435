from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from anyview.data.source import Batch
from anyview.objectives.nnclr import NNCLR, nnclr_loss
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws
from anyview.views.view import View, ViewSet

SMALL = partial(NNCLR, hidden=16, width=8, predictor_hidden=12, queue_size=30)


def rows(count: int, width: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(0)
    first, second, third, fourth = torch.randn(4, count, width, generator=random, dtype=torch.float64)
    return (first, second), (third.requires_grad_(), fourth.requires_grad_())


def paper(neighbours: tuple[Tensor, Tensor], predictions: tuple[Tensor, Tensor], temperature: float) -> Tensor:
    """Each view's neighbour i against all predictions of the other view, of which the i-th is the positive."""
    losses = []
    for ours, theirs in ((neighbours[0], predictions[1]), (neighbours[1], predictions[0])):
        for i, neighbour in enumerate(ours):
            logits = [cosine_similarity(neighbour, prediction, dim=0) / temperature for prediction in theirs]
            losses.append(-torch.log(torch.exp(logits[i]) / sum(torch.exp(logit) for logit in logits)))
    return torch.stack(losses).mean()


def begun(make: partial[NNCLR] = SMALL) -> tuple[Stage, Pretrainer, NNCLR]:
    stage = tiny_stage(make)
    pretrainer = Pretrainer(stage).train()
    pretrainer.start()
    return stage, pretrainer, stage.tasks[0].objective


def shown(step: int, batch: Batch | None = None) -> StepInput:
    return StepInput(batch or tiny_batch(), tiny_draws(step, 12), step, 10)


def views_of(stage: Stage, step: int) -> list[View]:
    return stage.tasks[0].views(tiny_batch(), tiny_draws(step, 12)).views


def test_queue_is_a_quarter_of_the_data_at_most_unless_it_was_asked_for() -> None:
    made = [NNCLR(8, hidden=16, width=8, predictor_hidden=12), SMALL(8)]
    for objective in made:
        objective.prepare(ViewSet([]), 21)
    assert [len(objective.queue.rows) for objective in made] == [6, 30]
    assert len(made[0].queue.note("label")) == 6


@pytest.mark.parametrize("shape", [(6, 10), (8, 8), (11, 5)])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_is_the_paper_s_formula(shape: tuple[int, int], temperature: float) -> None:
    neighbours, predictions = rows(*shape)
    found, expected = nnclr_loss(neighbours, predictions, temperature), paper(neighbours, predictions, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(torch.autograd.grad(found, predictions), torch.autograd.grad(expected, predictions), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_neighbours() -> None:
    neighbours, predictions = rows(4, 3)
    assert torch.autograd.gradcheck(lambda a, b: nnclr_loss(neighbours, (a, b)), predictions)
    fixed = tuple(prediction.detach() for prediction in predictions)
    assert not nnclr_loss((neighbours[0].requires_grad_(), neighbours[1].requires_grad_()), fixed).requires_grad


def test_invariances() -> None:
    neighbours, predictions = rows(9, 4)
    loss, order = nnclr_loss(neighbours, predictions), torch.randperm(9)
    torch.testing.assert_close(nnclr_loss(neighbours[::-1], predictions[::-1]), loss)
    moved = [tuple(3 * z[order] for z in pair) for pair in (neighbours, predictions)]
    torch.testing.assert_close(nnclr_loss(*moved), loss)


def test_all_rows_equal_and_zero_rows() -> None:
    a = torch.ones(9, 4, dtype=torch.float64, requires_grad=True)
    loss = nnclr_loss((a, a), (a, a))
    assert float(loss.detach()) == pytest.approx(math.log(9))
    assert SMALL(4).collapse_line(9) == pytest.approx(float(loss.detach()))
    zeros = torch.zeros(3, 2, requires_grad=True)
    (loss + nnclr_loss((zeros, zeros), (zeros, zeros))).backward()
    assert bool(a.grad.isfinite().all())
    assert bool(zeros.grad.isfinite().all())


def test_one_row_is_refused() -> None:
    a = torch.ones(1, 2)
    with pytest.raises(ValueError, match="at least two rows, found 1"):
        nnclr_loss((a, a), (a, a))


def test_neighbours_come_from_the_queue_as_it_was_and_the_first_view_is_pushed_after() -> None:
    stage, pretrainer, objective = begun()
    queue = objective.queue.rows.clone()
    losses = pretrainer(shown(0))
    projected = [objective.project(stage.encoder(view).rows) for view in views_of(stage, 0)]
    nearest = [queue[(normalize(z, dim=1) @ queue.T).argmax(1)] for z in projected]
    expected = nnclr_loss((nearest[0], nearest[1]), (objective.predict(projected[0]), objective.predict(projected[1])))
    torch.testing.assert_close(losses["nnclr"], expected)
    assert torch.equal(objective.queue.rows, queue)
    losses.total.backward()
    stage.optimizer(list(pretrainer.parameters())).step()
    pretrainer.after_step(1, 10)
    torch.testing.assert_close(objective.queue.rows[:12], normalize(projected[0].detach(), dim=1))
    assert torch.equal(objective.queue.rows[12:], queue[12:])
    assert objective.queue.note("sample")[:13].tolist() == [*range(12), -1]
    assert objective.queue.note("label")[:13].tolist() == [*([0, 1, 2, 3] * 3), -1]
    assert not objective._pending


def test_monitors_say_whose_the_neighbours_are() -> None:
    """The same batch a second time, with the same weights: nearly all neighbours are the rows' own."""
    _, pretrainer, objective = begun()
    pretrainer(shown(0))
    assert {name: float(value) for name, value in pretrainer.monitors.items()} == {"same_sample": 0.0, "same_label": 0.0}
    pretrainer.after_step(1, 10)
    pretrainer(shown(0))
    places = objective.queue.nearest(objective._pending[next(iter(objective._pending))])
    known = places < 12
    own, labels = places[known] == torch.arange(12)[known], places[known] % 4 == (torch.arange(12) % 4)[known]
    assert float(pretrainer.monitors["same_sample"]) == pytest.approx(float(own.float().mean()))
    assert float(pretrainer.monitors["same_label"]) == pytest.approx(float(labels.float().mean()))
    assert float(pretrainer.monitors["same_sample"]) > 0.9


def test_without_index_and_labels_there_is_nothing_to_monitor() -> None:
    _, pretrainer, objective = begun()
    data = tiny_batch().data
    for labels in (None, torch.eye(12)):
        pretrainer(shown(0, Batch(data, 12, labels=labels)))
        pretrainer.after_step(1, 10)
        assert not pretrainer.monitors
    assert objective.queue.note("sample").tolist() == [-1] * 30
    assert int(objective.queue.filled) == 24


def test_goes_on_from_its_state() -> None:
    _, first, objective = begun()
    first(shown(0))
    first.after_step(1, 10)
    _, again, other = begun()
    again.load_state_dict(first.state_dict())
    assert torch.equal(first(shown(1)).total, again(shown(1)).total)
    assert torch.equal(other.queue.note("sample"), objective.queue.note("sample"))


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows)
