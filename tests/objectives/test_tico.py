from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.objectives.objective import Step
from anyview.objectives.tico import TiCo, second_moment, tico_terms
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws

SMALL = partial(TiCo, hidden=16, width=8)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def paper(z: Tensor, target: Tensor, before: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Row by row, with a matrix that is made apart and has no gradient."""
    unit = [row / row.norm() for row in z]
    around = decay * before + (1 - decay) * sum(torch.outer(row, row) for row in unit).detach() / len(z)
    invariance = [1 - row @ (other / other.norm()) for row, other in zip(unit, target, strict=True)]
    contrast = [row @ around @ row for row in unit]
    return sum(invariance) / len(z), sum(contrast) / len(z)


@pytest.mark.parametrize("shape", [(4, 7), (5, 5), (21, 3)])
def test_is_the_paper_s_formula(shape: tuple[int, int]) -> None:
    z, target = rows(*shape).requires_grad_(), rows(*shape, seed=1)
    before = second_moment(rows(9, shape[1], seed=2))
    found, expected = tico_terms(z, target, before.lerp(second_moment(z), 0.3)), paper(z, target, before, 0.7)
    for ours, theirs in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
        torch.testing.assert_close(*(torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in (ours, theirs)), rtol=1e-9, atol=1e-13)


def test_no_gradient_to_target_or_matrix() -> None:
    z, target, moment = rows(4, 3), rows(4, 3, seed=1).requires_grad_(), rows(3, 3, seed=2).requires_grad_()
    assert not any(term.requires_grad for term in tico_terms(z, target, moment).values())
    assert not second_moment(z.requires_grad_()).requires_grad


def test_gradcheck() -> None:
    target, moment = rows(5, 3, seed=1), second_moment(rows(9, 3, seed=2))
    assert torch.autograd.gradcheck(lambda z: tuple(tico_terms(z, target, moment).values()), (rows(5, 3).requires_grad_(),))


def test_invariances() -> None:
    z, target, before = rows(6, 4), rows(6, 4, seed=1), second_moment(rows(9, 4, seed=2))
    terms = tico_terms(z, target, before)
    order = torch.randperm(6)
    scale = torch.rand(6, 1, dtype=torch.float64) + 0.5
    for name, term in terms.items():
        torch.testing.assert_close(tico_terms(z[order], target[order], before)[name], term)
        torch.testing.assert_close(tico_terms(scale * z, 3 * target, before)[name], term)


def test_zero_rows_are_finite() -> None:
    z = torch.zeros(3, 4, requires_grad=True)
    terms = tico_terms(z, torch.ones(3, 4), torch.eye(4))
    sum(terms.values()).backward()
    assert float(terms["invariance"].detach()) == 1.0
    assert bool(z.grad.isfinite().all())


def test_is_taken_in_full_precision_under_autocast() -> None:
    z, target, before = rows(20, 30).float(), rows(20, 30, seed=1).float(), torch.eye(30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = tico_terms(z, target, before)
        assert {term.dtype for term in tico_terms(z.bfloat16(), target.bfloat16(), before).values()} == {torch.float32}
    assert inside == tico_terms(z, target, before)


def begun(decay: float = 0.9) -> tuple[Stage, Pretrainer, TiCo]:
    stage = tiny_stage(partial(SMALL, decay=decay))
    pretrainer = Pretrainer(stage).train()
    pretrainer.start()
    objective = stage.tasks[0].objective
    assert isinstance(objective, TiCo)
    return stage, pretrainer, objective


def test_constant_rows_give_the_collapse_line_in_the_limit() -> None:
    z, moment = torch.tensor([[0.6, 0.8]]).expand(5, 2).double(), torch.zeros(2, 2).double()
    for t in range(1, 60):
        moment = moment.lerp(second_moment(z), 0.1)
        terms = tico_terms(z, z, moment)
        assert float(8 * terms["contrast"]) == pytest.approx(8 * (1 - 0.9**t))
        assert float(terms["invariance"]) == pytest.approx(0.0)
    assert SMALL(4).collapse_line(5) == 8.0


def test_moments_are_those_of_the_student_s_rows_and_follow_once_per_batch() -> None:
    _, pretrainer, objective = begun(decay=0.5)
    expected = torch.zeros(8, 8)
    seen: list[Tensor] = []
    objective.project.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    for step in range(2):  # two batches of one optimiser step: the matrix waits for it
        pretrainer(StepInput(tiny_batch(seed=step), tiny_draws(step, 12), step, 4))
    assert float(objective.moment.abs().max()) == 0.0
    pretrainer.after_step(1, 4)
    for projected in seen:
        expected = 0.5 * expected + 0.5 * second_moment(projected)
    torch.testing.assert_close(objective.moment, expected)
    assert objective._seen == {}
    assert "moment" in objective.state_dict()


def test_evaluation_leaves_nothing_behind() -> None:
    _, pretrainer, objective = begun()
    pretrainer.eval()
    pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 4))
    assert objective._seen == {}


def test_the_student_sees_the_first_view_and_the_teacher_the_second() -> None:
    stage, pretrainer, objective = begun()
    found = pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 4))
    a, b = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    teacher = pretrainer.teachers["TiCo"]
    rows = objective.project(stage.encoder(a).rows)
    terms = tico_terms(rows, objective.teacher_project(teacher(b).rows), objective.moment.lerp(second_moment(rows), 0.1))
    torch.testing.assert_close(found["invariance"], terms["invariance"])
    torch.testing.assert_close(found["contrast"], 8 * terms["contrast"])


def test_no_gradient_reaches_a_teacher() -> None:
    _, pretrainer, objective = begun()
    pretrainer(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 4)).total.backward()
    assert all(parameter.grad is None for parameter in (*objective.teacher_project.parameters(), *pretrainer.teachers.parameters()))
    assert all(parameter.grad is not None for parameter in objective.project.parameters())


def test_momentum_rises_to_its_final_value() -> None:
    momentum = TiCo(4, hidden=8, width=4, momentum=0.9).momentum
    assert (momentum(0, 100), momentum(100, 100)) == (pytest.approx(0.9), pytest.approx(1.0))


def test_a_step_that_never_ran_forward_changes_nothing() -> None:
    _, _, objective = begun()
    objective.after_step(object.__new__(Step))
    assert float(objective.moment.abs().max()) == 0.0


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows)
