"""TS2Vec: crops, the network of dilated convolutions, the hierarchical loss against its plain form, and the recipe."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, cross_entropy

import anyview
from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.recipe import Recipe
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, check_view_maker, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import Mask, View
from anyview_timeseries.dilated_convolution import DilatedConv, DilatedConvolution, sliding_tokens
from anyview_timeseries.hierarchical_contrast import HierarchicalContrast, hierarchical_contrast_loss
from anyview_timeseries.overlapping_crops import OverlappingCrops
from anyview_timeseries.recipes.ts2vec import ts2vec
from anyview_timeseries.series import SeriesSource
from tests.small_runs import assert_same_bits, stop_at

TINY = {"hidden": 8, "dim": 8, "depth": 2}


def windows(samples: int = 12, channels: int = 2, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randn(samples, channels, length, generator=torch.Generator().manual_seed(seed))


def make_batch() -> Batch:
    return Batch(windows().to(torch.get_default_dtype()), 12, index=torch.arange(12))


def make_encoder() -> DilatedConvolution:
    return DilatedConvolution(2, dim=8, hidden=8, depth=2, dropout=0.0)


def crops(batch: Batch, seed: int, **options: Any) -> list[View]:
    return OverlappingCrops(**options)(batch, Draws.seeded(seed, total=batch.rows)).views


def plain_loss(a: Tensor, b: Tensor, instance: float) -> Tensor:
    """The definition: row by row, a cross-entropy over all others."""

    def find(row: Tensor, own: Tensor, others: list[Tensor]) -> Tensor:
        logits = torch.stack([row @ other for other in [own, *others]])
        return cross_entropy(logits[None], torch.tensor([0]))

    def contrast(one: Tensor, other: Tensor) -> Tensor:  # (N, D) each
        number = len(one)
        losses = []
        for ours, theirs in ((one, other), (other, one)):
            for i in range(number):
                apart = [row for k in range(number) if k != i for row in (ours[k], theirs[k])]
                losses.append(find(ours[i], theirs[i], apart))
        return torch.stack(losses).mean()

    terms = []
    while True:
        samples, steps, _ = a.shape
        term = a.new_zeros(())
        if samples > 1:
            term = term + instance * torch.stack([contrast(a[:, t], b[:, t]) for t in range(steps)]).mean()
        if steps > 1:
            term = term + (1 - instance) * torch.stack([contrast(a[i], b[i]) for i in range(samples)]).mean()
        terms.append(term)
        if steps == 1:
            return torch.stack(terms).mean()
        pairs = range(steps // 2)
        a, b = (torch.stack([torch.maximum(x[:, 2 * t], x[:, 2 * t + 1]) for t in pairs], 1) for x in (a, b))


@pytest.mark.parametrize(("samples", "steps"), [(3, 7), (1, 4), (4, 1), (2, 2), (1, 1)])
@pytest.mark.parametrize("block", [None, 4])
def test_loss_is_the_plain_one(samples: int, steps: int, block: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if block is not None:
        monkeypatch.setattr("anyview_timeseries.hierarchical_contrast.BLOCK", block)
    a, b = (torch.randn(samples, steps, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours, plain = hierarchical_contrast_loss(a, b, 0.3), plain_loss(a, b, 0.3)
    assert torch.allclose(ours, plain, rtol=1e-12)
    if plain.requires_grad:
        for mine, theirs in zip(torch.autograd.grad(ours, (a, b)), torch.autograd.grad(plain, (a, b)), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def test_loss_of_one_constant_sample_is_finite() -> None:
    rows = torch.full((1, 9, 4), 3.0, requires_grad=True)
    loss = hierarchical_contrast_loss(rows, rows)
    loss.backward()
    assert loss.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_loss_asks_for_a_step() -> None:
    with pytest.raises(ValueError, match="needs a step that both crops show"):
        hierarchical_contrast_loss(torch.zeros(2, 0, 3), torch.zeros(2, 0, 3))


def test_crops_share_the_steps_that_they_say() -> None:
    time = torch.arange(30.0).expand(5, 1, 30)
    overlaps, shifts = set(), set()
    for seed in range(200):
        made = OverlappingCrops()(Batch(time, 5), Draws.seeded(seed, total=5))
        first, second = (view.data[:, 0] for view in made.views)
        matches = made.relations[0].matches
        assert torch.equal(first.take_along_dim(matches[..., 0], 1), second.take_along_dim(matches[..., 1], 1))
        for view in made.views:
            steps = view.data[:, 0]
            assert torch.equal(steps - steps[:, :1], torch.arange(steps.shape[1]).expand_as(steps).float())
            assert torch.allclose(view.params["box"], torch.stack([steps[:, 0] / 30, torch.full((5,), steps.shape[1] / 30)], 1))
        assert first.shape[1] >= matches.shape[1] <= second.shape[1]
        overlaps.add(matches.shape[1])
        shifts.add(int(first[0, 0]))
    assert (min(overlaps), max(overlaps)) == (2, 30)
    assert {0, 20} <= shifts


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_crops_of_any_length(length: int) -> None:
    for seed in range(20):
        made = OverlappingCrops(longest=10)(Batch(windows(3, 1, length), 3), Draws.seeded(seed, total=3))
        assert all(1 <= view.data.shape[2] <= min(10, length) for view in made.views)


def test_view_maker_gives_what_it_says() -> None:
    check_view_maker(OverlappingCrops(), make_batch())


def test_steps_that_are_missing_are_hidden_and_the_input_stays() -> None:
    encoder = make_encoder().eval()
    data = windows(3)
    data[0, 1, 4], data[1, :, 7:] = torch.nan, torch.nan
    before = data.clone()
    hidden = data.isnan().any(1)
    shown = encoder(View(data)).tokens
    assert torch.equal(data.nan_to_num(9.0), before.nan_to_num(9.0))
    assert shown.isfinite().all()
    masked = encoder(View(torch.where(hidden[:, None], 5.0, data), mask=Mask(hidden))).tokens
    assert torch.equal(shown, masked)
    assert not torch.equal(encoder(View(data.nan_to_num(0.0))).tokens, shown)


def test_receptive_field() -> None:
    encoder = DilatedConvolution(1, dim=4, hidden=8, depth=2).eval()
    data = torch.randn(1, 1, 101, requires_grad=True)
    encoder(View(data)).tokens[0, 50].sum().backward()
    reached = data.grad[0, 0].nonzero().flatten()
    assert (int(reached.min()), int(reached.max())) == (50 - encoder.field // 2, 50 + encoder.field // 2)
    assert encoder.field == 29
    assert DilatedConvolution().field == 8189


@pytest.mark.parametrize("length", [1, 3, 4, 5, 9])
def test_a_dilation_beyond_the_window_costs_one_weight(length: int) -> None:
    layer = DilatedConv(2, 3, 4).double()
    x = torch.randn(2, 2, length, dtype=torch.float64)
    plain = conv1d(x, layer.weight, layer.bias, padding=4, dilation=4)
    assert torch.allclose(layer(x), plain)
    (ours,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    (theirs,) = torch.autograd.grad(plain.square().sum(), layer.weight)
    assert torch.allclose(ours, theirs)


def test_encoder_keeps_its_contract() -> None:
    check_encoder(make_encoder(), View(windows(), mask=Mask(torch.rand(12, 20) < 0.5)))


def test_sliding_tokens_know_no_later_step() -> None:
    encoder = make_encoder().train()
    data = windows(2, length=12)
    tokens = sliding_tokens(encoder, data, past=4, batch_size=5)
    assert encoder.training
    changed = data.clone()
    changed[:, :, 7:] += 1.0
    assert torch.allclose(sliding_tokens(encoder, changed, past=4)[:, :7], tokens[:, :7], atol=1e-6)
    encoder.eval()
    assert torch.allclose(encoder(View(data[:, :, 3:8])).tokens[:, -1], tokens[:, 7], atol=1e-6)
    with pytest.raises(UserError, match="give 0 or more"):
        sliding_tokens(encoder, data, past=-1)


def test_objective_keeps_its_contract() -> None:
    check_objective(HierarchicalContrast, make_views=OverlappingCrops, make_encoder=make_encoder, make_batch=make_batch)


def test_two_ranks_train_as_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, HierarchicalContrast, OverlappingCrops, make_encoder), make_batch)


def source(samples: int = 20, length: int = 16) -> SeriesSource:
    return SeriesSource(windows(samples, 2, length), torch.arange(samples) % 2)


def test_what_is_kept_is_the_mean_of_all_iterates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = ts2vec(source(), iterations=5, **TINY)
    trained = built.stages[0].encoder.encoder
    iterates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a, **k: (step(self, *a, **k), iterates.append(copied(trained)))[0])
    anyview.pretrain(built, tmp_path / "run")
    assert len(iterates) == 5
    for name, value in built.embedder.state_dict().items():
        assert torch.allclose(value, torch.stack([each[name] for each in iterates]).mean(0), atol=1e-6)
        assert not torch.equal(value, trained.state_dict()[name])


def copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_iterations_follow_from_the_numbers_in_the_data() -> None:
    few = ts2vec(source(), **TINY)
    assert few.stages[0].steps(few.source) == 200
    many = ts2vec(SeriesSource(torch.randn(20, 2, 2501)), **TINY)
    assert many.stages[0].steps(many.source) == 600
    single = ts2vec(source(3), **TINY, iterations=7)
    assert single.stages[0].steps(single.source) == 7


def made() -> Recipe:
    torch.manual_seed(0)
    return ts2vec(source(), iterations=6, **TINY)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    anyview.pretrain(made(), tmp_path / "whole", log_every=1)
    stop_at(made(), tmp_path / "stopped", 3)
    anyview.pretrain(made(), tmp_path / "stopped", resume=True, log_every=1)
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


def test_series_with_gaps_are_trained_on_and_embedded(tmp_path: Path) -> None:
    data = windows(12)
    data[::2, :, 13:] = torch.nan
    run = anyview.pretrain(ts2vec(SeriesSource(data), iterations=3, **TINY), tmp_path / "run")
    assert np.isfinite(run.embed()).all()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (partial(ts2vec, source(), mask_rate=1.5), "steps are hidden with a probability from 0 to 1"),
        (partial(ts2vec, source(), depth=-1), "dilated convolutions have sizes of 1 or more .* depth -1"),
        (partial(ts2vec, source(), iterations=0), "at least one step, and max_steps is 0"),
        (partial(DilatedConvolution(3), View(torch.zeros(2, 1, 5))), "reads windows \\(B, 3, T\\)"),
    ],
)
def test_mistakes_are_one_sentence(build: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_its_loss_falls_on_chirps_and_it_is_loaded_again(tmp_path: Path) -> None:
    run = anyview.pretrain("timeseries/ts2vec", tmp_path / "run", data="chirps", log_every=1)
    losses = [line["loss"] for line in run.folder.metrics()]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])
    assert np.array_equal(anyview.load(tmp_path / "run").embed(), run.embed())
