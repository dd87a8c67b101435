from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoding
from anyview.encoders.positions import grid_coordinates, position_code
from anyview.encoders.transformer import SequenceTransformer
from anyview.errors import UserError
from anyview.objectives.masked_reconstruction import Kind, MaskedReconstruction, all_places, reconstruction_loss, standardised
from anyview.objectives.objective import Step
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.testing import check_objective, check_rank_exact
from anyview.testing.tiny import tiny_draws
from anyview.views.blocks import MaskGrid
from anyview.views.draws import Draws
from anyview.views.mask import Masked, MaskTokens
from anyview.views.noise import NoisePair
from anyview.views.view import Mask, View, ViewSet

SMALL = partial(MaskedReconstruction, width=12, depth=1, heads=2)
KINDS: list[Kind] = ["mse", "cosine", "smooth_l1"]


class Uneven(Masked):
    """Hides each token with a chance of its own, so that samples and ranks hide different numbers."""

    def hide(self, data: Tensor, draws: Draws) -> Tensor:
        return draws.bernoulli(self.rate, data.shape[1])


def transformer(dim: int = 8) -> SequenceTransformer:
    return SequenceTransformer(12, dim=dim, depth=1, heads=2, masked=True)


def some(rows: int = 7, numbers: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, rows, numbers, generator=random, dtype=torch.float64)
    return prediction, target


def shown(objective: MaskedReconstruction, view: View, encoder: Any = None) -> Step:
    encoder = encoder or transformer().to(view.data.dtype)
    views = ViewSet([view])
    objective.prepare(views, len(view.data))
    return Step(views, None, Draws.seeded(0, total=len(view.data)), 0, 1, encoder)


def masked_view(hidden: Tensor, drop: bool, features: int = 12) -> View:
    data = torch.randn(*hidden.shape, features, dtype=torch.float64)
    return View(data, mask=Mask(hidden, drop=drop), target=data)


def half(rows: int = 4, tokens: int = 6) -> Tensor:
    return torch.rand(rows, tokens).argsort(1) < tokens // 2


def test_losses_are_the_papers_formulas() -> None:
    prediction, target = some()
    squared = smooth = cosine = 0.0
    for p, t in zip(prediction, target, strict=True):
        squared += sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / 5
        smooth += sum((a - b) ** 2 / 2 if abs(a - b) < 1 else abs(a - b) - 0.5 for a, b in zip(p, t, strict=True)) / 5
        cosine += (1 - p @ t / (p.norm() * t.norm())) ** 2.5
    for kind, expected in (("mse", squared), ("smooth_l1", smooth), ("cosine", cosine)):
        torch.testing.assert_close(reconstruction_loss(prediction, target, kind, alpha=2.5), expected / 7, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: Kind) -> None:
    prediction, target = some(3, 4)
    assert torch.autograd.gradcheck(lambda p: reconstruction_loss(p, target, kind), (prediction.requires_grad_(),))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("prediction", "target"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1e4, 1.0)])
def test_degenerate_rows_are_finite(kind: Kind, prediction: float, target: float) -> None:
    guess = torch.full((3, 2), prediction, requires_grad=True)
    loss = reconstruction_loss(guess, torch.full((3, 2), target), kind)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(guess.grad.isfinite().all())


def test_the_cosine_error_does_not_see_lengths_and_half_precision_is_left() -> None:
    prediction, target = some()
    torch.testing.assert_close(
        reconstruction_loss(prediction, target, "cosine"), reconstruction_loss(5 * prediction, 0.1 * target, "cosine")
    )
    assert reconstruction_loss(prediction.bfloat16(), target.float()).dtype == torch.float32


def test_standardised_tokens_have_mean_nought_and_unbiased_variance_one() -> None:
    tokens = standardised(3 + 5 * torch.randn(2, 4, 9, dtype=torch.float64))
    torch.testing.assert_close(tokens.mean(2), torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(tokens.var(2), torch.ones(2, 4, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.equal(standardised(torch.ones(1, 1, 4)), torch.zeros(1, 1, 4))


@pytest.mark.parametrize("drop", [False, True])
def test_the_loss_is_that_of_the_decoder_s_predictions_at_hidden_places(drop: bool) -> None:
    """Plainly: sample by sample, the visible tokens' codes and the decoder's token stand in order of their places."""
    hidden, objective, encoder = half(), SMALL(8).double(), transformer().double()
    view = masked_view(hidden, drop)
    step = shown(objective, view, encoder)
    objective.double()
    encoding, code = encoder(view), position_code(grid_coordinates((6,), like=view.data), 12)
    total = torch.zeros((), dtype=torch.float64)
    for sample in range(4):
        visible = list(encoding.tokens[sample] if drop else encoding.tokens[sample, ~hidden[sample]])
        tokens = [objective.token if hides else objective.embed(visible.pop(0)) for hides in hidden[sample]]
        predictions = objective.predict(objective.blocks((torch.stack(tokens) + code)[None])[0])
        for place in range(6):
            if hidden[sample, place]:
                target = view.target[sample, place]
                wanted = (target - target.mean()) / (target.var() + 1e-6).sqrt()
                total = total + (predictions[place] - wanted).square().mean()
    torch.testing.assert_close(objective(step)["reconstruction"], total / int(hidden.sum()), rtol=1e-10, atol=0)


@pytest.mark.parametrize("drop", [False, True])
def test_visible_targets_and_hidden_data_do_not_matter(drop: bool) -> None:
    hidden, objective, encoder = half(), SMALL(8).double(), transformer().double()
    view = masked_view(hidden, drop)
    step = shown(objective, view, encoder)
    objective.double()
    loss = objective(step)["reconstruction"]
    place = hidden[..., None]
    noise = torch.full_like(view.data, torch.nan)
    other = View(torch.where(place, 7.0, view.data), mask=view.mask, target=torch.where(place, view.target, noise))
    again = objective(Step(ViewSet([other]), None, step.draws, 0, 1, encoder))["reconstruction"]
    assert torch.equal(loss, again)
    again.backward()
    assert all(bool(p.grad.isfinite().all()) for p in objective.parameters())


def test_a_constant_prediction_lies_on_the_collapse_line() -> None:
    objective = SMALL(8)
    assert objective.collapse_line(12) is None
    view = masked_view(half(200), drop=True)
    step = shown(objective, view)
    objective.double()
    torch.nn.init.zeros_(objective.predict.weight)
    assert objective.collapse_line(12) == pytest.approx(11 / 12)
    assert float(objective(step)["reconstruction"].detach()) == pytest.approx(11 / 12, rel=1e-5)
    assert SMALL(8, loss="cosine").collapse_line(12) is None


@pytest.mark.parametrize(("share", "drop"), [(0.0, True), (0.0, False), (1.0, False)])
def test_masks_of_nothing_and_of_everything_are_finite(share: float, drop: bool) -> None:
    hidden = torch.full((3, 6), bool(share))
    objective = SMALL(8).double()
    step = shown(objective, masked_view(hidden, drop))
    loss = objective.double()(step)["reconstruction"]
    loss.backward()
    assert bool(loss.isfinite())
    assert share > 0 or float(loss.detach()) == 0.0
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in objective.parameters())


@pytest.mark.parametrize("loss", KINDS)
@pytest.mark.parametrize("normalise", [True, False])
def test_options_keep_the_contract(loss: Kind, normalise: bool) -> None:
    check_objective(partial(SMALL, loss=loss, alpha=2.0, normalise_target=normalise))


@pytest.mark.parametrize("make_views", [partial(MaskTokens, 0.5), partial(MaskGrid, 0.5, drop=True), partial(Uneven, 0.5)])
def test_the_contract_holds_for_tokens_that_are_dropped_or_replaced(make_views: Any) -> None:
    check_objective(SMALL, make_views=make_views, make_encoder=transformer)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
@pytest.mark.parametrize("make_views", [partial(MaskGrid, 0.5, drop=True), partial(Uneven, 0.3)])
def test_ranks_are_exact(ranks: int, rows: int, make_views: Any) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows, make_views=make_views, make_encoder=transformer)


def test_the_state_holds_what_was_made_for_the_data() -> None:
    objective, other = SMALL(8), SMALL(8)
    view = masked_view(half(), drop=True)
    shown(objective, view)
    shown(other, view)
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    assert "predict.weight" in objective.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(objective.parameters(), other.parameters(), strict=True))


def test_places_are_the_encoding_s_own_or_a_sequence_s() -> None:
    hidden = half()
    view = masked_view(hidden, drop=True)
    cells = grid_coordinates((6,), like=view.data).expand(4, -1, -1)
    assert torch.equal(all_places(transformer().double()(view), hidden), cells)
    rows = torch.zeros(4, 2, dtype=torch.float64)
    assert torch.equal(all_places(Encoding(rows, rows[:, None], coordinates=cells[:, :3]), hidden), cells)
    uneven = cells.square()
    assert torch.equal(all_places(Encoding(rows, rows[:, None], coordinates=uneven), hidden), uneven)
    with pytest.raises(UserError, match="does not say where they were"):
        all_places(Encoding(rows, rows[:, None], coordinates=torch.zeros(4, 3, 2)), hidden)
    with pytest.raises(UserError, match="without coordinates"):
        all_places(Encoding(rows, rows[:, None]), hidden)


@pytest.mark.parametrize(
    ("view", "options", "phrase"),
    [
        (
            View(torch.ones(2, 6, 12), mask=Mask(torch.ones(2, 4, dtype=torch.bool)), target=torch.ones(2, 6, 12)),
            {},
            "give the views patches",
        ),
        (View(torch.ones(2, 6), mask=Mask(torch.ones(2, 6, dtype=torch.bool)), target=torch.ones(2, 6)), {}, "normalise_target=False"),
        (None, {"alpha": 0.5}, "alpha must be at least 1"),
    ],
)
def test_mistakes_are_told(view: View | None, options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(UserError, match=phrase):
        SMALL(8, **options).prepare(ViewSet([view] if view else []), 2)


def test_an_encoder_that_returns_other_tokens_or_none_is_told() -> None:
    view = masked_view(half(), drop=True)

    def returns(number: int) -> Any:
        return lambda view: Encoding(view.data[:, 0], view.data[:, :number, :8], coordinates=view.data[:, :number, :1])

    for number, phrase in ((2, "2 tokens came of a mask that keeps 3 of 6"), (0, "hides all 6 tokens")):
        objective = SMALL(8)
        step = shown(objective, view, returns(number))
        objective.double()
        with pytest.raises(UserError, match=phrase):
            objective(step)


def patterned(rows: int = 64) -> Batch:
    """Sequences of a few kinds, each with a course of its own, and a little noise."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 4
    return Batch(torch.randn(4, 6, 12, generator=random)[labels] + 0.1 * torch.randn(rows, 6, 12, generator=random), rows)


def test_learns_far_below_the_collapse_line() -> None:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=3e-3)
    stage = Stage([Task(MaskGrid(0.5, drop=True), MaskedReconstruction(16, width=24, depth=1, heads=2))], transformer(dim=16), 1, optimizer)
    pretrainer = Pretrainer(stage).train()
    batch = patterned()
    pretrainer.prepare(StepInput(batch, tiny_draws(0, 64), 0, 150), 64)
    descent = optimizer(pretrainer.parameters())
    for step in range(150):
        descent.zero_grad()
        loss = pretrainer(StepInput(batch, tiny_draws(step, 64), step, 150)).total
        loss.backward()
        descent.step()
    assert float(loss.detach()) < 0.3 * stage.tasks[0].objective.collapse_line(64)


def test_views_that_are_not_masked_are_refused_when_the_stage_is_built() -> None:
    with pytest.raises(UserError, match="needs masked views, targets"):
        Stage([Task(NoisePair(), SMALL(8))], transformer(), epochs=1, optimizer=torch.optim.SGD)
