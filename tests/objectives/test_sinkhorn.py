from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyview.objectives.sinkhorn import sinkhorn


def scores(rows: int, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (2 * torch.rand(rows, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1).to(dtype)


def published(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The algorithm on probabilities, as it is written down."""
    M, K = scores.shape
    Q = torch.exp((scores - scores.max()) / epsilon)
    Q = Q / Q.sum()
    for _ in range(iterations):
        for k in range(K):
            Q[:, k] /= K * Q[:, k].sum()
        for m in range(M):
            Q[m] /= M * Q[m].sum()
    return Q * M


@pytest.mark.parametrize(("rows", "count"), [(6, 10), (10, 6), (7, 7), (1, 3), (5, 1)])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_is_the_published_algorithm(rows: int, count: int, iterations: int) -> None:
    s = scores(rows, count)
    torch.testing.assert_close(sinkhorn(s, 0.05, iterations), published(s.clone(), 0.05, iterations), rtol=1e-10, atol=1e-14)


def test_rows_sum_to_one_in_single_precision() -> None:
    sums = sinkhorn(scores(64, 300, torch.float32)).sum(1)
    assert float((sums - 1).abs().max()) < 1e-6


def test_prototypes_come_to_share_the_rows_evenly() -> None:
    masses = sinkhorn(scores(60, 12), 0.05, 100).sum(0)
    torch.testing.assert_close(masses, torch.full_like(masses, 60 / 12), rtol=0, atol=1e-3)


@pytest.mark.parametrize("count", [3, 10, 3000])
def test_constant_scores_give_one_over_the_number_of_prototypes(count: int) -> None:
    """To the last digit but one: processors add the columns of one matrix in different orders."""
    torch.testing.assert_close(sinkhorn(torch.full((8, count), 0.7)), torch.full((8, count), 1 / count), rtol=2.4e-7, atol=0)


def test_follows_the_order_of_rows_and_prototypes_and_ignores_a_common_shift() -> None:
    s = scores(9, 5)
    rows, columns = torch.randperm(9), torch.randperm(5)
    torch.testing.assert_close(sinkhorn(s[rows][:, columns] + 3), sinkhorn(s)[rows][:, columns])


def test_part_of_the_rows_or_two_views_together_are_assigned_otherwise() -> None:
    a, b = scores(16, 4).chunk(2)
    together = sinkhorn(torch.cat([a, b]))
    assert not torch.allclose(together[:8], sinkhorn(a), atol=1e-3)
    assert not torch.allclose(together[8:], sinkhorn(b), atol=1e-3)


def test_rows_and_prototypes_that_are_far_from_all_others_keep_their_mass() -> None:
    """Taken as probabilities in float32, both underflow, and their mass is 0/0."""
    s = torch.rand(6, 4)
    s[0] -= 20
    s[:, 1] -= 20
    assert bool(published(s.clone(), 0.05, 3).isnan().any())
    found = sinkhorn(s, 0.05, 100)
    torch.testing.assert_close(found.sum(1), torch.ones(6))
    torch.testing.assert_close(found.sum(0), torch.full((4,), 1.5), rtol=0, atol=0.05)


@pytest.mark.parametrize(("rows", "count", "iterations"), [(64, 300, 3), (9, 1, 3), (200, 40, 7), (4, 6, 50)])
def test_is_the_algorithm_on_logarithms(rows: int, count: int, iterations: int) -> None:
    """In float32, of scores so far apart that many shares underflow; the last case is one that is taken on logarithms anyway."""
    s = 10 * scores(rows, count, torch.float32)
    logs = s.double() / 0.05
    for _ in range(iterations):
        logs = logs.log_softmax(0).log_softmax(1)
    torch.testing.assert_close(sinkhorn(s, 0.05, iterations).double(), logs.exp(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_assigned_in_single(dtype: torch.dtype) -> None:
    s = (30 * scores(8, 6)).to(dtype)
    found = sinkhorn(s)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sinkhorn(s.float()))


def test_has_no_gradient() -> None:
    assert not sinkhorn(scores(4, 3).requires_grad_()).requires_grad


def test_needs_an_iteration() -> None:
    with pytest.raises(ValueError, match="at least one iteration"):
        sinkhorn(scores(4, 3), iterations=0)
