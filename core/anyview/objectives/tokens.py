"""What objectives over tokens share: means and spreads over the tokens of all ranks, of which each may hold another number."""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import sum_over_ranks


def mean_of_all(values: Tensor) -> Tensor:
    """The mean of all ranks' values, (M, ...) to (...), with gradient; M may differ from rank to rank, and without any value the mean is 0.

    Where every rank returns it as its loss, averaged gradients are those of one process: no rank needs the others' rows.

    >>> float(mean_of_all(torch.tensor([1.0, 2.0, 6.0]))), float(mean_of_all(torch.empty(0)))
    (3.0, 0.0)
    """
    return sum_over_ranks(values.sum(0)) / sum_over_ranks(values.new_full((), len(values))).clamp(min=1.0)


@torch.no_grad()
def spread(rows: Tensor) -> Tensor:
    """The deviation of a column over all ranks' rows (M, D), a mean over columns, without gradient; near 0 all rows are alike.

    >>> round(float(spread(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))), 3)
    0.5
    """
    x = rows.detach().double()
    total = sum_over_ranks(torch.cat([x.sum(0), x.square().sum(0), x.new_full((1,), len(x))]))
    mean, square = (total[:-1] / total[-1].clamp(min=1.0)).chunk(2)
    return (square - mean.square()).clamp(min=0.0).sqrt().mean()
