"""LiDAR: the formula written out, the values that signal and noise have, grouping by sample, batches and ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anyview.distributed import rank
from anyview.errors import UserError
from anyview.evaluation.lidar import LEAST_SIGNAL, LiDAR, LiDARMeter, lidar
from anyview.testing import run_on_ranks
from tests.evaluation.plain import normal, views_of


def codes(samples: int, width: int = 64, directions: int = 5, size: float = 30.0) -> torch.Tensor:
    basis, _ = torch.linalg.qr(normal(width, directions, seed=7))
    return size * normal(samples, directions, seed=8) @ basis.T


def plain_lidar(rows: torch.Tensor, index: torch.Tensor, delta: float = 1e-4, epsilon: float = 1e-8) -> float:
    groups = [rows[index == sample].numpy() for sample in index.unique()]
    samples, views, width = len(groups), len(groups[0]), rows.shape[1]
    means = [group.mean(0) for group in groups]
    grand = np.mean(means, axis=0)
    between = sum(np.outer(mean - grand, mean - grand) for mean in means) / (samples - 1)
    within = sum(np.outer(row - mean, row - mean) for group, mean in zip(groups, means, strict=True) for row in group)
    within = within / (samples * (views - 1)) + delta * np.eye(width)
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    power = np.linalg.eigvalsh(root @ between @ root).clip(0)
    return math.exp(-sum(p * math.log(p) for p in power / power.sum() + epsilon))


@pytest.mark.parametrize(("samples", "views", "width"), [(20, 4, 6), (5, 3, 12), (8, 2, 8)])
def test_lidar_is_the_papers_formula(samples, views, width):
    rows, index = views_of(2 * normal(samples, width), views)
    found = lidar(rows, index)
    assert found.lidar == pytest.approx(plain_lidar(rows, index), rel=1e-10)
    assert (found.samples, found.views, found.width, found.delta, found.epsilon) == (samples, views, width, 1e-4, 1e-8)


def test_views_without_signal_score_the_maximum_and_their_ratio_says_so():
    found = lidar(*views_of(torch.zeros(1000, 64, dtype=torch.float64), 50))
    assert found.lidar == pytest.approx(61.9, rel=0.02)
    assert found.signal_ratio == pytest.approx(1, abs=0.05)
    assert found.signal_ratio < LEAST_SIGNAL


def test_isotropic_signal_scores_as_high_and_its_ratio_is_large():
    found = lidar(*views_of(normal(1000, 64), 50))
    assert found.lidar == pytest.approx(61.9, rel=0.02)
    assert found.signal_ratio > 40


def test_five_dimensions_score_five():
    found = lidar(*views_of(codes(1000), 50))
    assert 4.8 <= found.lidar <= 5.0
    assert found.signal_ratio > 1000


def test_shuffled_rows_and_rows_by_view_score_as_noise():
    rows, index = views_of(codes(1000, size=10.0), 50)
    shuffled = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    assert lidar(shuffled, index).lidar == pytest.approx(61.9, rel=0.02)
    by_view = rows.view(1000, 50, 64).transpose(0, 1).flatten(0, 1)
    assert lidar(by_view, index).lidar == pytest.approx(61.3, rel=0.02)


def test_few_samples_and_views_blur():
    noise = [lidar(*views_of(torch.zeros(100, 64, dtype=torch.float64), 10, seed=seed)).lidar for seed in range(5)]
    assert np.mean(noise) == pytest.approx(44.0, rel=0.03)
    assert lidar(*views_of(codes(100, size=10.0), 10)).lidar == pytest.approx(5.2, rel=0.03)


def test_rows_belong_to_their_sample_wherever_they_stand():
    rows, index = views_of(codes(50, width=8, directions=3), 6)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    assert lidar(rows[order], 100 + 3 * index[order]).lidar == pytest.approx(lidar(rows, index).lidar, rel=1e-12)


def test_linear_maps_do_not_matter_when_delta_is_nothing():
    rows, index = views_of(2 * normal(60, 8), 5)
    mixed = rows @ normal(8, 8, seed=3)
    for delta, tolerance in ((1e-12, 1e-6), (1e-4, 1e-2)):
        assert lidar(mixed, index, delta=delta).lidar == pytest.approx(lidar(rows, index, delta=delta).lidar, rel=tolerance)


def test_scale_matters_through_delta_and_is_told():
    rows, index = views_of(2 * normal(60, 8), 5)
    small = lidar(1e-3 * rows, index)
    assert small.relative_delta == pytest.approx(1e6 * lidar(rows, index).relative_delta)
    assert small.relative_delta > 50


def test_rows_that_are_all_equal_are_finite():
    found = lidar(torch.ones(20, 4), torch.arange(10).repeat(2))
    assert math.isfinite(found.lidar)
    assert found.signal_ratio == 0


@pytest.mark.parametrize(("samples", "index"), [(6, [0] * 6), (6, range(6)), (0, [])])
def test_single_samples_and_single_views_are_refused(samples, index):
    with pytest.raises(UserError, match="two samples and two views"):
        lidar(normal(samples, 3), torch.tensor(list(index), dtype=torch.long))


def close(found: LiDAR, expected: LiDAR) -> bool:
    return all(getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9) for name in LiDAR.__slots__)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_are_all_rows_at_once(batch):
    rows, index = views_of(2 * normal(30, 6) + 5, 4)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    meter = LiDARMeter(6)
    for part in order.split(batch):
        meter.add(rows[part], index[part])
    assert close(meter.value(), lidar(rows, index))


def shared() -> tuple[torch.Tensor, torch.Tensor]:
    rows, index = views_of(2 * normal(11, 6), 5)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    return rows[order], index[order]


def on_rank() -> LiDAR:
    rows, index = shared()
    own = slice(0, 20) if rank() == 0 else slice(20, None)
    meter = LiDARMeter(6)
    for part, samples in zip(rows[own].split(8), index[own].split(8), strict=True):
        meter.add(part, samples)
    return meter.value()


def test_a_samples_views_may_lie_on_two_ranks():
    assert all(close(found, lidar(*shared())) for found in run_on_ranks(on_rank, 2))
