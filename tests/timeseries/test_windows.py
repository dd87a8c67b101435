"""What is done to series before they are windows, each step against a plain form, and told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anyview.errors import UserError
from anyview.testing import check_source
from anyview_timeseries.chirps import make_chirps
from anyview_timeseries.readers import Raw
from anyview_timeseries.repair import Preparation
from anyview_timeseries.windows import blocks, prepare


def walks(*lengths: int, channels: int = 2, **facts: Any) -> Raw:
    random = np.random.default_rng(0)
    return Raw([random.normal(size=(channels, length)).astype(np.float32) for length in lengths], **facts)


def test_windows_of_every_series() -> None:
    raw = walks(100, 55, 230, labels=["a", "b", "a"], groups={"subject": ["x", "y", "z"]})
    source = prepare(raw, "walks", Preparation(length=50, step=25))
    assert len(source) == 3 + 1 + 8
    assert [source.members["series"].tolist().count(number) for number in range(3)] == [3, 1, 8]
    np.testing.assert_array_equal(source.windows[5], raw.series[2][:, 25:75])
    assert source.ids[5] == "2@25"
    assert source.labels.tolist() == [0] * 3 + [1] + [0] * 8
    assert (source.kept_apart, source.describe()["subjects"], source.describe()["series"]) == ("subject", 3, 3)
    check_source(lambda: prepare(raw, "walks", Preparation(length=50, step=25)), batch_size=4)


def test_short_series_are_refused_left_out_or_padded() -> None:
    raw = walks(100, 30)
    with pytest.raises(
        UserError, match="windows of 50 steps were asked for, and 1 of 2 series of 'walks' are shorter, the longest of them 30"
    ):
        prepare(raw, "walks", Preparation(length=50))
    left = prepare(raw, "walks", Preparation(length=50, lengths="cut"))
    assert (len(left), left.describe()["short series"]) == (2, "1 of 2 left out, shorter than 50 steps")
    padded = prepare(raw, "walks", Preparation(length=50, lengths="pad"))
    assert (len(padded), int(padded.windows[2].isnan().sum())) == (3, 40)
    with pytest.raises(UserError, match="choose a length of 30 or less"):
        prepare(raw, "walks", Preparation(length=500))


def test_missing_values_are_refused_filled_or_kept() -> None:
    raw = walks(50, 50)
    raw.series[1][0, 10:13] = np.nan
    with pytest.raises(
        UserError, match=r"'walks' has missing values: 3 of 200 values \(1.5 %\), in 1 of 2 series, first in series 1, channel 0, step 10"
    ):
        prepare(raw, "walks", Preparation())
    filled = prepare(raw, "walks", Preparation(missing="interpolate"))
    first, last = raw.series[1][0, [9, 13]]
    np.testing.assert_allclose(filled.windows[1, 0, 10:13], first + (last - first) * np.array([1, 2, 3]) / 4, rtol=1e-5)
    assert np.isnan(raw.series[1][0, 10:13]).all(), "the caller's numbers were changed"
    kept = prepare(raw, "walks", Preparation(missing="mask"))
    assert kept.has_gaps
    assert kept.describe()["missing values"].endswith("kept as NaN")
    assert np.isfinite(kept.features()).all()


def test_resampling_keeps_slow_waves() -> None:
    time = np.arange(0, 10, 1 / 100)
    wave = np.sin(2 * np.pi * 1.5 * time)[None].astype(np.float32)
    source = prepare(Raw([wave, wave], rate=100.0), "wave", Preparation(resample=25.0))
    assert (source.rate, source.shape["length"]) == (25.0, 250)
    np.testing.assert_allclose(source.windows[0, 0, 10:-10], wave[0, ::4][10:-10], atol=0.02)
    assert source.describe()["resampled"] == "from 100 Hz to 25 Hz"
    with pytest.raises(UserError, match=r"was to be resampled to 25 Hz, and nothing says its own rate; add --reading.rate HZ"):
        prepare(Raw([wave]), "wave", Preparation(resample=25.0))
    steps = prepare(Raw([wave], rate=100.0, step_labels=[np.arange(1000) // 500]), "wave", Preparation(resample=25.0, length=50))
    assert steps.labels.tolist() == [0, 0, 1, 1, 1] or steps.labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("scale", ["window", "channel"])
def test_scales(scale: Any) -> None:
    raw = walks(60, 60, 60, labels=[0, 1, 0], parts={"train": range(2), "test": range(2, 3)})
    raw.series[2] += 5
    source = prepare(raw, "walks", Preparation(scale=scale))
    seen = source.windows if scale == "window" else source.windows[:2]
    axes = 2 if scale == "window" else (0, 2)
    torch.testing.assert_close(seen.mean(axes), torch.zeros_like(seen.mean(axes)), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(axes, correction=0), torch.ones_like(seen.mean(axes)), atol=1e-5, rtol=0)
    assert (float(source.windows[2].mean()) > 2) is (scale == "channel")
    if scale == "channel":
        assert source.scaling is not None
        mean, deviation = source.scaling
        back = source.windows * deviation[:, None] + mean[:, None]
        np.testing.assert_allclose(back[2], raw.series[2], rtol=1e-4, atol=1e-4)


def test_constant_channels_are_refused_left_out_or_kept() -> None:
    raw = walks(50, 50, channels=3)
    for each in raw.series:
        each[1] = 4.0
    with pytest.raises(
        UserError, match=r"1 of 3 channels of 'walks' hold one value throughout \(1\); leave them out with --reading.constant drop"
    ):
        prepare(raw, "walks", Preparation())
    dropped = prepare(raw, "walks", Preparation(constant="drop"))
    assert dropped.shape["channels"] == 2
    assert dropped.describe()["constant channels"] == "1: left out"
    kept = prepare(raw, "walks", Preparation(constant="keep", scale="channel"))
    assert bool((kept.windows[:, 1] == 0).all())


def test_a_target_is_unseen() -> None:
    raw = walks(*[40] * 8, labels=[0, 1] * 4, groups={"subject": np.repeat([3, 5, 7, 9], 2)})
    source = prepare(raw, "walks", Preparation(target=5))
    split = source.split(0)
    assert (split.test.tolist(), split.train.tolist()) == ([2, 3], [0, 1, 4, 5, 6, 7])
    assert source.train_rows.tolist() == [0, 1, 4, 5, 6, 7]
    assert source.describe()["split"] == "subject 5 is the test part, the probe learns from all others"
    with pytest.raises(UserError, match="the target subject 4 was asked for, and 'walks' has 3, 5, 7, 9"):
        prepare(raw, "walks", Preparation(target=4))
    with pytest.raises(UserError, match=r"'walks' has no subjects; name their column with --reading.subject"):
        prepare(walks(40, 40), "walks", Preparation(target=4))


def test_blocks_are_stretches_of_each_series() -> None:
    found = blocks(np.array([0] * 45 + [1] * 3), np.array([*range(45), 20, 0, 10]))
    assert found[:45].tolist() == sorted(found[:45].tolist())
    assert len(set(found[:45])) == 20
    assert found[45:].tolist() == [22, 20, 21]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": 0}, "the option length of 'walks' takes a number above 0, and was given 0"),
        ({"length": "long"}, "takes a number above 0, and was given 'long'"),
        ({"step": 5}, "no length was given; add --reading.length STEPS"),
        ({"missing": "fill"}, "takes one of refuse, interpolate, mask, and was given 'fill'"),
        ({"lengths": "crop"}, "takes one of refuse, cut, pad"),
        ({"scale": "unit"}, "takes one of none, window, channel"),
        ({"resample": -1.0}, "takes a number above 0"),
        ({"channels": "7"}, "the channel '7' of 'walks' was asked for, and it has numbers from 0 to 1"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        prepare(walks(40, 40), "walks", Preparation(**options))


def test_chirps_follow_from_their_seed_and_have_their_bands() -> None:
    raw = make_chirps(subjects=4, windows=8, noise=0.0)
    for one, other in zip(raw.series, make_chirps(subjects=4, windows=8, noise=0.0).series, strict=True):
        np.testing.assert_array_equal(one, other)
    gains = [np.std(raw.series[8 * subject : 8 * subject + 8]) for subject in range(4)]
    assert max(gains) > 1.5 * min(gains)
    assert not np.array_equal(raw.series[0], make_chirps(subjects=4, windows=8, noise=0.0, seed=1).series[0])
