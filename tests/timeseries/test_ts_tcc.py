"""TS-TCC: weak and strong views, the convolutional network, temporal contrast against its plain form, and the recipe."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

import anyview
from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.simclr import SimCLR
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Recipe
from anyview.testing import check_encoder, check_objective, check_rank_exact, check_stage_rank_exact, check_view_maker, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import Mask, View
from anyview_timeseries.convolution import ConvNet1d, FlatTokens
from anyview_timeseries.recipes.ts_tcc import ts_tcc
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.temporal_contrast import Summary, TemporalContrast, temporal_contrast_loss
from anyview_timeseries.weak_strong import NormalScale, WeakStrongPair
from tests.small_runs import assert_same_bits, stop_at

SMALL = partial(TemporalContrast, ahead=2, hidden=8, depth=1, heads=2, width=8, dropout=0.0)


def windows(samples: int = 12, channels: int = 2, length: int = 40) -> Tensor:
    return torch.randn(samples, channels, length, generator=torch.Generator().manual_seed(0))


def make_batch() -> Batch:
    return Batch(windows().to(torch.get_default_dtype()), 12, index=torch.arange(12))


def make_encoder() -> ConvNet1d:
    return ConvNet1d(2, dim=8, dropout=0.0)


def test_permutation_keeps_the_values_of_each_channel() -> None:
    data = torch.stack([torch.arange(30.0), 100 + torch.arange(30.0)]).expand(512, 2, 30)
    strong = WeakStrongPair(jitter=0.0)(Batch(data, 512), Draws.seeded(0, total=512)).views[1].data
    assert torch.equal(strong.sort(2).values, data)
    assert torch.equal(strong[:, 1], strong[:, 0] + 100)  # channels stay together
    pieces = 1 + (strong[:, 0].diff(dim=1) != 1).sum(1)
    assert (int(pieces.min()), int(pieces.max())) == (1, 7)


def test_weak_views_are_scaled_by_step_or_by_channel() -> None:
    ones, draws = torch.ones(500, 2, 6), Draws.seeded(0, total=500)
    by_step = NormalScale()(ones, draws)
    assert torch.equal(by_step[:, 0], by_step[:, 1])
    assert abs(float(by_step.mean()) - 2.0) < 0.1
    assert abs(float(by_step[:, 0].std()) - 1.1) < 0.1
    by_channel = NormalScale(of="channel")(ones, draws)
    assert torch.equal(by_channel, by_channel[..., :1].expand_as(by_channel))
    assert not torch.equal(by_channel[:, 0], by_channel[:, 1])


def test_views_are_drawn_anew_at_each_step() -> None:
    check_view_maker(WeakStrongPair(), make_batch())


def test_loss_is_the_plain_one() -> None:
    features, predictions = (torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    plain = torch.stack(
        [-log_softmax(torch.stack([features[i, k] @ predictions[j, k] for j in range(5)]), 0)[i] for k in range(3) for i in range(5)]
    ).mean()
    ours = temporal_contrast_loss(features, predictions)
    assert torch.allclose(ours, plain)
    for mine, theirs in zip(
        torch.autograd.grad(ours, (features, predictions)), torch.autograd.grad(plain, (features, predictions)), strict=True
    ):
        assert torch.allclose(mine, theirs)


def test_loss_is_log_b_without_knowledge() -> None:
    unit = torch.nn.functional.normalize(torch.randn(64, 6, 16), dim=2)
    assert abs(float(temporal_contrast_loss(unit, 1e-3 * torch.randn(64, 6, 16))) - math.log(64)) < 1e-3
    assert math.isclose(float(temporal_contrast_loss(unit, torch.ones(64, 6, 16))), math.log(64), rel_tol=1e-6)


def test_a_summary_does_not_depend_on_later_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = SMALL(8)
    given: list[Tensor] = []
    summarise = objective.summarise.forward
    monkeypatch.setattr(objective.summarise, "forward", lambda tokens: (given.append(tokens), summarise(tokens))[1])
    stage = tiny_stage(lambda _: objective, WeakStrongPair, make_encoder)
    pretrainer = Pretrainer(stage).train()
    lengths = set()
    for step in range(40):
        given.clear()
        pretrainer(StepInput(make_batch(), Draws.seeded(step, total=12), step, 40))
        lengths |= {tokens.shape[1] for tokens in given}
    tokens = make_encoder()(View(windows())).tokens.shape[1]
    assert (min(lengths), max(lengths)) == (1, tokens - 2)  # t is drawn from [0, T' - K)


def test_summary_tells_the_order_of_samples_only() -> None:
    summary = Summary(8, 8, depth=2, heads=2).eval()
    tokens = torch.randn(3, 5, 8)
    assert torch.allclose(summary(tokens), summary(tokens.flip(1)), atol=1e-6)  # tokens have no places
    assert torch.allclose(summary(tokens)[1:], summary(tokens[1:]), atol=1e-6)


def test_encoder_keeps_its_contract_at_any_length() -> None:
    for length in (1, 2, 7, 128):
        check_encoder(make_encoder(), View(windows(length=length)))
    assert ConvNet1d(9)(View(torch.randn(2, 9, 128))).tokens.shape == (2, 18, 128)
    with pytest.raises(ValueError, match="which cannot leave places out"):
        make_encoder()(View(windows(), mask=Mask(torch.zeros(12, 40, dtype=torch.bool))))


def test_flat_rows_are_all_tokens() -> None:
    flat = FlatTokens(make_encoder(), 2, 40).eval()
    encoding = flat(View(windows()))
    assert flat.dim == encoding.rows.shape[1] == encoding.tokens[0].numel()
    with pytest.raises(UserError, match="rows hold the tokens of 40"):
        flat(View(windows(length=30)))


@pytest.mark.parametrize("ahead", [2, 50])
def test_objective_keeps_its_contract(ahead: int) -> None:
    make = partial(SMALL, ahead=ahead)
    check_objective(make)
    check_objective(make, make_views=WeakStrongPair, make_encoder=make_encoder, make_batch=make_batch)


def test_collapse_line() -> None:
    objective = SMALL(8)
    line = 2 * math.log(12) + 0.7 * math.log(23)
    assert math.isclose(objective.collapse_line(12), line)
    rows = torch.ones(12, 3, 8)
    found = 2 * temporal_contrast_loss(rows, rows) + 0.7 * math.log(23)
    assert math.isclose(float(found), line, rel_tol=1e-5)


def test_two_ranks_train_as_one() -> None:
    check_rank_exact(SMALL, rows=11)
    check_stage_rank_exact(partial(tiny_stage, SMALL, WeakStrongPair, make_encoder), make_batch)


def source(samples: int = 20, length: int = 24) -> SeriesSource:
    return SeriesSource(windows(samples, 2, length), torch.arange(samples) % 2)


TINY: dict[str, Any] = {"dim": 8, "dropout": 0.0, "objective": SMALL, "epochs": 3, "batch_size": 8}


def made() -> Recipe:
    torch.manual_seed(0)
    return ts_tcc(source(), **TINY)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    anyview.pretrain(made(), tmp_path / "whole", log_every=1)
    stop_at(made(), tmp_path / "stopped", 3)
    anyview.pretrain(made(), tmp_path / "stopped", resume=True, log_every=1)
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


def test_any_objective_over_two_views_trains(tmp_path: Path) -> None:
    built = ts_tcc(source(), **{**TINY, "pool": "flat", "objective": partial(SimCLR, hidden=8, width=8)})
    run = anyview.pretrain(built, tmp_path / "run", log_every=1)
    assert np.isfinite([line["loss"] for line in run.folder.metrics()]).all()
    assert run.embed().shape == (20, built.embedder.dim)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (partial(ts_tcc, source(), dim=6), "a dim that 4 divides .* dim 6"),
        (partial(ts_tcc, source(), jitter=-1.0), "jitter must be 0 or more, and is -1"),
        (partial(ts_tcc, source(), factor_of="day"), "'day' was asked for"),
        (partial(ts_tcc, source(), objective=partial(TemporalContrast, ahead=0)), "predicts 1 step or more"),
        (partial(ts_tcc, SeriesSource(torch.full((4, 1, 9), torch.nan))), "TS-TCC reads windows without missing values"),
    ],
)
def test_mistakes_are_one_sentence(build: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_its_loss_falls_on_real_windows_and_it_is_loaded_again(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (data_root / "timeseries" / "uci_har_subset").is_dir():
        pytest.skip("no uci_har_subset under the data root")
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    options = {"preset": "quick", "epochs": 4, "dim": 32}
    run = anyview.pretrain("timeseries/ts_tcc", tmp_path / "run", data="uci_har_subset", log_every=1, **options)
    losses = [line["loss"] for line in run.folder.metrics()]
    assert np.mean(losses[-5:]) < run.recipe.stages[0].tasks[0].objective.collapse_line(128) - 1
    assert np.array_equal(anyview.load(tmp_path / "run").embed(), run.embed())
