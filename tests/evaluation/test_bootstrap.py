"""Random halves: reproducible, without copies, and as spread as the whole."""

from __future__ import annotations

import numpy as np
import pytest

from anyview.evaluation.bootstrap import halves, interval, spread_around


def test_halves_are_halves_without_copies_and_follow_the_seed():
    found = list(halves(21, 50, 0, "data"))
    assert all(len(half) == len(set(half)) == 10 for half in found)
    assert all((np.diff(half) > 0).all() for half in found)
    np.testing.assert_array_equal(found, list(halves(21, 50, 0, "data")))
    assert not np.array_equal(found, list(halves(21, 50, 0, "other")))
    assert len({tuple(half) for half in found}) == 50


def test_the_spread_of_a_mean_over_halves_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(size=400)
    means = np.array([values[half].mean() for half in halves(400, 4000, 0)])
    assert means.std() == pytest.approx(values.std() / 400**0.5, rel=0.05)


def test_intervals_are_around_the_value_whatever_the_halves_are_short_of():
    replicates = np.random.default_rng(0).normal(10, 2, size=5000)
    low, high = interval(50.0, replicates)
    assert (low + high) / 2 == pytest.approx(50, abs=0.2)
    assert high - low == pytest.approx(2 * 1.96 * 2, rel=0.05)
    assert spread_around(50.0, replicates).mean() == pytest.approx(50)
