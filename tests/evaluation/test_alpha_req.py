"""alpha-ReQ: exponents that are known, the range that is told, and no fit where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyview.evaluation.alpha_req import alpha_req, alpha_req_of
from tests.evaluation.plain import normal, spectrum


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.5])
def test_a_power_law_gives_its_exponent(exponent):
    law = alpha_req(spectrum(*(j**-exponent for j in range(1, 65))))
    assert law.alpha == pytest.approx(exponent, abs=1e-3)
    assert law.r2 == pytest.approx(1, abs=1e-6)
    assert (law.first, law.last) == (3, 32)


def test_it_is_least_squares_of_logarithms():
    rows = normal(300, 40) * torch.linspace(0, -4, 40, dtype=torch.float64).exp() + 1
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.numpy().T))[::-1]
    x, y = np.log(np.arange(5, 16)), np.log(eigenvalues[4:15])
    slope, intercept = np.polyfit(x, y, 1)
    law = alpha_req(rows, first=5, last=15)
    assert law.alpha == pytest.approx(-slope, rel=1e-9)
    assert law.r2 == pytest.approx(1 - np.sum((y - slope * x - intercept) ** 2) / np.sum((y - y.mean()) ** 2), rel=1e-9)
    assert (law.first, law.last) == (5, 15)


def test_the_range_ends_before_eigenvalues_that_are_nothing():
    law = alpha_req(spectrum(*[j**-1.0 for j in range(1, 11)], *[1e-9] * 30))
    assert law.last == 10
    assert law.alpha == pytest.approx(1, abs=1e-3)


def test_scale_and_mean_do_not_matter():
    rows = normal(200, 30) * torch.linspace(0, -3, 30, dtype=torch.float64).exp()
    assert alpha_req(7 * rows + 100).alpha == pytest.approx(alpha_req(rows).alpha, rel=1e-6)


def test_white_is_flat():
    law = alpha_req(spectrum(*[1.0] * 32))
    assert law.alpha == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rows", [torch.ones(20, 16), normal(50, 8), normal(3, 64)])
def test_too_few_eigenvalues_make_no_fit(rows):
    law = alpha_req(rows)
    assert law.alpha is None
    assert law.r2 is None


def test_an_asked_range_stops_at_the_last_positive_eigenvalue():
    law = alpha_req_of(torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.0]), 6, first=1, last=6)
    assert law.last == 5
