from __future__ import annotations

import numpy as np
import pytest

from anyview_timeseries.spectra import filled, log_spectrum, magnitudes, peak, statistics, tapered_spectrum, within

TIME = np.arange(200) / 25


def wave(*frequencies: float) -> np.ndarray:
    return np.stack([np.sin(2 * np.pi * frequency * TIME + frequency) for frequency in frequencies])[:, None]


def test_magnitudes_keep_energy() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 50))
    found = np.square(magnitudes(x))
    found[..., 1:-1] *= 2
    np.testing.assert_allclose(found.sum(2), np.square(x).sum(2))


def test_peaks_are_found_between_the_windows_own_frequencies() -> None:
    asked = np.array([0.71, 1.13, 2.02, 3.4])
    np.testing.assert_allclose(peak(wave(*asked), 25.0, 0.5, 3.5), asked, atol=0.02)
    assert peak(np.concatenate([wave(0.2) + 0.1 * wave(2.0)]), 25.0, 1.0, 3.0)[0] == pytest.approx(2.0, abs=0.1)


def test_a_peak_of_several_channels_is_where_most_have_it() -> None:
    x = np.concatenate([1e-3 * wave(1.5), 1e-3 * wave(1.5), 100 * wave(3.0)], 1)
    assert peak(x, 25.0, 0.5, 3.5)[0] == pytest.approx(1.5, abs=0.02)


def test_many_windows_are_the_same_in_parts() -> None:
    x = np.random.default_rng(0).normal(size=(700, 1, 64))
    np.testing.assert_array_equal(peak(x, 25.0, 1.0, 5.0)[500:510], peak(x[500:510], 25.0, 1.0, 5.0))


def test_bands_choose_frequencies() -> None:
    assert within(200, 25.0, (0.25, 4.0)).sum() == 31
    assert within(200, None, (0.25, 4.0)).sum() == within(200, 25.0, None).sum() == 100
    x = wave(1.0, 2.0)
    assert log_spectrum(x, 25.0, (0.25, 4.0)).shape == tapered_spectrum(x, 25.0, (0.25, 4.0)).shape == (2, 31)
    assert log_spectrum(x)[0].argmax() == 7
    assert tapered_spectrum(x)[1].argmax() == 15


def test_missing_values_are_the_channels_mean() -> None:
    x = np.array([[[1.0, np.nan, 3.0], [np.nan] * 3]])
    np.testing.assert_array_equal(filled(x), [[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    for features in (log_spectrum, tapered_spectrum, statistics):
        assert np.isfinite(features(np.repeat(x, 4, 2))).all()


def test_statistics_are_mean_deviation_and_low_frequencies() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 64))
    found = statistics(x, bins=4).reshape(2, 3, 6)
    np.testing.assert_allclose(found[..., 0], x.mean(2), rtol=1e-5)
    np.testing.assert_allclose(found[..., 1], x.std(2), rtol=1e-5)
    np.testing.assert_allclose(found[..., 2:], np.log(magnitudes(x)[..., 1:5] + 1e-3), rtol=1e-5)
