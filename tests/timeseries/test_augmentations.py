"""Random changes of windows: what each keeps, its parameters, each sample by its own draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.testing import check_view_maker
from anyview.views.draws import Draws
from anyview.views.pair import RecordedTransform
from anyview_timeseries.augmentations import Crop, Jitter, MagnitudeWarp, Permute, Scale, TimeWarp, read_at, smooth_curve
from anyview_timeseries.views import AUGMENTATIONS, AugmentedPair

ALL = [Jitter(0.5), Scale(2.0), Permute(6), Crop(least=0.4), TimeWarp(1.8), MagnitudeWarp(1.8)]


def windows(count: int = 64, channels: int = 2, length: int = 50) -> Tensor:
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def record(transform: RecordedTransform, x: Tensor, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    return transform.record(x, Draws.seeded(seed, total=len(x)))


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_each_sample_is_changed_by_a_draw_of_its_own(transform: RecordedTransform) -> None:
    x = windows(1).expand(32, -1, -1)
    changed, params = record(transform, x)
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert changed.isfinite().all()
    assert len(torch.unique(changed.flatten(1).round(decimals=9), dim=0)) > 20
    assert all(value.shape[0] == 32 for value in params.values())
    assert not torch.equal(changed, record(transform, x, seed=1)[0])


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [None, 20])
def test_contract_of_the_pairs(name: str, size: int | None) -> None:
    maker = AugmentedPair(name, second="weak", size=size)
    x = windows(12).float()
    check_view_maker(maker, Batch(x, 12, index=torch.arange(12)))
    views = maker(Batch(x, 12, index=torch.arange(12)), Draws.seeded(0, total=12)).views
    assert [view.stream for view in views] == ["time", "time"]
    assert views[0].data.shape == (12, 2, size or 50)
    assert not torch.equal(views[0].data, views[1].data)


@pytest.mark.parametrize("length", [1, 2, 3, 1000])
def test_any_length(length: int) -> None:
    x = windows(5, 1, length)
    for transform in ALL:
        assert record(transform, x)[0].isfinite().all()


def test_permutation_keeps_every_channels_values_and_moves_channels_together() -> None:
    x = windows()
    changed, params = record(Permute(6), x)
    assert torch.equal(changed.sort(2).values, x.sort(2).values)
    stamped = torch.stack([torch.arange(50.0), -torch.arange(50.0)]).expand(64, -1, -1)
    moved, _ = record(Permute(6), stamped)
    assert torch.equal(moved[:, 0], -moved[:, 1])
    breaks = ((moved[:, 0].diff(dim=1) != 1).sum(1)).float()
    assert (breaks <= params["pieces"][:, 0] - 1).all()
    assert set(params["pieces"][:, 0].tolist()) == {1, 2, 3, 4, 5, 6}


def test_jitter_goes_by_each_channels_own_deviation() -> None:
    x = windows(400) * torch.tensor([1.0, 100.0])[:, None]
    changed, params = record(Jitter(0.5), x)
    levels = (changed - x).std(2) / x.std(2, correction=0)
    assert torch.allclose(levels.mean(1), params["jitter"][:, 0], atol=0.2)
    assert (params["jitter"] < 0.5).all()
    assert torch.equal(record(Jitter(0.5), torch.ones(4, 1, 9))[0], torch.ones(4, 1, 9))


def test_factors_are_within_their_range_on_both_sides_of_one() -> None:
    for transform in (Scale(2.0), MagnitudeWarp(2.0)):
        changed, _ = record(transform, torch.ones(200, 2, 40))
        assert changed.min() >= 0.5
        assert changed.max() <= 2.0
        assert (changed.mean((1, 2)) < 1).any()
        assert (changed.mean((1, 2)) > 1).any()


def test_a_crop_reads_the_line_through_the_steps() -> None:
    line = torch.arange(60, dtype=torch.float64).expand(16, 1, -1)
    changed, params = record(Crop(30, least=0.3, most=0.6), line)
    start, extent = (params["box"] * 60).T
    expected = start[:, None] + extent[:, None] * (torch.arange(30, dtype=torch.float64) + 0.5) / 30 - 0.5
    assert torch.allclose(changed[:, 0], expected.clamp(0, 59), atol=1e-9)
    assert ((extent >= 18) & (extent <= 36)).all()
    whole, _ = record(Crop(least=1.0), line)
    assert torch.allclose(whole, line, atol=1e-9)


def test_a_time_warp_keeps_order_and_ends() -> None:
    line = torch.arange(60, dtype=torch.float64).expand(16, 1, -1)
    changed, _ = record(TimeWarp(2.0), line)
    assert (changed.diff(dim=2) > 0).all()
    assert torch.allclose(changed[:, 0, [0, -1]], line[:, 0, [0, -1]], atol=1e-9)
    assert (changed.diff(dim=2).amax(2) / changed.diff(dim=2).amin(2) > 1.1).float().mean() > 0.8


def test_reading_between_steps_is_linear_interpolation() -> None:
    x, places = windows(3), 49 * torch.rand(3, 17, dtype=torch.float64)
    for sample in range(3):
        expected = np.interp(places[sample].numpy(), np.arange(50), x[sample, 1].numpy())
        assert np.allclose(read_at(x, places)[sample, 1].numpy(), expected)


def test_smooth_curves_go_through_their_knots() -> None:
    knots = torch.randn(5, 4)
    curve = smooth_curve(knots, 31)
    assert torch.allclose(curve[:, ::10], knots, atol=1e-6)
    assert (curve.amax(1) <= knots.amax(1) + 1e-6).all()


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: AugmentedPair("motoin"), "there is no augmentation 'motoin'"),
        (lambda: AugmentedPair("weak", jitter=-1.0), "jitter must be 0 or more, and is -1"),
        (lambda: AugmentedPair("motion", crop=1.5), "a share above 0 and up to 1"),
        (lambda: Scale(0.5), "scale must be 1 or more"),
        (lambda: TimeWarp(1.5, knots=1), "knots must be 2 or more"),
    ],
)
def test_mistakes_are_told(act: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        act()  # type: ignore[operator]
