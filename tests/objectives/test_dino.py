from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.errors import UserError
from anyview.objectives.dino import DINO, Centre, DinoHead, dino_loss, koleo_loss, teacher_monitors, teacher_targets
from anyview.objectives.sinkhorn import sinkhorn
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws, tiny_pretrainer
from anyview.views.maker import ViewMaker
from anyview.views.multi_crop import MultiCrop
from anyview.views.noise import Noise
from anyview.views.view import View

SMALL = partial(DINO, hidden=16, width=8, prototypes=6)
STEPS = 10


def crops() -> ViewMaker:
    return MultiCrop(Noise(0.1), Noise(0.6), locals=2)


def outputs(views: int, rows: int = 5, count: int = 4) -> list[Tensor]:
    return list(2 * torch.rand(views, rows, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)


def shown(number: int = 0) -> StepInput:
    return StepInput(tiny_batch(), tiny_draws(number, 12), number, STEPS)


def begun(stage: Stage) -> Pretrainer:
    return tiny_pretrainer(stage, shown(), 12)


def drawn(stage: Stage, number: int = 0) -> list[View]:
    return stage.tasks[0].views(tiny_batch(), tiny_draws(number, 12)).views


# the loss


@pytest.mark.parametrize(("rows", "count"), [(3, 5), (5, 3), (7, 7)])
@pytest.mark.parametrize("views", [2, 5])
def test_is_the_paper_s_formula(rows: int, count: int, views: int) -> None:
    teacher, student = outputs(2, rows, count), outputs(views, rows, count)[::-1]
    centre = torch.linspace(-0.5, 0.5, count, dtype=torch.float64)
    terms = []
    for a in range(2):
        for v in range(views):
            if v != a:
                p = ((teacher[a] - centre) / 0.04).exp()
                p = p / p.sum(1, keepdim=True)
                s = (student[v] / 0.1).exp()
                s = s / s.sum(1, keepdim=True)
                terms.append(torch.stack([-sum(p[m, k] * s[m, k].log() for k in range(count)) for m in range(rows)]).mean())
    targets = [teacher_targets(output, centre, 0.04) for output in teacher]
    torch.testing.assert_close(dino_loss(targets, student), torch.stack(terms).mean(), rtol=1e-10, atol=0)


def test_is_never_below_the_targets_entropy_and_equals_it_for_equal_distributions() -> None:
    logits = outputs(2)
    targets = [(output / 0.1).softmax(1) for output in logits]
    entropy = -sum((p * p.log()).sum(1).mean() for p in targets) / 2
    assert float(dino_loss(targets, logits)) > float(entropy)
    torch.testing.assert_close(dino_loss(targets, logits[::-1]), entropy, rtol=1e-10, atol=0)


def test_a_cold_teacher_gives_hard_targets() -> None:
    output = outputs(1)[0]
    hard = teacher_targets(output, torch.zeros(4), 1e-4)
    torch.testing.assert_close(hard, torch.nn.functional.one_hot(output.argmax(1), 4).double())


def test_gradcheck_and_no_gradient_to_teacher_and_centre() -> None:
    student = [output.requires_grad_() for output in outputs(3)]
    teacher = [output.clone().detach().requires_grad_() for output in outputs(2)]
    centre = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    targets = [teacher_targets(output, centre, 0.04) for output in teacher]
    assert not any(target.requires_grad for target in targets)
    assert torch.autograd.gradcheck(lambda *rows: dino_loss(targets, rows), tuple(student))


def test_collapses_are_log_of_the_number_of_prototypes_and_nought() -> None:
    flat, peaked = torch.zeros(6, 10), torch.zeros(6, 10)
    peaked[:, 3] = 1000.0
    uniform = teacher_targets(flat, torch.zeros(10), 0.04)
    assert float(dino_loss([uniform], [flat, flat])) == pytest.approx(math.log(10), rel=1e-6)
    assert float(dino_loss([teacher_targets(peaked, torch.zeros(10), 0.04)], [peaked, peaked])) == 0.0
    assert SMALL(4).collapse_line(12) == pytest.approx(math.log(6))


def test_the_centre_takes_a_prototype_that_always_wins_back() -> None:
    peaked = torch.zeros(6, 10)
    peaked[:, 3] = 1000.0
    torch.testing.assert_close(teacher_targets(peaked, peaked.mean(0), 0.04), torch.full((6, 10), 0.1))


# the KoLeo term


def test_koleo_is_the_published_formula() -> None:
    rows = torch.randn(7, 3, dtype=torch.float64)
    unit = [row / row.norm() for row in rows]
    nearest = [min((unit[i] - unit[j]).norm() for j in range(7) if j != i) for i in range(7)]
    torch.testing.assert_close(koleo_loss(rows, eps=0.0), -torch.stack(nearest).log().mean(), rtol=1e-10, atol=0)
    assert torch.autograd.gradcheck(koleo_loss, (rows.requires_grad_(),))


def test_koleo_of_rows_that_point_apart_knows_no_row_as_its_own_neighbour() -> None:
    assert float(koleo_loss(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-math.log(2))


def test_koleo_of_duplicates_is_finite_and_of_one_row_undefined() -> None:
    rows = torch.ones(4, 3, requires_grad=True)
    loss = koleo_loss(rows)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-math.log(1e-8))
    assert bool(rows.grad.isfinite().all())
    with pytest.raises(ValueError, match="at least two rows"):
        koleo_loss(torch.ones(1, 3))


def test_koleo_spreads_rows() -> None:
    rows = torch.nn.Parameter(torch.tensor([1.0, 0.0]) + 0.1 * torch.randn(6, 2))
    optimizer = torch.optim.SGD([rows], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        koleo_loss(rows).backward()
        optimizer.step()
    assert float(normalize(rows.detach(), dim=1).mean(0).norm()) < 0.6


def test_koleo_is_a_weighted_term_on_the_encoder_s_rows() -> None:
    stage = tiny_stage(partial(SMALL, koleo=0.1), crops)
    losses = begun(stage)(shown())
    assert list(losses) == ["dino", "koleo"]
    rows = [stage.encoder(view).rows for view in drawn(stage)[:2]]
    torch.testing.assert_close(losses["koleo"], 0.1 * (koleo_loss(rows[0]) + koleo_loss(rows[1])) / 2)
    assert partial(SMALL, koleo=0.1)(4).collapse_line(12) == pytest.approx(math.log(6) - 0.1 * math.log(1e-8))


# head, centre, schedules


def test_last_layer_has_unit_weights_and_the_bottleneck_unit_length() -> None:
    head = DinoHead(4, 16, 8, 6)
    rows = torch.randn(5, 4)
    torch.testing.assert_close(head.embed(rows).norm(dim=1), torch.ones(5))
    assert float(head(rows).abs().max().detach()) <= 1
    with torch.no_grad():
        before = head(rows)
        head.last.weight *= 7
    torch.testing.assert_close(head(rows), before)


def test_projector_starts_as_published_so_that_rows_keep_their_directions() -> None:
    head = DinoHead(64, 256, 32, 6)
    layers = [layer for layer in head.project if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [256, 256, 32]
    for layer in layers:
        assert float(layer.bias.abs().max().detach()) == 0
        assert float(layer.weight.std().detach()) == pytest.approx(0.02, rel=0.05)
    rows = torch.randn(200, 64)
    shared = [head.embed(z).mean(0).norm().item() for z in (rows, -rows)]
    assert max(shared) < 0.2  # of unit rows: with torch's own biases it is above 0.5


def test_centre_moves_towards_the_raw_mean() -> None:
    centre = Centre(3, momentum=0.9)
    centre.follow(torch.tensor([1.0, 2.0, 3.0]))
    centre.follow(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(centre.value, 0.19 * torch.tensor([1.0, 2.0, 3.0]))


def test_objective_is_the_loss_of_all_crops_with_the_centre_of_the_steps_before() -> None:
    stage = tiny_stage(SMALL, crops)
    pretrainer = begun(stage)
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["DINO"]
    centre = torch.zeros(6)
    for number in range(3):
        views = drawn(stage, number)
        raw = [objective.teacher_head(teacher(view).rows) for view in views[:2]]
        temperature = 0.04 + 0.03 * number / 5  # 30 epochs, in a stage of one: half of it
        targets = [teacher_targets(output, centre, temperature) for output in raw]
        expected = dino_loss(targets, [objective.head(stage.encoder(view).rows) for view in views])
        torch.testing.assert_close(pretrainer(shown(number))["dino"], expected)
        assert torch.equal(objective.centre.value, centre) or number > 0
        torch.testing.assert_close(objective.centre.value, centre)
        pretrainer.after_step(number + 1, STEPS)
        centre = 0.9 * centre + 0.1 * torch.cat(raw).mean(0)
        torch.testing.assert_close(objective.centre.value, centre)
    assert float(centre.abs().max()) > 0
    assert objective._means == {}


def test_centre_is_saved() -> None:
    assert "centre.value" in SMALL(4).state_dict()


def test_last_layer_stays_for_the_first_epoch_or_half_of_a_short_stage() -> None:
    stage = tiny_stage(SMALL)
    pretrainer = begun(stage)
    head = stage.tasks[0].objective.head
    for number, moves in [(0, False), (4, False), (5, True)]:
        pretrainer.zero_grad()
        pretrainer(shown(number)).total.backward()
        assert bool(head.last.weight.grad.abs().max() > 0) is moves
        assert float(head.project[0].weight.grad.abs().max()) > 0


def test_teacher_s_temperature_rises_over_its_epochs_whatever_the_length() -> None:
    for epochs, epoch, expected in [(100, 0, 0.04), (100, 15, 0.055), (100, 30, 0.07), (100, 99, 0.07), (4, 1, 0.055), (4, 2, 0.07)]:
        stage = tiny_stage(SMALL)
        pretrainer = begun(stage)
        step = pretrainer._step(stage.tasks[0], stage.tasks[0].views(tiny_batch(), tiny_draws(0, 12)), shown(), {})
        step.epochs, step.steps, step.number = epochs, epochs, epoch
        assert stage.tasks[0].objective.teacher_temperature(step) == pytest.approx(expected)


def test_sinkhorn_takes_the_place_of_the_centre() -> None:
    stage = tiny_stage(partial(SMALL, centering="sinkhorn"))
    pretrainer = begun(stage)
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["DINO"]
    views = drawn(stage)
    targets = [sinkhorn(objective.teacher_head(teacher(view).rows), 0.04, 3) for view in views]
    expected = dino_loss(targets, [objective.head(stage.encoder(view).rows) for view in views])
    torch.testing.assert_close(pretrainer(shown())["dino"], expected)
    assert objective.centre is None
    assert not any("centre" in name for name in objective.state_dict())


def test_says_whether_rows_are_coupled() -> None:
    assert not SMALL(4).needs.couples_rows
    assert SMALL(4, koleo=0.1).needs.couples_rows
    assert SMALL(4, centering="sinkhorn").needs.couples_rows
    assert not DINO.needs.couples_rows


def test_other_centrings_are_refused() -> None:
    with pytest.raises(UserError, match="'centre' or 'sinkhorn'"):
        SMALL(4, centering="mean")


def test_teacher_gets_no_gradient_and_follows_with_its_momentum() -> None:
    for momentum, follows in [(1.0, False), (0.0, True)]:
        stage = tiny_stage(partial(SMALL, momentum=momentum, final_momentum=momentum, frozen_epochs=0))
        pretrainer = begun(stage)
        objective = stage.tasks[0].objective
        before = [p.clone() for p in objective.teacher_head.parameters()]
        pretrainer(shown()).total.backward()
        assert all(p.grad is None for p in objective.teacher_head.parameters())
        stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad]).step()
        pretrainer.after_step(1, STEPS)
        expected = objective.head.parameters() if follows else before
        assert all(torch.equal(a, b) for a, b in zip(objective.teacher_head.parameters(), expected, strict=True))


def test_is_taken_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = begun(tiny_stage(partial(SMALL, koleo=0.1)))(shown())
    assert all(term.dtype == torch.float32 for term in losses.values())
    assert bool(losses.total.isfinite())


# monitors


def test_monitors_tell_the_collapses_apart() -> None:
    uniform = [torch.full((5, 4), 0.25)] * 2
    found = teacher_monitors(uniform, torch.tensor(math.log(4)))
    assert float(found["teacher_entropy"]) == pytest.approx(math.log(4))
    assert float(found["kl"]) == pytest.approx(0.0, abs=1e-6)
    peaked = [torch.eye(4)[[2] * 5]] * 2
    assert float(teacher_monitors(peaked, torch.tensor(0.0))["teacher_entropy"]) == 0.0
    shared = [torch.eye(4)] * 2
    found = teacher_monitors(shared, torch.tensor(0.7))
    assert float(found["teacher_entropy"]) == pytest.approx(math.log(4))
    assert float(found["kl"]) == pytest.approx(0.7)


def test_kl_is_that_from_teacher_to_student() -> None:
    p, s = teacher_targets(outputs(1)[0], torch.zeros(4), 0.1), outputs(2)[1]
    log_student = (s / 0.1).log_softmax(1)
    expected = (p * (p.log() - log_student)).sum(1).mean()
    torch.testing.assert_close(teacher_monitors([p], dino_loss([p], [s, s]))["kl"], expected, rtol=1e-9, atol=0)


# contracts


@pytest.mark.parametrize(
    "options", [{}, {"centering": "sinkhorn"}, {"koleo": 0.1}, {"norm": True}], ids=["centre", "sinkhorn", "koleo", "norm"]
)
def test_objective_keeps_the_contract(options: dict[str, object]) -> None:
    check_objective(partial(SMALL, **options))
    check_objective(partial(SMALL, **options), make_views=crops)


@pytest.mark.parametrize("options", [{}, {"centering": "sinkhorn", "koleo": 0.1, "norm": True}], ids=["centre", "sinkhorn, koleo and norm"])
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact_with_crops(ranks: int, rows: int, options: dict[str, object]) -> None:
    check_rank_exact(partial(SMALL, frozen_epochs=0, **options), ranks=ranks, rows=rows, make_views=crops)


def test_ranks_are_exact_in_float32() -> None:
    check_rank_exact(SMALL, rows=32, steps=1, tolerance=1e-5, dtype=torch.float32)
