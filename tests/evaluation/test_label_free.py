"""Label-free metrics: closed forms, inequalities, streaming and several ranks against the plain form."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from anyview.errors import UserError
from anyview.evaluation.label_free import (
    CollapseAlarm,
    LabelFree,
    RankMe,
    centred_rankme,
    entropy_rank,
    label_free,
    mean_share,
    mean_standard_deviation,
    participation_ratio,
    rankme,
    stable_rank,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spectrum(*variances: float, samples: int = 500) -> torch.Tensor:
    """Centred rows whose covariance has exactly these eigenvalues, up to a common factor."""
    z = normal(samples, len(variances))
    q, _ = torch.linalg.qr(z - z.mean(0))
    return q * torch.tensor(variances, dtype=torch.float64).sqrt()


def plain_rankme(rows: torch.Tensor, epsilon: float) -> float:
    sigma = np.linalg.svd(rows.double().numpy(), compute_uv=False)
    return math.exp(-sum(p * math.log(p) for p in (s / sigma.sum() + epsilon for s in sigma)))


def test_rankme_of_orthonormal_rows():
    q, _ = torch.linalg.qr(normal(1000, 64))
    assert rankme(q) == pytest.approx(64.0013, abs=5e-5)
    assert rankme(q, epsilon=1e-5) == pytest.approx(64.1295, abs=5e-5)


@pytest.mark.parametrize(("samples", "expected"), [(32, 29.6), (64, 51.5), (256, 61.8), (1024, 63.5), (4096, 63.9)])
def test_rankme_of_few_gaussian_rows_is_bounded_by_their_number(samples, expected):
    assert np.mean([rankme(normal(samples, 64, seed=seed)) for seed in range(3)]) == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_rankme_is_the_papers_formula(shape):
    rows = normal(*shape).float() + 0.3
    assert rankme(rows) == pytest.approx(plain_rankme(rows, 1e-7), rel=1e-12)
    assert rankme(rows.numpy()) == rankme(rows)


def test_rankme_of_collapsed_rows_is_one():
    assert rankme(torch.ones(100, 16)) == pytest.approx(1, abs=1e-4)
    assert rankme(torch.zeros(100, 16)) == pytest.approx(1, abs=1e-4)


def test_a_large_mean_swamps_rankme_and_not_the_centred_one():
    rows = normal(2000, 64) + 50
    assert rankme(rows) < 4 < 63 < centred_rankme(rows)
    summary = label_free(rows)
    assert summary["large_mean"]
    assert summary["mean_share"] == pytest.approx(2500 / 2501, rel=1e-3)
    assert not label_free(normal(2000, 64))["large_mean"]
    assert mean_share(normal(2000, 64)) == pytest.approx(1 / 2000, rel=0.5)


def test_orders_of_the_family_on_a_known_spectrum():
    rows = spectrum(4.0, 2.0, 1.0, 1.0)
    assert stable_rank(rows) == pytest.approx(2)
    assert participation_ratio(rows) == pytest.approx(64 / 22)
    assert entropy_rank(rows) == pytest.approx(math.exp(0.5 * math.log(2) + 0.25 * math.log(4) + 2 * 0.125 * math.log(8)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(200, 20), (20, 200), (30, 30)])
def test_stable_below_participation_below_entropy_below_rank(shape, seed):
    decay = torch.linspace(0, 3 * seed / 4, shape[1], dtype=torch.float64).neg().exp()
    rows = normal(*shape, seed=seed) * decay + 2
    rank = int(torch.linalg.matrix_rank(rows - rows.mean(0)))
    assert 1 <= stable_rank(rows) <= participation_ratio(rows) <= entropy_rank(rows) <= rank + 1e-9


@pytest.mark.parametrize("shape", [(10, 50), (50, 10)])
def test_participation_ratio_by_either_gram_matrix_is_that_of_the_covariance(shape):
    rows = normal(*shape) + 1
    covariance = torch.cov(rows.T)
    assert participation_ratio(rows) == pytest.approx(float(covariance.trace() ** 2 / covariance.square().sum()), rel=1e-12)


def test_equal_rows_have_no_directions():
    rows = torch.zeros(10, 4)
    assert stable_rank(rows) == participation_ratio(rows) == entropy_rank(rows) == 0


@pytest.mark.parametrize("width", [8, 512])
def test_mean_standard_deviation_is_one_for_isotropic_rows_and_zero_for_equal_ones(width):
    assert mean_standard_deviation(normal(5000, width)) == pytest.approx(1, abs=0.01)
    assert mean_standard_deviation(torch.ones(50, width)) == pytest.approx(0, abs=1e-12)
    assert mean_standard_deviation(normal(50, width)) <= 1
    assert math.isnan(mean_standard_deviation(torch.ones(1, width)))


def test_mean_standard_deviation_ignores_the_scale_of_each_row():
    rows = normal(100, 16)
    assert mean_standard_deviation(rows * normal(100, 1).exp()) == pytest.approx(mean_standard_deviation(rows), rel=1e-12)


def test_label_free_holds_every_number_and_is_ready_for_json():
    rows = normal(200, 16).float()
    rows[:, 3] = 0.5
    summary = label_free(rows)
    assert list(summary) == [field.name for field in fields(LabelFree)]
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["samples"], summary["width"], summary["dtype"], summary["epsilon"]) == (200, 16, "float32", 1e-7)
    assert summary["rankme"] == rankme(rows)
    assert summary["rankme_centred"] == centred_rankme(rows)
    assert summary["entropy_rank"] == entropy_rank(rows)
    assert summary["stable_rank"] == stable_rank(rows)
    assert summary["dead_columns"] == 1 / 16
    assert not summary["too_few_rows"]
    assert label_free(rows[:159])["too_few_rows"]
    assert label_free(rows.numpy()) == summary


def test_label_free_names_how_many_rows_are_not_finite():
    rows = normal(20, 4)
    rows[3, 1], rows[7] = math.nan, math.inf
    with pytest.raises(UserError, match="2 of 20 rows hold NaN or infinity"):
        label_free(rows)


@pytest.mark.parametrize("samples", [10, 24, 25, 400])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_streaming_equals_batch(samples, batch):
    rows = (normal(samples, 24) * torch.linspace(0, -8, 24, dtype=torch.float64).exp() + 0.5).float()
    meter = RankMe(24)
    for part in rows.split(batch):
        meter.add(part)
    assert meter.value() == pytest.approx(rankme(rows), rel=1e-6)
    assert meter.value(centred=True) == pytest.approx(centred_rankme(rows), rel=1e-6)


@pytest.mark.parametrize("samples", [20, 300])
def test_streaming_report_agrees_with_label_free(samples):
    rows = normal(samples, 24) + 2
    meter = RankMe(24)
    meter.add(rows.numpy())
    report = meter.report()
    facts = {"samples", "width", "epsilon", "dtype", "mean_share", "large_mean", "too_few_rows"}
    assert set(report) == {"rankme", "rankme_centred"} | facts
    assert agrees(report, rows)


def test_few_rows_are_exact_where_the_sum_of_outer_products_is_not():
    rows = normal(8, 16) * 1e-9
    rows[0] += 1
    meter = RankMe(16, epsilon=1e-12)
    meter.add(rows)
    assert meter.value() == pytest.approx(rankme(rows, epsilon=1e-12), rel=1e-12)


def agrees(report: dict, rows: torch.Tensor) -> bool:
    summary = label_free(rows)
    close = {name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value for name, value in summary.items()}
    return report == {name: close[name] for name in report}


SIZES = [(0, 14), (6, 8), (0, 16), (10, 30), (33, 7), (50, 60)]


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    reports = []
    for sizes in SIZES:
        own = (normal(sum(sizes), 16) + 1).split(sizes)[rank]
        meter = RankMe(16)
        for part in own.split(9):
            meter.add(part)
        reports.append(meter.report())
    torch.save(reports, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path: Path):
    torch.multiprocessing.spawn(on_rank, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        for sizes, report in zip(SIZES, torch.load(tmp_path / f"{rank}.pt"), strict=True):
            assert agrees(report, normal(sum(sizes), 16) + 1), sizes


def test_alarm_speaks_once_per_fall():
    alarm = CollapseAlarm()
    said = [alarm.update(c) for c in (0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.04, 0.03, 0.1, 0.9, 0.01)]
    assert [index for index, sentence in enumerate(said) if sentence] == [6, 8, 12]
    assert "narrow" in said[6]
    assert "collapsed" in said[8]
    assert "collapsed" in said[12]
    assert alarm.state == "collapsed"
    alarm.update(0.9)
    assert alarm.state == "healthy"


def test_alarm_sleeps_through_the_warm_up():
    alarm = CollapseAlarm(warmup=2)
    assert [alarm.update(0.0) is None for _ in range(3)] == [True, True, False]


def test_alarm_is_silent_on_a_single_row():
    assert CollapseAlarm().update(math.nan) is None
