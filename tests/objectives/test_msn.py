from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.encoders.encoder import Wrapped
from anyview.objectives.msn import MSN, msn_targets, msn_terms, power_law, prior_term, target_and_anchors
from anyview.objectives.objective import Step
from anyview.objectives.sinkhorn import sinkhorn
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import DIM, FEATURES, TinyTokens, tiny_draws, tiny_pretrainer
from anyview.views.maker import ViewMaker
from anyview.views.mask import hide_tokens
from anyview.views.multi_crop import MaskedViews, MultiCrop
from anyview.views.noise import Noise
from anyview.views.view import View, ViewSet

SMALL = partial(MSN, hidden=16, width=8, prototypes=6)


def masked_crops() -> ViewMaker:
    """As in the paper: a whole target, a masked anchor whose hidden tokens are left out, and local anchors."""
    return MaskedViews(MultiCrop(Noise(0.1), Noise(0.5), locals=2), partial(hide_tokens, rate=0.5), drop=True)


def tiny_tokens() -> TinyTokens:
    return TinyTokens(FEATURES, DIM)


def cosines(views: int, rows: int = 5, count: int = 4) -> list[Tensor]:
    return list(2 * torch.rand(views, rows, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)


def shown(number: int = 0) -> StepInput:
    return StepInput(tiny_batch(), tiny_draws(number, 12), number, 10)


def begun(stage: Stage) -> Pretrainer:
    return tiny_pretrainer(stage, shown(), 12)


# targets


def test_sharpening_is_a_lower_temperature() -> None:
    scores = cosines(1)[0]
    sharp = (scores / 0.1).softmax(1) ** (1 / 0.25)
    expected = sharp / sharp.sum(1, keepdim=True)
    torch.testing.assert_close(msn_targets(scores, iterations=0), expected, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(expected, (scores / 0.025).softmax(1), rtol=1e-10, atol=1e-14)


def test_sinkhorn_is_taken_on_the_sharpened_probabilities() -> None:
    scores = cosines(1)[0]
    Q = (scores / 0.025).softmax(1)
    M, K = Q.shape
    Q = Q / Q.sum()
    for _ in range(3):
        Q = Q / (K * Q.sum(0))
        Q = Q / (M * Q.sum(1, keepdim=True))
    torch.testing.assert_close(msn_targets(scores), Q * M, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(msn_targets(scores), sinkhorn((scores / 0.025).log_softmax(1), 1.0, 3))


def test_targets_have_no_gradient() -> None:
    assert not msn_targets(cosines(1)[0].requires_grad_()).requires_grad


# terms


@pytest.mark.parametrize(("rows", "count"), [(3, 5), (5, 3), (7, 7)])
@pytest.mark.parametrize("anchors", [1, 3])
def test_is_the_paper_s_formula(rows: int, count: int, anchors: int) -> None:
    *scores, seen = cosines(anchors + 1, rows, count)
    targets = msn_targets(seen)
    assignment, mean = [], torch.zeros(count, dtype=torch.float64)
    for score in scores:
        for m in range(rows):
            p = (score[m] / 0.1).exp() / (score[m] / 0.1).exp().sum()
            assignment.append(-sum(targets[m, k] * p[k].log() for k in range(count)))
            mean += p / (anchors * rows)
    found = msn_terms(scores, targets)
    torch.testing.assert_close(found["assignment"], torch.stack(assignment).mean(), rtol=1e-10, atol=0)
    entropy = -sum(mean[k] * mean[k].log() for k in range(count))
    torch.testing.assert_close(found["prior"], math.log(count) - entropy, rtol=1e-9, atol=1e-14)


def test_gradcheck_through_the_mean_of_all_anchors() -> None:
    *scores, seen = cosines(3)
    targets = msn_targets(seen).requires_grad_()
    anchors = tuple(score.requires_grad_() for score in scores)
    assert torch.autograd.gradcheck(lambda *rows: sum(msn_terms(rows, targets).values()), anchors)
    assert torch.autograd.gradcheck(lambda *rows: sum(msn_terms(rows, targets, prior=0.25).values()), anchors)
    gradients = torch.autograd.grad(msn_terms(anchors, targets)["prior"], anchors)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)
    sum(msn_terms(anchors, targets).values()).backward()
    assert targets.grad is None


def test_both_collapses_give_log_of_the_number_of_prototypes() -> None:
    flat, peaked = torch.zeros(6, 10, dtype=torch.float64), torch.zeros(6, 10, dtype=torch.float64)
    peaked[:, 3] = 1000.0
    for scores, split in [(flat, (math.log(10), 0.0)), (peaked, (0.0, math.log(10)))]:
        terms = msn_terms([scores, scores], msn_targets(scores, iterations=0))
        assert [float(term) for term in terms.values()] == pytest.approx(split, abs=1e-12)
    assert SMALL(4).collapse_line(12) == pytest.approx(math.log(6))
    assert SMALL(4, prior_weight=0.5).collapse_line(12) == pytest.approx(0.5 * math.log(6))


def test_a_perfect_solution_is_told_from_both_collapses() -> None:
    scores = torch.eye(4).repeat(3, 1) * 100
    terms = msn_terms([scores], msn_targets(scores))
    assert float(sum(terms.values())) == pytest.approx(0.0, abs=1e-5)


def test_a_power_law_is_the_mean_that_its_prior_asks_for() -> None:
    wanted = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64) ** -0.25
    wanted = wanted / wanted.sum()
    torch.testing.assert_close(power_law(torch.zeros(4, dtype=torch.float64), 0.25).exp(), wanted)
    assert float(prior_term(wanted.log().expand(5, 4), 0.25)) == pytest.approx(0.0, abs=1e-12)
    mean = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    expected = sum(wanted[k] * (wanted[k] / mean[k]).log() for k in range(4))
    torch.testing.assert_close(prior_term(mean.log().expand(5, 4), 0.25), expected, rtol=1e-10, atol=0)


def test_collapse_line_with_a_prior_is_that_of_uniform_outputs() -> None:
    flat = torch.zeros(3, 6)
    terms = msn_terms([flat], msn_targets(flat), prior=0.25)
    objective = SMALL(4, prior=0.25, prior_weight=2.0)
    assert objective.collapse_line(12) == pytest.approx(float(terms["assignment"] + 2 * terms["prior"]), rel=1e-6)


def test_a_prototype_that_no_row_comes_near_is_finite() -> None:
    scores = torch.zeros(4, 3)
    scores[:, 2] = -1e4
    scores.requires_grad_()
    loss = sum(msn_terms([scores], msn_targets(scores)).values())
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(scores.grad.isfinite().all())


# which views


def step_of(*roles: str) -> tuple[Step, list[View]]:
    views = [View(torch.zeros(2, 3), role=role) for role in roles]
    return Step(ViewSet(views), None, tiny_draws(0, 2), 0, 1, Wrapped(torch.nn.Identity(), 3)), views


@pytest.mark.parametrize(
    ("roles", "target", "anchors"),
    [
        (("view", "view"), 0, [1]),
        (("global", "global", "local", "local"), 0, [1, 2, 3]),
        (("global", "global", "local", "clean", "clean"), 3, [1, 2]),
        (("view", "context", "target", "context"), 2, [1, 3]),
        (("view", "view", "context"), 0, [2]),
        (("view", "context", "target", "clean"), 3, [1]),
    ],
)
def test_roles_say_what_is_target_and_what_anchor(roles: tuple[str, ...], target: int, anchors: list[int]) -> None:
    step, views = step_of(*roles)
    found, others = target_and_anchors(step)
    assert found is views[target]
    assert [id(view) for view in others] == [id(views[position]) for position in anchors]


def test_objective_is_both_terms() -> None:
    stage = tiny_stage(partial(SMALL, prior_weight=3.0))
    pretrainer = begun(stage)
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["MSN"]
    a, b = stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)).views
    prototypes = normalize(objective.prototypes.weight, dim=1)
    seen = normalize(objective.teacher_project(teacher(a).rows), dim=1) @ prototypes.T
    guessed = normalize(objective.project(stage.encoder(b).rows), dim=1) @ prototypes.T
    terms = msn_terms([guessed], msn_targets(seen))
    found = pretrainer(shown())
    torch.testing.assert_close(found["assignment"], terms["assignment"])
    torch.testing.assert_close(found["prior"], 3 * terms["prior"])
    assert float(pretrainer.monitors["dead_prototypes"]) == 6 - len(guessed.argmax(1).unique())


def test_is_taken_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = begun(tiny_stage(SMALL))(shown())
    assert all(term.dtype == torch.float32 for term in losses.values())
    assert bool(losses.total.isfinite())


def test_prototypes_learn_from_the_student_alone() -> None:
    stage = tiny_stage(SMALL)
    pretrainer = begun(stage)
    objective = stage.tasks[0].objective
    pretrainer(shown()).total.backward()
    assert float(objective.prototypes.weight.grad.abs().max()) > 0
    assert all(p.grad is None for p in objective.teacher_project.parameters())
    assert not any("teacher" in name and "prototypes" in name for name in objective.state_dict())


def test_equiangular_prototypes_have_no_gradient() -> None:
    pytest.importorskip("anyview.objectives.equiangular")
    check_objective(partial(SMALL, kind="equiangular"))


@pytest.mark.parametrize("options", [{}, {"iterations": 0, "prior": 0.25}], ids=["released", "power law"])
def test_objective_keeps_the_contract(options: dict[str, object]) -> None:
    check_objective(partial(SMALL, **options))


def test_objective_keeps_the_contract_with_masked_anchors() -> None:
    check_objective(SMALL, make_views=masked_crops, make_encoder=tiny_tokens, make_batch=partial(tiny_batch, tokens=True))


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact_with_a_prior(ranks: int, rows: int) -> None:
    check_rank_exact(partial(SMALL, prior=0.25), ranks=ranks, rows=rows)
