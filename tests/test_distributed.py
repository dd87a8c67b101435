from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from anyview.distributed import any_rank, gather_rows, mean_over_ranks, rank, ranks, sum_over_ranks
from anyview.testing import run_on_ranks

ROWS = torch.arange(21, dtype=torch.float64).view(7, 3).sin()
PARTS = {1: [7], 2: [3, 4], 3: [4, 0, 3]}


def own_rows() -> Tensor:
    counts = PARTS[ranks()]
    start = sum(counts[: rank()])
    return ROWS[start : start + counts[rank()]].clone().requires_grad_()


def coupled(rows: Tensor) -> Tensor:
    """A loss in which every row meets every other."""
    return (rows @ rows.T).tanh().sum() + rows.std(0).prod()


def gathered() -> tuple[Tensor, Tensor, Tensor]:
    own = own_rows()
    rows = gather_rows(own)
    loss = coupled(rows)
    loss.backward()
    assert own.grad is not None
    return rows.detach(), loss.detach(), own.grad


@pytest.mark.parametrize("count", [2, 3])
def test_gathered_rows_are_all_rows_on_every_rank(count: int) -> None:
    for rows, loss, _ in run_on_ranks(gathered, count):
        assert torch.equal(rows, ROWS)
        torch.testing.assert_close(loss, coupled(ROWS), rtol=1e-14, atol=0)


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_are_the_sum_over_ranks(count: int) -> None:
    """Averaged over ranks, as DistributedDataParallel does, they are those of one process."""
    _, _, expected = gathered()
    parts = [gradient for _, _, gradient in run_on_ranks(gathered, count)]
    torch.testing.assert_close(torch.cat(parts) / count, expected, rtol=1e-12, atol=1e-14)


def gathered_without_warning() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gathered()
        sum_over_ranks(torch.ones(2, requires_grad=True)).sum().backward()
    return True


def test_no_collective_stands_in_a_differentiated_path() -> None:
    assert run_on_ranks(gathered_without_warning, 2) == [True, True]


def gathered_other_types() -> tuple[Tensor, Tensor]:
    index = torch.arange(3) + 10 * rank()
    return gather_rows(index), gather_rows(torch.full((1 + rank(), 2, 2), float(rank())))


def test_whole_numbers_and_further_axes_are_gathered() -> None:
    for index, blocks in run_on_ranks(gathered_other_types, 2):
        assert index.tolist() == [0, 1, 2, 10, 11, 12]
        assert blocks[:, 0, 0].tolist() == [0.0, 1.0, 1.0]
        assert blocks.shape == (3, 2, 2)


def summed() -> tuple[Tensor, Tensor]:
    weight = torch.tensor([1.0 + rank(), 2.0], requires_grad=True)
    total = sum_over_ranks(weight * 3)
    (total[0] * total[1]).backward()
    assert weight.grad is not None
    return total.detach(), weight.grad


def test_sums_carry_gradients_from_all_ranks() -> None:
    for total, gradient in run_on_ranks(summed, 2):
        assert total.tolist() == [9.0, 12.0]
        assert gradient.tolist() == [2 * 3 * 12.0, 2 * 3 * 9.0]


def others() -> tuple[int, int, float, bool, bool]:
    mean = mean_over_ranks(torch.tensor(float(rank()), requires_grad=True))
    assert not mean.requires_grad
    return rank(), ranks(), float(mean), any_rank(rank() == 1), any_rank(False)


def test_means_and_flags() -> None:
    assert run_on_ranks(others, 3) == [(number, 3, 1.0, True, False) for number in range(3)]


def test_one_process_is_the_identity() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_rows(rows) is rows
    assert sum_over_ranks(rows) is rows
    assert torch.equal(mean_over_ranks(rows), rows)
    assert not mean_over_ranks(rows).requires_grad
    assert (rank(), ranks()) == (0, 1)
    assert any_rank(True)
    assert not any_rank(False)
