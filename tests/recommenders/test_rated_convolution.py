"""Levels and moments, and rows of a convolution over them as the paper writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.testing import check_encoder
from anyview.views.view import View
from anyview_recommenders.rated_convolution import RatedConvolution, levels_of, moment_code, moments_of

from .plain import DIM, ITEMS, USERS, small_log

NODES = torch.arange(USERS + ITEMS)
LEVELS = 3


def said() -> tuple[np.ndarray, np.ndarray]:
    """A level and a moment of each interaction of the small log."""
    random, count = np.random.default_rng(5), small_log().nnz
    return random.integers(0, LEVELS, count), random.integers(2, 6, count)


def plain_rows(made: RatedConvolution, levels: np.ndarray, moments: np.ndarray) -> Tensor:
    """Messages one by one."""
    count = USERS + ITEMS * LEVELS
    edges: dict[tuple[int, int], Tensor] = {}
    for user, item, level, moment in zip(*small_log().nonzero(), levels, moments, strict=True):
        rates = torch.tensor([10_000.0 ** (-wave / DIM) for wave in range(DIM)])
        code = torch.cat([(moment * rates).sin(), (moment * rates).cos()])
        told = made.moments.linear.weight @ code + made.moments.linear.bias
        rated = USERS + item * LEVELS + level
        edges[user, rated] = edges[rated, user] = told
    for node in range(count):
        edges[node, node] = torch.zeros(DIM)
    degree = torch.tensor([float(sum(end == node for _, end in edges)) for node in range(count)])
    layers, rows = [made.embedding], made.embedding
    for of_users, of_items in made.weights:
        sums = [torch.zeros(DIM) for _ in range(count)]
        for (start, end), told in edges.items():
            sums[end] = sums[end] + rows[start] @ (of_users if start < USERS else of_items) / degree[start].sqrt() + told
        rows = torch.stack([own / root for own, root in zip(sums, degree.sqrt(), strict=True)])
        rows = torch.where(rows > 0, rows, 0.4 * rows)
        layers.append(torch.stack([row / row.norm() for row in rows]))
    whole = torch.cat(layers, 1)
    items = [whole[USERS + item * LEVELS : USERS + (item + 1) * LEVELS].mean(0) for item in range(ITEMS)]
    return torch.cat([whole[:USERS], torch.stack(items)])


@pytest.mark.usefixtures("double")
def test_rows_are_the_papers_formula() -> None:
    levels, moments = said()
    made = RatedConvolution(small_log(), DIM, levels=levels, moments=moments, layers=2, deviation=1.0)
    ours, theirs = made(View({"nodes": NODES})).rows, plain_rows(made, levels, moments)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    weights = list(made.parameters())
    pull = torch.randn_like(ours)
    for one, other in zip(*(torch.autograd.grad((rows * pull).sum(), weights) for rows in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)


def test_layers_are_the_embeddings_an_item_the_mean_of_its_levels() -> None:
    made = RatedConvolution(small_log(), DIM, levels=said()[0])
    layers = made(View({"nodes": NODES})).layers
    assert layers is not None
    assert made.levels == LEVELS
    torch.testing.assert_close(layers[0][USERS + 2], made.embedding[USERS + 2 * LEVELS : USERS + 3 * LEVELS].mean(0))


def test_the_encoder_keeps_its_contract_with_and_without_ratings_and_times() -> None:
    levels, moments = said()
    check_encoder(RatedConvolution(small_log(), DIM, levels=levels, moments=moments), View({"nodes": NODES}))
    check_encoder(RatedConvolution(small_log(), DIM), View({"nodes": NODES}))


def test_levels_are_distinct_ratings_or_equal_steps() -> None:
    assert levels_of(np.array([0.5, 4.0, 5.0, 4.0]), 5).tolist() == [0, 1, 2, 1]
    assert levels_of(np.arange(0.5, 5.5, 0.5), 5).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert levels_of(np.array([3.0, 3.0]), 1).tolist() == [0, 0]
    with pytest.raises(UserError, match="at least 1 level"):
        levels_of(np.ones(2), 0)


def test_moments_count_spans_from_the_first() -> None:
    assert moments_of(np.array([1e9, 1e9 + 3600 * 359, 1e9 + 3600 * 720]), 360).tolist() == [0, 0, 2]
    assert moments_of(np.empty(0), 360).tolist() == []
    with pytest.raises(UserError, match="hours is 0"):
        moments_of(np.ones(2), 0)


def test_codes_of_moments_differ() -> None:
    codes = moment_code(torch.arange(200), 16)
    assert float((torch.cdist(codes, codes) + torch.eye(200)).min()) > 1e-3
