"""TF-C: views of both domains, the loss against its plain form, and the recipe."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anyview
from anyview.data.source import Batch
from anyview.encoders.encoder import Streams
from anyview.errors import UserError
from anyview.evaluation.protocol import RANDOM, TRAINED
from anyview.objectives.simclr import SimCLR
from anyview.recipe import Recipe
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, check_view_maker, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View, ViewSet
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.recipes.tf_c import tf_c
from anyview_timeseries.series import SeriesSource
from anyview_timeseries.time_frequency import BothDomains, TimeFrequencyConsistency, TimeFrequencyViews, magnitudes, poly_nt_xent_loss
from tests.small_runs import assert_same_bits, stop_at

NET = partial(ResNet1d, dim=8, width=4, blocks=2, dropout=0.0)
SMALL = partial(TimeFrequencyConsistency, hidden=12, width=6)


def windows(samples: int = 12, channels: int = 2, length: int = 20) -> Tensor:
    return torch.randn(samples, channels, length, generator=torch.Generator().manual_seed(0))


def make_batch() -> Batch:
    return Batch(windows().to(torch.get_default_dtype()), 12, index=torch.arange(12))


def make_encoder() -> Streams:
    return Streams({"time": NET(2), "frequency": NET(2)})


@pytest.mark.parametrize("length", [1, 2, 9, 24])
def test_spectra_hold_all_bins_and_all_energy(length: int) -> None:
    data = windows(length=length).double()
    found = magnitudes(data)
    assert torch.allclose(found.square().sum(2), data.square().sum(2))
    assert torch.allclose(magnitudes(data.roll(3, 2)), found)
    plain = torch.view_as_real(torch.fft.fft(data)).square().sum(3).sqrt() / math.sqrt(length)
    assert torch.allclose(found, plain)


def test_the_spectrum_s_twin_is_the_sum_of_two_changes() -> None:
    batch = Batch(windows(400), 400)
    *_, spectrum, twin = (view.data for view in TimeFrequencyViews()(batch, Draws.seeded(0, total=400)).views)
    extra = twin - spectrum  # the part without removed bins, and what was added to the other
    most = 0.1 * spectrum.amax((1, 2), keepdim=True)
    removed = extra < 0.999 * spectrum
    assert abs(float(removed.float().mean()) - 0.1) < 0.01
    raised = torch.where(removed, extra, extra - spectrum)
    assert bool((raised > -1e-5).all())
    assert bool((raised <= most + 1e-5).all())
    assert abs(float((raised > 1e-5).float().mean()) - 0.1) < 0.01


def test_view_maker_gives_what_it_says() -> None:
    check_view_maker(TimeFrequencyViews(), make_batch())


def plain_loss(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """The published form: the positive in the first column, the one-hot matrix as large as the logits."""
    rows = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    number, both = len(a), 2 * len(a)
    logits = []
    for i in range(both):
        partner = (i + number) % both
        others = [k for k in range(both) if k not in (i, partner)]
        logits.append(torch.stack([rows[i] @ rows[k] for k in (partner, *others)]) / temperature)
    table = torch.stack(logits)
    ce = -table.log_softmax(1)[:, 0].sum() / both
    one_hot = torch.zeros_like(table)
    one_hot[:, 0] = 1
    return ce + number * (1 / number - (one_hot * table.softmax(1)).mean())


@pytest.mark.parametrize("rows", [2, 5, 9])
def test_loss_is_the_plain_one(rows: int) -> None:
    a, b = (torch.randn(rows, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours, plain = poly_nt_xent_loss(a, b, 0.3), plain_loss(a, b, 0.3)
    assert torch.allclose(ours, plain)
    for mine, theirs in zip(torch.autograd.grad(ours, (a, b)), torch.autograd.grad(plain, (a, b)), strict=True):
        assert torch.allclose(mine, theirs)
    with pytest.raises(ValueError, match="at least two rows"):
        poly_nt_xent_loss(a[:1], b[:1])


@pytest.mark.parametrize("triplet", [0.0, 0.5])
def test_objective_keeps_its_contract(triplet: float) -> None:
    check_objective(partial(SMALL, triplet=triplet), make_views=TimeFrequencyViews, make_encoder=make_encoder, make_batch=make_batch)


@pytest.mark.parametrize("triplet", [0.0, 0.5])
def test_two_ranks_train_as_one(triplet: float) -> None:
    check_stage_rank_exact(partial(tiny_stage, partial(SMALL, triplet=triplet), TimeFrequencyViews, make_encoder), make_batch)


def test_embeddings_are_of_both_domains() -> None:
    streams = make_encoder()
    both = BothDomains(streams)
    check_encoder(both, View(windows()))
    rows = both.eval()(View(windows())).rows
    assert torch.equal(rows[:, :8], streams.encoders["time"](View(windows())).rows)
    assert torch.equal(rows[:, 8:], streams.encoders["frequency"](View(magnitudes(windows()))).rows)


def source(samples: int = 20, length: int = 24) -> SeriesSource:
    return SeriesSource(windows(samples, 2, length), torch.arange(samples) % 2)


TINY: dict[str, Any] = {"encoder": NET, "objective": SMALL, "epochs": 3, "batch_size": 8}


def made() -> Recipe:
    torch.manual_seed(0)
    return tf_c(source(), **TINY)


def test_a_stopped_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    anyview.pretrain(made(), tmp_path / "whole", log_every=1)
    stop_at(made(), tmp_path / "stopped", 3)
    anyview.pretrain(made(), tmp_path / "stopped", resume=True, log_every=1)
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


def test_any_objective_over_two_views_trains(tmp_path: Path) -> None:
    built = tf_c(source(length=7), **{**TINY, "objective": partial(SimCLR, hidden=8, width=8)})
    assert np.isfinite(anyview.pretrain(built, tmp_path / "run").embed()).all()


class TwoStreams(TimeFrequencyViews):
    """Four views, all of the window."""

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(batch.data, stream="time") for _ in range(4)])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (partial(tf_c, source(), removed=1.5), "shares of a spectrum lie between 0 and 1"),
        (partial(tf_c, source(), jitter=-1.0), "jitter must be 0 or more"),
        (partial(tf_c, SeriesSource(torch.full((4, 1, 9), torch.nan))), "TF-C reads windows without missing values"),
        (partial(check_objective, SMALL, make_views=TwoStreams, make_encoder=make_encoder, make_batch=make_batch), "two of 'frequency'"),
    ],
)
def test_mistakes_are_one_sentence(build: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_it_learns_on_real_windows_and_is_loaded_again(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (data_root / "timeseries" / "uci_har_subset").is_dir():
        pytest.skip("no uci_har_subset under the data root")
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    run = anyview.pretrain("timeseries/tf_c", tmp_path / "run", data="uci_har_subset", preset="quick", epochs=2, log_every=1)
    losses = [line["loss"] for line in run.folder.metrics()]
    assert np.mean(losses[-5:]) < losses[0] - 0.5
    (result,) = run.evaluate(["logistic"], seeds=1)
    assert result.mean(TRAINED) > result.mean(RANDOM)
    assert np.array_equal(anyview.load(tmp_path / "run").embed(), run.embed())
