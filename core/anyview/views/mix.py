"""Views in which every sample is mixed with a partner from the batch.

Zhang, Cissé, Dauphin, Lopez-Paz. mixup: Beyond Empirical Risk Minimization. 2018, arXiv 1710.09412.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.views.draws import Draws
from anyview.views.pair import Pair, Params, RecordedTransform


def mix(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """weight·a + (1 - weight)·b; a, b: (B, ...), weight: one number or (B,).

    >>> mix(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0.25, 1.0])).mean(1).tolist()
    [0.25, 1.0]
    """
    if isinstance(weight, Tensor) and weight.ndim == 1:
        weight = weight.view(-1, *[1] * (a.ndim - 1)).to(a)
    return weight * a + (1 - weight) * b


def beta(draws: Draws, alpha: float, *, shared: bool = False) -> Tensor:
    """(rows,) numbers between 0 and 1 from the symmetric Beta(alpha, alpha); shared: one number for all samples and ranks.

    >>> bool((beta(Draws.seeded(0, total=100), 0.5) <= 1).all())
    True
    """
    seed = int(torch.randint(2**62, (), generator=draws.generator, device=draws.device))  # torch's own Beta takes no generator
    numbers = np.random.default_rng(seed).beta(alpha, alpha, size=1 if shared else draws.total)
    weights = torch.from_numpy(numbers).to(draws.device, torch.float32)
    return weights.expand(draws.rows) if shared else weights[draws.start : draws.start + draws.rows]


def partners(draws: Draws, block: int | None = None) -> Tensor:
    """(rows,) the position in the global batch of each row's partner: a permutation of the batch, or of each `block` of consecutive rows.

    Raises ValueError when this rank's rows do not begin and end with a block.
    """
    if block is None:
        return draws.permutation(draws.total)[draws.start : draws.start + draws.rows]
    if draws.start % block or draws.rows % block:
        raise ValueError(f"rows {draws.start} to {draws.start + draws.rows} cannot be cut into blocks of {block}; choose a divisor")
    order = draws.uniform().view(-1, block).argsort(1)
    starts = draws.start + block * torch.arange(len(order), device=draws.device)
    return (starts[:, None] + order).flatten()


class Mix(RecordedTransform):
    """Replaces each sample by weight·sample + (1 - weight)·partner; records "weight" (B, 1) and "partner" (B, 1), global positions.

    alpha: of the Beta distribution that weights come from. least: weights are drawn onto [least, 1] instead of [0, 1], so that a sample
    stays the larger part. shared: one weight per batch instead of one per sample. block: partners come from blocks of so many consecutive
    rows, which must divide every rank's rows; without it they come from the whole batch, and ranks send each other their data.
    """

    def __init__(self, alpha: float = 1.0, *, least: float = 0.0, shared: bool = False, block: int | None = None) -> None:
        self.alpha, self.least, self.shared, self.block = alpha, least, shared, block

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        partner = partners(draws, self.block)
        weight = self.least + (1 - self.least) * beta(draws, self.alpha, shared=self.shared)
        other = gather_rows(data)[partner] if self.block is None else data[partner - draws.start]
        return mix(data, other, weight), {"weight": weight[:, None], "partner": partner[:, None]}


class MixedPair(Pair):
    """Two views of tensors (B, ...): each sample mixed with one partner, and with another.

    alpha, least, shared, block: as in Mix; by default at least half of each view is the sample's own.
    """

    def __init__(self, alpha: float = 1.0, *, least: float = 0.5, shared: bool = False, block: int | None = None) -> None:
        super().__init__(Mix(alpha, least=least, shared=shared, block=block))
