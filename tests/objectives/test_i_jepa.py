from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.positions import position_code
from anyview.encoders.transformer import SequenceTransformer
from anyview.errors import UserError
from anyview.objectives.i_jepa import IJEPA, Predictor, i_jepa_loss
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.schedules import Linear
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage, tiny_views
from anyview.testing.tiny import tiny_draws
from anyview.views.blocks import ContextTargets
from anyview.views.view import Mask, View, ViewSet

SMALL = partial(IJEPA, width=12, depth=1, heads=2)


def transformer(masked: bool = False) -> SequenceTransformer:
    return SequenceTransformer(12, dim=8, depth=1, heads=2, masked=masked)


class Replacing(Encoder):
    """Shows a token where others drop: its context has all places."""

    tokens = True

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.dim = transformer(masked=True), 8

    def forward(self, view: View) -> Encoding:
        mask = None if view.mask is None else Mask(view.mask.hidden)
        return self.encoder(View(view.data, mask=mask))


def begun(views: Any = None, encoder: Any = None, **options: Any) -> tuple[Pretrainer, Stage, Any]:
    stage = tiny_stage(partial(SMALL, **options), lambda: views or ContextTargets(), lambda: encoder or transformer())
    pretrainer = Pretrainer(stage).train()
    pretrainer.start()
    return pretrainer, stage, tiny_batch(tokens=True)


def shown(pretrainer: Pretrainer, batch: Any, step: int = 0) -> Any:
    return pretrainer(StepInput(batch, tiny_draws(step, 12), step, 10))


def spread_of_targets(pretrainer: Pretrainer, batch: Any) -> float:
    shown(pretrainer, batch)
    return float(pretrainer.monitors["target_spread"])


@pytest.mark.parametrize("kind", ["smooth_l1", "mse"])
def test_loss_is_the_papers_formula_and_passes_gradcheck(kind: Any) -> None:
    prediction, target = torch.randn(2, 5, 3, dtype=torch.float64).mul(2).unbind()
    total = 0.0
    for p, t in zip(prediction.flatten(), target.flatten(), strict=True):
        gap = float((p - t).abs())
        total += gap**2 if kind == "mse" else gap**2 / 2 if gap < 1 else gap - 0.5
    assert float(i_jepa_loss(prediction, target, kind)) == pytest.approx(total / 15, rel=1e-10)
    assert torch.autograd.gradcheck(lambda p: i_jepa_loss(p, target, kind), (prediction.requires_grad_(),))
    assert not i_jepa_loss(prediction.detach(), target.requires_grad_(), kind).requires_grad


def test_predictor_is_a_transformer_over_the_context_and_one_block_s_places() -> None:
    predictor = Predictor(4, width=12, depth=2, heads=2).double()
    seen, places, asked = (torch.rand(3, number, size, dtype=torch.float64) for number, size in ((5, 4), (5, 2), (2, 2)))
    for sample in range(3):
        tokens = [predictor.embed(seen[sample, k]) + position_code(places[sample, k], 12) for k in range(5)]
        tokens += [predictor.token + position_code(asked[sample, m], 12) for m in range(2)]
        expected = predictor.out(predictor.blocks(torch.stack(tokens)[None])[0, 5:])
        torch.testing.assert_close(predictor(seen, places, asked)[sample], expected, rtol=1e-10, atol=1e-12)


def test_predictor_does_not_care_for_the_order_of_the_context() -> None:
    predictor = Predictor(4, width=12, depth=2, heads=2).double()
    seen, places, asked = (torch.rand(3, number, size, dtype=torch.float64) for number, size in ((5, 4), (5, 2), (2, 2)))
    order = torch.randperm(5)
    torch.testing.assert_close(predictor(seen, places, asked), predictor(seen[:, order], places[:, order], asked))
    assert not torch.allclose(predictor(seen, places, asked), predictor(seen, places.flip(1), asked), atol=1e-4)


@pytest.mark.parametrize("encoder", [transformer, Replacing])
def test_the_loss_is_the_error_at_every_target_token(encoder: Any) -> None:
    """Plainly: block by block and sample by sample, the teacher's normalised tokens against the predictions at their places."""
    pretrainer, stage, batch = begun(ContextTargets(targets=2), encoder())
    found = shown(pretrainer, batch)["i_jepa"]
    context, clean, *targets = stage.tasks[0].views(batch, tiny_draws(0, 12)).views
    predict = stage.tasks[0].objective.predict
    seen, teacher = stage.encoder(context), pretrainer.teachers["IJEPA"](clean)
    errors = []
    for target in targets:
        for sample in range(12):
            kept = ~context.mask.hidden[sample] if seen.tokens.shape[1] == 6 else slice(None)
            inside = target.mask.hidden[sample]
            guess = predict(
                seen.tokens[sample, kept][None], seen.coordinates[sample, kept][None], teacher.coordinates[sample, inside][None]
            )
            wanted = teacher.tokens[sample, inside]
            centred = wanted - wanted.mean(1, keepdim=True)
            wanted = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
            errors += [i_jepa_loss(a[None], b[None]) for a, b in zip(guess[0], wanted, strict=True)]
    torch.testing.assert_close(found, torch.stack(errors).mean())


def test_the_student_sees_the_context_alone() -> None:
    pretrainer, stage, batch = begun()
    context = stage.tasks[0].views(batch, tiny_draws(0, 12)).views[0]
    other = View(torch.where(context.mask.hidden[..., None], 9.0, context.data), mask=context.mask)
    assert torch.equal(pretrainer.encoder(context).tokens, pretrainer.encoder(other).tokens)
    assert pretrainer.encoder(context).tokens.shape[1] < 6


def test_no_gradient_reaches_the_teacher() -> None:
    pretrainer, _, batch = begun()
    shown(pretrainer, batch).total.backward()
    assert all(parameter.grad is None for parameter in pretrainer.teachers.parameters())
    assert all(parameter.grad is not None for name, parameter in pretrainer.encoder.named_parameters())


def test_a_teacher_that_is_trained_elsewhere_gets_no_gradient_either() -> None:
    _, stage, batch = begun()
    outside = transformer()
    task = Task(ContextTargets(), stage.tasks[0].objective, teacher=outside)
    pretrainer = Pretrainer(Stage([task], stage.encoder, 1, stage.optimizer)).train()
    shown(pretrainer, batch).total.backward()
    assert all(parameter.grad is None for parameter in outside.parameters())


@pytest.mark.parametrize(("momentum", "equal"), [(1.0, "start"), (0.0, "student")])
def test_momentum_nought_and_one(momentum: float, equal: str) -> None:
    pretrainer, stage, batch = begun(momentum=momentum, final_momentum=momentum)
    start = [parameter.clone() for parameter in pretrainer.encoder.parameters()]
    shown(pretrainer, batch).total.backward()
    stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad]).step()
    pretrainer.after_step(1, 10)
    expected = start if equal == "start" else list(pretrainer.encoder.parameters())
    teacher = pretrainer.teachers["IJEPA"].module.parameters()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(teacher, expected, strict=True))


def test_momentum_rises_along_a_line() -> None:
    momentum = IJEPA(4, width=8, depth=1, heads=1).momentum
    assert isinstance(momentum, Linear)
    assert [momentum(step, 100) for step in (0, 50, 100)] == pytest.approx([0.996, 0.998, 1.0])


def test_a_collapsed_teacher_shows_in_the_monitor() -> None:
    pretrainer, _, batch = begun()
    alive = spread_of_targets(pretrainer, batch)
    with torch.no_grad():
        pretrainer.teachers["IJEPA"].module.blocks.norm.weight.zero_()
        pretrainer.teachers["IJEPA"].module.blocks.norm.bias.normal_()
    assert alive > 0.3
    assert spread_of_targets(pretrainer, batch) < 1e-3
    assert pretrainer.objectives["IJEPA"].collapse_line(12) is None


@pytest.mark.parametrize("loss", ["smooth_l1", "mse"])
@pytest.mark.parametrize("make_encoder", [None, transformer, partial(transformer, masked=True), Replacing])
def test_objective_keeps_the_contract(loss: str, make_encoder: Any) -> None:
    check_objective(partial(SMALL, loss=loss), make_encoder=make_encoder)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows, make_encoder=transformer)


def test_tiny_views_serve_its_needs() -> None:
    assert isinstance(tiny_views(IJEPA.needs), ContextTargets)


class Empty(ContextTargets):
    """A context of nothing."""

    def __call__(self, batch: Any, draws: Any) -> ViewSet:
        views = super().__call__(batch, draws)
        views.views[0].mask = Mask(torch.ones(12, 6, dtype=torch.bool), drop=True)
        return views


class Short(Replacing):
    """Returns fewer tokens than the mask is over, whatever it keeps."""

    def forward(self, view: View) -> Encoding:
        encoding = super().forward(view)
        return Encoding(encoding.rows, encoding.tokens[:, :1], coordinates=encoding.coordinates[:, :1])


@pytest.mark.parametrize(("views", "encoder"), [(Empty(), Replacing()), (ContextTargets(targets=1), Short())])
def test_a_context_that_is_empty_or_of_other_tokens_is_told(views: ContextTargets, encoder: Encoder) -> None:
    pretrainer, _, batch = begun(views, encoder)
    with pytest.raises(UserError, match="predicts from the tokens of a context; the mask keeps"):
        shown(pretrainer, batch)
