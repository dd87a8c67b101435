from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from anyview.encoders.encoder import Encoding
from anyview.encoders.transformer import SequenceTransformer
from anyview.errors import UserError
from anyview.objectives.data2vec import Data2Vec, Normalise, data2vec_loss, data2vec_targets
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws
from anyview.views.blocks import MaskGrid
from anyview.views.draws import Draws
from anyview.views.mask import Masked, MaskTokens
from anyview.views.view import View


class Uneven(Masked):
    """Hides each token with a chance of its own, so that samples and ranks hide different numbers."""

    def hide(self, data: Tensor, draws: Draws) -> Tensor:
        return draws.bernoulli(self.rate, data.shape[1])


def transformer(depth: int = 2, pool: Any = "mean") -> SequenceTransformer:
    return SequenceTransformer(12, dim=8, depth=depth, heads=2, masked=True, pool=pool)


def layers(count: int = 3) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [
        (number + 1) ** 3 * torch.randn(2, 4, 5, generator=random, dtype=torch.float64) + torch.arange(5.0, dtype=torch.float64)
        for number in range(count)
    ]


def plain(values: Tensor) -> Tensor:
    """Numbers less their mean, over their deviation."""
    return (values - values.mean()) / (((values - values.mean()) ** 2).mean() + 1e-5).sqrt()


def plain_targets(all_layers: list[Tensor], normalise: Normalise, again: bool) -> Tensor:
    def each(layer: Tensor) -> Tensor:
        out = torch.zeros_like(layer)
        if normalise == "batch":
            for place in itertools.product(range(4), range(5)):
                out[(slice(None), *place)] = plain(layer[(slice(None), *place)])
            return out
        for sample in range(2):
            if normalise == "layer":
                for token in range(4):
                    out[sample, token] = plain(layer[sample, token])
            else:
                for channel in range(5):
                    out[sample, :, channel] = plain(layer[sample, :, channel])
        return out

    mean = sum(each(layer) for layer in all_layers) / len(all_layers)
    return each(mean) if again else mean


@pytest.mark.parametrize("normalise", ["layer", "instance", "batch"])
@pytest.mark.parametrize("again", [False, True])
def test_targets_are_means_of_layers_that_are_normalised_one_by_one(normalise: Normalise, again: bool) -> None:
    found = data2vec_targets(layers(), normalise, again)
    torch.testing.assert_close(found, plain_targets(layers(), normalise, again), rtol=1e-10, atol=1e-12)


def test_normalising_the_mean_of_raw_layers_is_something_else() -> None:
    raw = torch.stack(layers()).mean(0)
    assert not torch.allclose(data2vec_targets(layers()), layer_norm(raw, (5,)), atol=0.1)


def test_normalised_over_the_batch_nothing_is_left_that_all_samples_share_at_a_place() -> None:
    codes = 50 * torch.randn(1, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(data2vec_targets(layers(), "batch"), data2vec_targets([layer + codes for layer in layers()], "batch"))
    assert not torch.allclose(data2vec_targets(layers()), data2vec_targets([layer + codes for layer in layers()]), atol=0.1)


def test_the_scale_of_a_layer_does_not_matter() -> None:
    first, second, third = layers()
    torch.testing.assert_close(
        data2vec_targets([first, second, third]), data2vec_targets([100 * first, second, third + 7]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_loss_is_the_papers_formula(beta: float) -> None:
    prediction, target = torch.randn(2, 6, 3, dtype=torch.float64).mul(2).unbind()
    total = 0.0
    for p, t in zip(prediction.flatten(), target.flatten(), strict=True):
        gap = float((p - t).abs())
        if beta == 0:
            total += gap**2
        else:
            total += gap**2 / (2 * beta) if gap < beta else gap - beta / 2
    assert float(data2vec_loss(prediction, target, beta)) == pytest.approx(total / 18, rel=1e-10)


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_gradcheck_and_no_gradient_to_the_target(beta: float) -> None:
    prediction, target = torch.randn(2, 4, 3, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(lambda p: data2vec_loss(p, target, beta), (prediction.clone().requires_grad_(),))
    assert not data2vec_loss(prediction, target.requires_grad_(), beta).requires_grad
    assert not data2vec_targets([layer.requires_grad_() for layer in layers()]).requires_grad


def begun(views: Any = None, encoder: Any = None, **options: Any) -> tuple[Pretrainer, Stage, Any]:
    stage = tiny_stage(partial(Data2Vec, **options), lambda: views or MaskTokens(0.5), lambda: encoder or transformer())
    pretrainer = Pretrainer(stage).train()
    batch = tiny_batch(tokens=True)
    pretrainer.prepare(StepInput(batch, tiny_draws(0, 12), 0, 10), 12)
    pretrainer.start()
    return pretrainer, stage, batch


@pytest.mark.parametrize("top", [1, 2, 6])
@pytest.mark.parametrize("pool", ["mean", "class"])
def test_the_loss_compares_hidden_places_with_the_top_branches_of_the_teacher(top: int, pool: str) -> None:
    pretrainer, stage, batch = begun(encoder=transformer(3, pool), top=top)
    found = pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10))["data2vec"]
    view, clean = stage.tasks[0].views(batch, tiny_draws(0, 12)).views
    teacher = pretrainer.teachers["Data2Vec"](clean)
    target = data2vec_targets(teacher.branches[-top:])
    predicted = stage.tasks[0].objective.predict(stage.encoder(view).tokens)
    errors = [
        data2vec_loss(predicted[sample, place][None], target[sample, place][None])
        for sample in range(12)
        for place in range(6)
        if view.mask.hidden[sample, place]
    ]
    torch.testing.assert_close(found, torch.stack(errors).mean())
    assert len(teacher.branches) == 3


def test_the_teacher_sees_everything_and_gets_no_gradient() -> None:
    pretrainer, _, batch = begun(momentum=0.9)
    pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10)).total.backward()
    assert all(parameter.grad is None for parameter in pretrainer.teachers.parameters())
    assert all(parameter.grad is not None for parameter in pretrainer.encoder.parameters())


def test_visible_places_and_hidden_data_do_not_enter_the_student_s_side() -> None:
    pretrainer, stage, batch = begun(MaskGrid(0.5))
    predict = stage.tasks[0].objective.predict
    view = stage.tasks[0].views(batch, tiny_draws(0, 12)).views[0]
    other = View(torch.where(view.mask.hidden[..., None], 9.0, view.data), mask=view.mask)
    assert torch.equal(predict(pretrainer.encoder(view).tokens), predict(pretrainer.encoder(other).tokens))


@pytest.mark.parametrize(("momentum", "equal"), [(1.0, "start"), (0.0, "student")])
def test_momentum_nought_and_one(momentum: float, equal: str) -> None:
    pretrainer, stage, batch = begun(momentum=momentum, final_momentum=momentum)
    start = [parameter.clone() for parameter in pretrainer.encoder.parameters()]
    pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10)).total.backward()
    stage.optimizer([p for p in pretrainer.parameters() if p.requires_grad]).step()
    pretrainer.after_step(1, 10)
    expected = start if equal == "start" else list(pretrainer.encoder.parameters())
    teacher = pretrainer.teachers["Data2Vec"].module.parameters()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(teacher, expected, strict=True))


def test_momentum_rises_along_a_line() -> None:
    momentum = Data2Vec(4, momentum=0.9, final_momentum=1.0).momentum
    assert [momentum(step, 100) for step in (0, 25, 100)] == pytest.approx([0.9, 0.925, 1.0])


def test_monitors_show_dead_targets() -> None:
    pretrainer, _, batch = begun()
    pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10))
    assert float(pretrainer.monitors["target_spread"]) > 0.1
    with torch.no_grad():
        for block in pretrainer.teachers["Data2Vec"].module.blocks.blocks:
            block.feed_forward.out.weight.zero_()
            block.feed_forward.out.bias.normal_()
    pretrainer(StepInput(batch, tiny_draws(1, 12), 0, 10))
    assert float(pretrainer.monitors["target_spread"]) < 1e-3


@pytest.mark.parametrize(("normalise", "beta"), [("layer", 2.0), ("instance", 0.0), ("batch", 2.0)])
@pytest.mark.parametrize("make_encoder", [None, transformer])
def test_objective_keeps_the_contract(normalise: Normalise, beta: float, make_encoder: Any) -> None:
    check_objective(partial(Data2Vec, normalise=normalise, beta=beta, top=2), make_encoder=make_encoder)


@pytest.mark.parametrize("normalise", ["layer", "batch"])
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_that_hide_different_numbers_are_exact(ranks: int, rows: int, normalise: Normalise) -> None:
    objective = partial(Data2Vec, normalise=normalise)
    check_rank_exact(objective, ranks=ranks, rows=rows, make_views=partial(Uneven, 0.4), make_encoder=transformer)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_of_nothing_and_of_everything_are_finite(share: float) -> None:
    pretrainer, _, batch = begun(Uneven(share))
    losses = pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10))
    losses.total.backward()
    assert bool(losses.total.isfinite())
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in pretrainer.encoder.parameters())


class WithoutLayers(SequenceTransformer):
    def forward(self, view: View) -> Encoding:
        encoding = super().forward(view)
        return Encoding(encoding.rows, encoding.tokens, coordinates=encoding.coordinates)


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="top 0"):
        Data2Vec(4, top=0)
    for views, encoder, phrase in (
        (MaskTokens(0.5, drop=True), None, "3 tokens for a mask over 6"),
        (None, WithoutLayers(12, dim=8, depth=1, heads=2, masked=True), "returns none"),
    ):
        pretrainer, _, batch = begun(views, encoder)
        with pytest.raises(UserError, match=phrase):
            pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10))
