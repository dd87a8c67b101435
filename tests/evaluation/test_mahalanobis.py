"""Mahalanobis distances: the formulas written out, scikit-learn's shrinkage, both forms of the inverse, degenerate rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from anyview.evaluation.mahalanobis import Gaussians, ledoit_wolf, mahalanobis_scores
from tests.evaluation.plain import normal

SHAPES = [(200, 10), (30, 10), (10, 30), (11, 10)]


def rows(samples: int, width: int) -> torch.Tensor:
    return normal(samples, width) @ normal(width, width, seed=1) + 3


@pytest.mark.parametrize("shape", SHAPES)
def test_shrinkage_is_scikit_learns_on_centred_rows(shape):
    z = rows(*shape)
    z = z - z.mean(0)
    assert ledoit_wolf(z) == pytest.approx(ledoit_wolf_shrinkage(z.numpy(), assume_centered=True), rel=1e-10)
    assert ledoit_wolf(z) == pytest.approx(ledoit_wolf_shrinkage(rows(*shape).numpy()), rel=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_shrinkage_is_the_formula(shape):
    z = rows(*shape).numpy()
    z = z - z.mean(0)
    samples, width = z.shape
    s = z.T @ z / samples
    m = np.trace(s) / width
    delta = np.linalg.norm(s - m * np.eye(width)) ** 2 / width
    beta = (sum(np.linalg.norm(x) ** 4 for x in z) - samples * np.linalg.norm(s) ** 2) / (samples**2 * width)
    assert ledoit_wolf(torch.from_numpy(z)) == pytest.approx(min(beta, delta) / delta, rel=1e-10)


def plain_distances(train: np.ndarray, labels: np.ndarray, test: np.ndarray, shrinkage: float) -> np.ndarray:
    classes = np.unique(labels)
    means = {c: train[labels == c].mean(0) for c in classes}
    centred = np.stack([x - means[c] for x, c in zip(train, labels, strict=True)])
    s = centred.T @ centred / len(train)
    width = train.shape[1]
    inverse = np.linalg.inv((1 - shrinkage) * s + shrinkage * np.trace(s) / width * np.eye(width))
    return np.array([min((x - means[c]) @ inverse @ (x - means[c]) for c in classes) for x in test])


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_are_the_formula_by_either_inverse(shape):
    train, test = rows(*shape), rows(7, shape[1]) + 1
    labels = torch.arange(len(train)) % 3
    scores, shrinkage = mahalanobis_scores(train, labels, test)
    expected = plain_distances(train.numpy(), labels.numpy(), test.numpy(), shrinkage)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-7)
    means = torch.stack([train[labels == label].mean(0) for label in range(3)])
    assert shrinkage == pytest.approx(ledoit_wolf(train - means[labels]), rel=1e-12)


def test_the_relative_form_takes_one_gaussian_of_all_rows_off():
    train, test, labels = rows(60, 5), rows(9, 5), torch.arange(60) % 4
    plain, _ = mahalanobis_scores(train, labels, test)
    relative, _ = mahalanobis_scores(train, labels, test, relative=True)
    centred = train - train.mean(0)
    background = plain_distances(train.numpy(), np.zeros(60), test.numpy(), ledoit_wolf(centred))
    np.testing.assert_allclose((plain - relative).numpy(), background, rtol=1e-7)


def test_one_gaussian_is_the_textbook_distance():
    train, test = rows(5000, 4), rows(6, 4)
    fitted = Gaussians.fit(train, torch.zeros(5000, dtype=torch.long))
    cov = np.cov(train.numpy().T, bias=True)
    expected = [(x - train.numpy().mean(0)) @ np.linalg.inv(cov) @ (x - train.numpy().mean(0)) for x in test.numpy()]
    np.testing.assert_allclose(fitted.distances(test).numpy(), expected, rtol=0.02)


@pytest.mark.parametrize("width", [3, 50])
def test_rows_that_are_all_alike_have_finite_distances(width):
    train = torch.ones(10, width, dtype=torch.float64)
    scores, shrinkage = mahalanobis_scores(train, torch.arange(10) % 2, torch.cat([train[:2], train[:2] + 1]))
    assert scores.isfinite().all()
    assert scores[0] == 0 < scores[3]
    assert shrinkage == 0


def test_rows_of_wholly_shrunk_covariance_are_euclidean():
    train = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    assert ledoit_wolf(train) == 0.0
    fitted = Gaussians(torch.zeros(1, 3, dtype=torch.float64), train, 1.0)
    np.testing.assert_allclose(fitted.distances(torch.eye(3).double()).numpy(), 3.0)
