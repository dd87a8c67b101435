"""Sums over batches, and over two ranks as over one."""

from __future__ import annotations

import torch

from anyview.distributed import rank
from anyview.evaluation.sums import Sums
from anyview.testing import run_on_ranks
from tests.evaluation.plain import normal


def summed(batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    sums = Sums(rows=(), total=(3,), outer=(3, 3))
    for batch in batches:
        sums.add(rows=len(batch), total=batch.sum(0), outer=batch.T @ batch)
    return sums.over_ranks()


def on_rank() -> dict[str, torch.Tensor]:
    return summed(list((normal(5, 3), normal(8, 3, seed=1))[rank()].split(3)))


def test_sums_of_batches_are_sums_of_all():
    rows = normal(13, 3)
    found = summed(list(rows.float().split(5)))
    assert all(value.dtype == torch.float64 for value in found.values())
    torch.testing.assert_close(found["total"], rows.float().double().sum(0))
    assert found["rows"] == 13


def test_two_ranks_are_one():
    whole = summed([normal(5, 3), normal(8, 3, seed=1)])
    for part in run_on_ranks(on_rank, 2):
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value)
