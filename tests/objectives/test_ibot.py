from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.encoders.encoder import Encoding
from anyview.errors import UserError
from anyview.objectives.dino import dino_loss, teacher_targets
from anyview.objectives.ibot import IBOT, hidden_token_loss, hidden_tokens
from anyview.objectives.prototypes import cross_entropy
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import DIM, FEATURES, TinyTokens, tiny_draws, tiny_pretrainer
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.mask import MaskTokens, hide_tokens
from anyview.views.multi_crop import MaskedViews, MultiCrop
from anyview.views.noise import Noise, NoisePair
from anyview.views.view import Mask, View, ViewSet

SMALL = partial(IBOT, hidden=16, width=8, prototypes=6)
STEPS = 10


def uneven(draws: Draws, tokens: int) -> Tensor:
    """From no token to all, another number in every sample."""
    return draws.uniform(tokens) < draws.uniform(1)


def masked_crops() -> ViewMaker:
    return MaskedViews(MultiCrop(Noise(0.1), Noise(0.6), locals=1), uneven, probability=0.6)


def never(draws: Draws, tokens: int) -> Tensor:
    return torch.zeros(draws.rows, tokens, dtype=torch.bool)


def unmasked() -> ViewMaker:
    return MaskedViews(NoisePair(0.3), never)


def shown(number: int = 0) -> StepInput:
    return StepInput(tiny_batch(tokens=True), tiny_draws(number, 12), number, STEPS)


def begun(stage: Stage) -> Pretrainer:
    return tiny_pretrainer(stage, shown(), 12)


def drawn(stage: Stage, number: int = 0) -> ViewSet:
    return stage.tasks[0].views(tiny_batch(tokens=True), tiny_draws(number, 12))


# the tokens' loss


def test_tokens_loss_is_the_paper_s_formula() -> None:
    hidden = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]).bool()
    dense_targets, dense_outputs = torch.randn(2, 4, 4, 5, dtype=torch.float64)
    dense_targets = dense_targets.softmax(2)
    images = []
    for b in range(4):
        terms = [-(dense_targets[b, n] * (dense_outputs[b, n] / 0.1).softmax(0).log()).sum() for n in range(4) if hidden[b, n]]
        images.append(sum(terms) / len(terms) if terms else torch.tensor(0.0).double())
    found = hidden_token_loss(dense_targets[hidden], dense_outputs[hidden], hidden)
    torch.testing.assert_close(found, sum(images) / 4, rtol=1e-10, atol=0)


def test_tokens_loss_gradcheck_and_no_gradient_to_the_teacher() -> None:
    hidden = torch.tensor([[True, False, True], [False, False, False]])
    targets = torch.randn(2, 4, dtype=torch.float64).softmax(1).requires_grad_()
    outputs = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda o: hidden_token_loss(targets, o, hidden), (outputs,))
    hidden_token_loss(targets, outputs, hidden).backward()
    assert targets.grad is None


def test_samples_without_hidden_tokens_add_nothing_and_count() -> None:
    targets, outputs = torch.full((2, 4), 0.25), torch.zeros(2, 4)
    one = torch.tensor([[True, True]])
    alone = hidden_token_loss(targets, outputs, one)
    beside = hidden_token_loss(targets, outputs, torch.cat([one, ~one, ~one, ~one]))
    assert float(alone) == pytest.approx(math.log(4))
    assert float(beside) == pytest.approx(math.log(4) / 4)


def test_no_hidden_token_at_all_is_no_loss() -> None:
    outputs = torch.zeros(0, 4, requires_grad=True)
    loss = hidden_token_loss(torch.zeros(0, 4), outputs, torch.zeros(3, 5, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0


# the objective


def expected_losses(stage: Stage, pretrainer: Pretrainer, views: ViewSet, centres: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Both terms from dense tensors, at the first step."""
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["IBOT"]
    clean = [teacher(view) for view in views.role("clean")]
    students = [stage.encoder(view) for view in [*views.seen_whole, *views.role("local")]]
    targets = [teacher_targets(objective.teacher_head(seen.rows), centres[0], 0.04) for seen in clean]
    rows = dino_loss(targets, [objective.head(student.rows) for student in students])
    token_terms = []
    for view, seen, student in zip(views.seen_whole, clean, students, strict=False):
        p = teacher_targets(objective.teacher_head(seen.tokens.flatten(0, 1)), centres[1], 0.04)
        losses = cross_entropy(p, objective.head(student.tokens.flatten(0, 1)) / 0.1).unflatten(0, view.mask.hidden.shape)
        losses = losses * view.mask.hidden
        token_terms.append((losses.sum(1) / view.mask.hidden.sum(1).clamp(min=1)).mean())
    return {"rows": rows, "tokens": torch.stack(token_terms).mean()}


def test_objective_is_both_terms() -> None:
    stage = tiny_stage(SMALL, masked_crops)
    pretrainer = begun(stage)
    objective = stage.tasks[0].objective
    with torch.no_grad():
        objective.row_centre.value.uniform_(-0.2, 0.2)
        objective.token_centre.value.uniform_(-0.2, 0.2)
    views = drawn(stage)
    counts = torch.cat([view.mask.hidden.sum(1) for view in views.seen_whole])
    assert counts.min() == 0  # some samples are not masked, others are, unevenly
    assert len(counts.unique()) > 2
    expected = expected_losses(stage, pretrainer, views, (objective.row_centre.value, objective.token_centre.value))
    found = pretrainer(shown())
    assert list(found) == ["rows", "tokens"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_teacher_sees_clean_views() -> None:
    """What hidden tokens hold changes the teacher's targets; the student, who is shown a token there, cannot see it."""
    stage = tiny_stage(SMALL, masked_crops)
    pretrainer = begun(stage)
    views = drawn(stage)
    for masked, clean in zip(views.seen_whole, views.role("clean"), strict=True):
        assert clean.mask is None
        assert torch.equal(clean.data[~masked.mask.hidden], masked.data[~masked.mask.hidden])
        assert not torch.equal(clean.data, masked.data)
    pretrainer(shown())
    step = pretrainer._steps[0][1]
    seen = [view for (_, branch), (view, _) in step.memo.items() if branch == id(step.teacher)]
    assert [view.role for view in seen] == ["clean", "clean"]


def test_centres_are_separate_and_of_all_tokens() -> None:
    stage = tiny_stage(SMALL, masked_crops)
    pretrainer = begun(stage)
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["IBOT"]
    clean = [teacher(view) for view in drawn(stage).role("clean")]
    rows = torch.cat([objective.teacher_head(seen.rows) for seen in clean])
    tokens = torch.cat([objective.teacher_head(seen.tokens.flatten(0, 1)) for seen in clean])
    pretrainer(shown())
    assert float(objective.row_centre.value.abs().max()) == 0
    pretrainer.after_step(1, STEPS)
    torch.testing.assert_close(objective.row_centre.value, 0.1 * rows.mean(0))
    torch.testing.assert_close(objective.token_centre.value, 0.1 * tokens.mean(0))
    assert objective._means == {}
    assert {"row_centre.value", "token_centre.value"} <= set(objective.state_dict())


def test_padding_counts_neither_as_hidden_nor_in_the_centre() -> None:
    valid = torch.tensor([[True, True, False], [True, False, False]])
    view = View(None, mask=Mask(torch.tensor([[True, False, True], [True, True, True]])))
    encoding = Encoding(torch.zeros(2, 4), tokens=torch.randn(2, 3, 4), valid=valid)
    assert hidden_tokens(view, encoding).tolist() == [[True, False, False], [True, False, False]]
    objective = SMALL(4)
    embedded = objective._embed(encoding)
    outputs = objective.teacher_head(encoding.tokens[valid])
    torch.testing.assert_close(objective._mean_of_tokens([embedded], [encoding]), outputs.mean(0))


def test_a_single_view_s_row_is_predicted_from_its_masked_twin() -> None:
    stage = tiny_stage(SMALL, MaskTokens)
    pretrainer = begun(stage)
    objective, teacher = stage.tasks[0].objective, pretrainer.teachers["IBOT"]
    masked, clean = drawn(stage).views
    target = teacher_targets(objective.teacher_head(teacher(clean).rows), torch.zeros(6), 0.04)
    expected = cross_entropy(target, objective.head(stage.encoder(masked).rows) / 0.1).mean()
    torch.testing.assert_close(pretrainer(shown())["rows"], expected)


def test_views_without_a_hidden_token_leave_the_rows_term() -> None:
    stage = tiny_stage(SMALL, unmasked)
    losses = begun(stage)(shown())
    losses.total.backward()
    assert float(losses["tokens"].detach()) == 0.0
    assert float(losses["rows"].detach()) > 0
    assert all(p.grad.isfinite().all() for p in stage.tasks[0].objective.head.parameters())


def test_last_layer_stays_at_first() -> None:
    stage = tiny_stage(SMALL, masked_crops)
    pretrainer = begun(stage)
    for number, moves in [(0, False), (5, True)]:
        pretrainer.zero_grad()
        pretrainer(shown(number)).total.backward()
        assert bool(stage.tasks[0].objective.head.last.weight.grad.abs().max() > 0) is moves


def test_is_taken_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = begun(tiny_stage(SMALL, masked_crops))(shown())
    assert all(term.dtype == torch.float32 for term in losses.values())
    assert bool(losses.total.isfinite())


def test_encoders_that_leave_tokens_out_are_refused() -> None:
    stage = tiny_stage(SMALL, partial(MaskTokens, 0.5, drop=True))
    with pytest.raises(UserError, match="a token at every hidden place"):
        begun(stage)(shown())


class Twinless(ViewMaker):
    """Two masked views and one clean."""

    gives = Gives(views=2, roles=("view", "clean"), masks=True)

    def __call__(self, batch: object, draws: Draws) -> ViewSet:
        views = MaskedViews(NoisePair(), partial(hide_tokens, rate=0.5))(batch, draws)
        return ViewSet(views.views[:3])


def test_every_masked_view_needs_its_clean_twin() -> None:
    stage = tiny_stage(SMALL, Twinless)
    with pytest.raises(UserError, match="1 of 2 views"):
        begun(stage)(shown())


def test_collapse_line_is_both_terms_at_log_of_the_number_of_prototypes() -> None:
    assert SMALL(4).collapse_line(12) == pytest.approx(2 * math.log(6))
    assert SMALL(4, token_weight=0.5).collapse_line(12) == pytest.approx(1.5 * math.log(6))


def test_weight_of_the_tokens_multiplies_their_term() -> None:
    once, twice = (begun(tiny_stage(partial(SMALL, token_weight=weight), masked_crops))(shown()) for weight in (1.0, 2.0))
    torch.testing.assert_close(twice["tokens"], 2 * once["tokens"])
    torch.testing.assert_close(twice["rows"], once["rows"])


def tiny_tokens() -> TinyTokens:
    return TinyTokens(FEATURES, DIM)


@pytest.mark.parametrize("make_views", [None, masked_crops, unmasked], ids=["one view", "crops", "nothing hidden"])
def test_objective_keeps_the_contract(make_views: partial[ViewMaker] | None) -> None:
    check_objective(SMALL, make_views=make_views, make_encoder=tiny_tokens)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact_with_other_numbers_of_hidden_tokens_on_each(ranks: int, rows: int) -> None:
    check_rank_exact(partial(SMALL, frozen_epochs=0), ranks=ranks, rows=rows, make_views=masked_crops)
