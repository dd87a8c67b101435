"""Alignment and uniformity as metrics: loops, limits, intervals, parts of many pairs, two ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anyview.distributed import rank
from anyview.errors import UserError
from anyview.evaluation.sphere import AlignmentMeter, measured_alignment, measured_uniformity, some_rows
from anyview.testing import run_on_ranks
from tests.evaluation.plain import normal


def unit(rows: torch.Tensor) -> np.ndarray:
    z = rows.numpy()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_both_are_the_papers_formulas():
    a, b = normal(30, 5), normal(30, 5, seed=1)
    distances = [sum((x - y) ** 2) for x, y in zip(unit(a), unit(b), strict=True)]
    assert measured_alignment(a, b).value == pytest.approx(np.mean(distances), rel=1e-10)
    rows = unit(a)
    pairs = [math.exp(-2 * sum((rows[i] - rows[j]) ** 2)) for i in range(30) for j in range(i)]
    assert measured_uniformity(a).value == pytest.approx(math.log(np.mean(pairs)), rel=1e-10)


def test_limits_of_uniformity():
    assert measured_uniformity(torch.ones(20, 4)).value == pytest.approx(0, abs=1e-12)
    simplex = torch.eye(40, dtype=torch.float64) - 1 / 40
    assert measured_uniformity(simplex).value == pytest.approx(-4 - 4 / 39, rel=1e-9)
    assert measured_uniformity(normal(2000, 64), replicates=2).value == pytest.approx(-4 + 8 / 64, abs=0.02)


def test_intervals_hold_the_value_and_are_as_wide_as_the_mean_is_unsure():
    a = normal(500, 6)
    b = a + 0.5 * normal(500, 6, seed=1)
    found = measured_alignment(a, b, replicates=2000)
    distances = ((unit(a) - unit(b)) ** 2).sum(1)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * distances.std() / 500**0.5, rel=0.1)
    spread = measured_uniformity(a)
    assert spread.low < spread.value < spread.high
    assert spread.samples == 500


def test_the_interval_of_uniformity_covers_what_many_more_rows_say():
    truth = measured_uniformity(normal(3000, 4, seed=99), replicates=2).value
    found = [measured_uniformity(normal(150, 4, seed=seed)) for seed in range(40)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.85


def test_no_more_pairs_are_looked_at_than_allowed():
    rows = normal(200, 3)
    some = some_rows(rows, 1000, seed=0)
    assert len(some) == 45
    assert len(some) * (len(some) - 1) / 2 <= 1000
    assert measured_uniformity(rows, pairs=1000).samples == 45
    assert some_rows(rows, 10**7, seed=0) is rows


def test_too_few_samples_have_no_interval():
    with pytest.raises(UserError, match="at least 4 samples, and there are 3"):
        measured_alignment(normal(3, 2), normal(3, 2))


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    return normal(13, 4), normal(13, 4, seed=1)


def on_rank() -> float:
    own = slice(0, 4) if rank() == 0 else slice(4, 13)
    meter = AlignmentMeter()
    for a, b in zip(*(rows[own].split(3) for rows in pairs()), strict=True):
        meter.add(a, b)
    return meter.value()


def test_two_ranks_are_one():
    assert run_on_ranks(on_rank, 2) == pytest.approx([measured_alignment(*pairs()).value] * 2, rel=1e-12)
