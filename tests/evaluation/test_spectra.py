"""Effective ranks: closed forms, the papers' formulas, inequalities, degenerate rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anyview.evaluation.spectra import (
    centred_rankme,
    entropy_rank,
    entropy_rank_of,
    mean_share,
    participation_ratio,
    participation_ratio_of,
    rankme,
    rankme_of,
    singular_values,
    stable_rank,
    stable_rank_of,
    uncentred_stable_rank,
)
from tests.evaluation.plain import normal, plain_rankme, spectrum


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
    assert rankme(rows) == pytest.approx(2.6, abs=0.3)
    assert centred_rankme(rows) == pytest.approx(63.9, abs=0.2)
    assert mean_share(rows) == pytest.approx(2500 / 2501, rel=1e-3)
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


@pytest.mark.parametrize("metric", [stable_rank, participation_ratio, entropy_rank])
def test_many_isotropic_rows_fill_every_direction_and_a_line_fills_one(metric):
    assert metric(spectrum(*[1.0] * 32)) == pytest.approx(32, rel=1e-9)
    assert metric(normal(50, 1) * normal(1, 32)) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("shape", [(10, 50), (50, 10)])
def test_participation_ratio_by_either_gram_matrix_is_that_of_the_covariance(shape):
    rows = normal(*shape) + 1
    covariance = torch.cov(rows.T)
    assert participation_ratio(rows) == pytest.approx(float(covariance.trace() ** 2 / covariance.square().sum()), rel=1e-12)


def test_nesum_and_stable_rank_differ_by_the_mean():
    rows = normal(300, 8) + 3
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.numpy().T))
    assert stable_rank(rows) == pytest.approx(eigenvalues.sum() / eigenvalues.max(), rel=1e-12)
    norm, spectral = np.linalg.norm(rows.numpy()), np.linalg.norm(rows.numpy(), 2)
    assert uncentred_stable_rank(rows) == pytest.approx(norm**2 / spectral**2, rel=1e-12)
    assert uncentred_stable_rank(rows) < 1.2 < 5 < stable_rank(rows)


def test_equal_rows_have_no_directions():
    rows = torch.zeros(10, 4)
    assert stable_rank(rows) == participation_ratio(rows) == entropy_rank(rows) == uncentred_stable_rank(rows) == 0


@pytest.mark.parametrize("shape", [(200, 20), (20, 200)])
def test_metrics_by_gram_matrices_are_those_by_singular_values(shape):
    rows = normal(*shape) * torch.linspace(0, -6, shape[1], dtype=torch.float64).exp() + 0.5
    centred = singular_values(rows, centred=True)
    assert rankme_of(singular_values(rows, centred=False)) == pytest.approx(rankme(rows), rel=1e-6)
    assert entropy_rank_of(centred) == pytest.approx(entropy_rank(rows), rel=1e-6)
    assert participation_ratio_of(centred) == pytest.approx(participation_ratio(rows), rel=1e-9)
    assert stable_rank_of(centred) == pytest.approx(stable_rank(rows), rel=1e-9)
