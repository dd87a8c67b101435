from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import rank
from anyview.objectives.tokens import mean_of_all, spread
from anyview.testing import run_on_ranks


def numbers() -> Tensor:
    return torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def means_of_uneven_parts() -> tuple[Tensor, Tensor, Tensor]:
    """The mean, the gradient that averaging over two ranks leaves, and the spread; rank 0 holds seven rows, rank 1 two."""
    own = slice(0, 7) if rank() == 0 else slice(7, 9)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    mean = mean_of_all((weight * numbers()[own]).square().mean(1))
    mean.backward()
    return mean.detach(), weight.grad, spread(numbers()[own])


def test_on_one_process_they_are_the_plain_ones() -> None:
    x = numbers()
    torch.testing.assert_close(mean_of_all(x[:, 0]), x[:, 0].mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(spread(x), x.std(0, unbiased=False).mean(), rtol=1e-10, atol=0)


def test_two_ranks_with_different_numbers_of_rows_are_as_one() -> None:
    x = numbers()
    parts = run_on_ranks(means_of_uneven_parts, 2)
    gradient = (parts[0][1] + parts[1][1]) / 2
    torch.testing.assert_close(gradient, 2 * x.square().mean(), rtol=1e-12, atol=0)
    for mean, _, deviation in parts:
        torch.testing.assert_close(mean, x.square().mean(), rtol=1e-12, atol=0)
        torch.testing.assert_close(deviation, spread(x), rtol=1e-12, atol=0)


def test_without_values_the_mean_is_nought_and_has_a_gradient() -> None:
    values = torch.empty(0, requires_grad=True)
    mean = mean_of_all(values)
    mean.backward()
    assert float(mean.detach()) == 0.0
    assert values.grad.shape == (0,)


def test_equal_rows_have_no_spread() -> None:
    assert float(spread(torch.full((5, 3), 7.0))) < 1e-6
    assert float(spread(torch.empty(0, 3))) == 0.0
