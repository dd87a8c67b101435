"""Sums over batches and ranks: what metrics of rows that never lie in one place are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import sum_over_ranks


class Sums:
    """Named sums in float64 that grow by batches and are added over ranks when they are read.

    shapes: of each sum by name. device: where they are kept; one that has no float64 cannot keep them.

    >>> sums = Sums(rows=(), total=(2,))
    >>> for batch in torch.ones(6, 2).split(4): sums.add(rows=len(batch), total=batch.sum(0))
    >>> {name: value.tolist() for name, value in sums.over_ranks().items()}
    {'rows': 6.0, 'total': [6.0, 6.0]}
    """

    def __init__(self, *, device: str | torch.device = "cpu", **shapes: tuple[int, ...]) -> None:
        self.device = torch.device(device)
        self._sums = {name: torch.zeros(shape, dtype=torch.float64, device=self.device) for name, shape in shapes.items()}

    def add(self, **terms: Tensor | float) -> None:
        """Add to the sums by name."""
        for name, term in terms.items():
            self._sums[name] += torch.as_tensor(term, dtype=torch.float64, device=self.device)

    def over_ranks(self) -> dict[str, Tensor]:
        """The sums of all ranks, by name; every rank must ask, and every rank is given the same numbers. One message for all sums."""
        together = sum_over_ranks(torch.cat([value.flatten() for value in self._sums.values()]))
        parts = together.split([value.numel() for value in self._sums.values()])
        return {name: part.view(value.shape) for (name, value), part in zip(self._sums.items(), parts, strict=True)}
