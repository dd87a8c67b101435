from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anyview.encoders.norm import BatchNorm
from anyview.objectives.moco_v3 import MoCoV3, moco_v3_loss
from anyview.pretrainer import Pretrainer, StepInput
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws

SMALL = partial(MoCoV3, hidden=16, width=8)


def rows(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, *shape, generator=random, dtype=torch.float64)
    return queries.requires_grad_(), keys


def paper(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    losses = []
    for i, query in enumerate(queries):
        logits = [cosine_similarity(query, key, dim=0) / temperature for key in keys]
        losses.append(-torch.log(torch.exp(logits[i]) / sum(torch.exp(logit) for logit in logits)))
    return 2 * temperature * torch.stack(losses).mean()


@pytest.mark.parametrize("shape", [(6, 10), (8, 8), (11, 5)])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_is_the_paper_s_formula(shape: tuple[int, int], temperature: float) -> None:
    queries, keys = rows(shape)
    found, expected = moco_v3_loss(queries, keys, temperature), paper(queries, keys, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    ours, theirs = (torch.autograd.grad(loss, queries)[0] for loss in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradcheck_and_no_gradient_to_the_keys() -> None:
    queries, keys = rows((4, 3))
    assert torch.autograd.gradcheck(lambda q: moco_v3_loss(q, keys), queries)
    assert not moco_v3_loss(queries.detach(), keys.requires_grad_()).requires_grad


def test_invariances() -> None:
    queries, keys = rows((9, 4))
    order = torch.randperm(9)
    torch.testing.assert_close(moco_v3_loss(3 * queries[order], 0.1 * keys[order]), moco_v3_loss(queries, keys))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_all_rows_equal(temperature: float) -> None:
    """One direction gives 2 τ log M; the objective adds up both."""
    a = torch.ones(9, 4, dtype=torch.float64, requires_grad=True)
    loss = moco_v3_loss(a, a, temperature)
    assert float(loss.detach()) == pytest.approx(2 * temperature * math.log(9))
    assert MoCoV3(4, hidden=4, width=4, temperature=temperature).collapse_line(9) == pytest.approx(2 * float(loss.detach()))
    loss.backward()
    assert bool(a.grad.isfinite().all())


def test_zero_rows_are_finite_and_one_row_is_refused() -> None:
    queries = torch.zeros(3, 2, requires_grad=True)
    moco_v3_loss(queries, torch.zeros(3, 2)).backward()
    assert bool(queries.grad.isfinite().all())
    with pytest.raises(ValueError, match="at least two rows, found 1"):
        moco_v3_loss(torch.ones(1, 2), torch.ones(1, 2))


def test_heads_are_the_published_ones() -> None:
    objective = MoCoV3(32, hidden=64, width=16)
    for head, widths in ((objective.project, [64, 64, 16]), (objective.predict, [64, 16])):
        linear = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
        norms = [layer for layer in head if isinstance(layer, BatchNorm)]
        assert [layer.out_features for layer in linear] == widths
        assert all(layer.bias is None for layer in linear)
        assert [norm.affine for norm in norms] == [True] * (len(widths) - 1) + [False]


def test_loss_is_the_sum_of_both_orders() -> None:
    stage = tiny_stage(SMALL)
    pretrainer = Pretrainer(stage).train()
    found = pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 10))
    views = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["MoCoV3"]
    queries = [objective.predict(objective.project(stage.encoder(view).rows)) for view in views]
    keys = [objective.teacher_project(teacher(view).rows) for view in views]
    torch.testing.assert_close(found["moco_v3"], moco_v3_loss(queries[0], keys[1]) + moco_v3_loss(queries[1], keys[0]))
    found.total.backward()
    assert all(parameter.grad is None for module in (teacher, objective.teacher_project) for parameter in module.parameters())


def test_momentum_rises_to_one() -> None:
    momentum = MoCoV3(4, hidden=8, width=4).momentum
    assert [round(momentum(step, 100), 4) for step in (0, 50, 100)] == [0.99, 0.995, 1.0]


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows)
