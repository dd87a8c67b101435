"""Diffusion of the rows of a sparse matrix: noise is added to whom a row relates to, and a network says what stood there.

Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli. Deep Unsupervised Learning using Nonequilibrium Thermodynamics. ICML 2015. For rows of a
recommender: Wang, Xu, Feng, Lin, He, Chua. Diffusion Recommender Model. SIGIR 2023, arXiv 2304.04971.
"""

from __future__ import annotations

import math

import torch
from scipy.sparse import csr_array, csr_matrix
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.errors import UserError
from anyview_recommenders.dropout import message_dropout
from anyview_recommenders.graph_convolution import check_rate
from anyview_recommenders.owned import Owned

FIRST, LOWEST, HIGHEST = 1e-4, 1e-5, 2e-3
"""The variance that the first step adds, and what the others rise between."""
TIME = 10
"""Width of what tells a step."""
MOST = 2**26
"""Weights of a network at most, about a GiB with gradients and Adam's moments."""
AT_ONCE = 2**24
"""Numbers of dense rows that are made anew at once, 64 MiB."""


class RowDiffusion(nn.Module):
    """A network that says what rows were before noise, and what it makes of rows in all of its steps.

    matrix: (N, N) CSR, of which only the places of entries are read; a row has ones there. hidden: width of the network, from N to N
    columns. steps: T. dropout: the share of a row's numbers that training leaves out. Raises UserError where N times `hidden` is too much.

    Of a row at step t, brought to length 1, and of sines and cosines of t the network says the clean row: W' tanh(W [row; time]).

    >>> diffusion = RowDiffusion(csr_matrix(np.eye(3)), hidden=4)
    >>> [round(float(share), 4) for share in diffusion.kept], diffusion.made_anew(torch.arange(3)).shape
    ([0.9999, 0.9994, 0.9989, 0.9984, 0.9979], torch.Size([3, 3]))
    """

    kept: Tensor
    before: Tensor

    def __init__(self, matrix: csr_matrix | csr_array, hidden: int = 1000, *, steps: int = 5, dropout: float = 0.5) -> None:
        super().__init__()
        count = check_size(matrix.shape[0], hidden)
        self.steps, self.dropout = steps, check_rate("dropout", dropout)
        self.there = Owned(csr_matrix(matrix))
        kept = schedule(steps)
        for name, part in {"kept": kept, "before": torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])}.items():
            self.register_buffer(name, part.to(torch.get_default_dtype()), persistent=False)
        self.clock = nn.Linear(TIME, TIME)
        self.read, self.write = nn.Linear(count + TIME, hidden), nn.Linear(hidden, count)

    def forward(self, rows: Tensor, step: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What rows (b, N) of steps (b,) were before noise, (b, N); generator: of what is left out of them, None for nothing."""
        shown = message_dropout(normalize(rows), self.dropout, generator)
        return self.write(torch.tanh(self.read(torch.cat([shown, self.clock(waves(step, rows.dtype))], 1))))

    def rows(self, numbers: Tensor) -> Tensor:
        """The clean rows (b, N) of numbers (b,)."""
        columns = torch.arange(self.write.out_features, device=numbers.device)
        return self.there(numbers, columns).to(self.kept.dtype)

    def noisy(self, rows: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """Rows (b, N) at steps (b,): the root of what is kept times the row, and of what is not times standard normal noise (b, N)."""
        kept = self.kept[step, None]
        return kept.sqrt() * rows + (1 - kept).sqrt() * noise

    def weights(self) -> Tensor:
        """(T,) what the error of each step counts: how much more signal than noise there is one step earlier; 1 for the first."""
        ratio = self.kept / (1 - self.kept)
        return torch.cat([ratio.new_ones(1), ratio[:-1] - ratio[1:]])

    @torch.no_grad()
    def made_anew(self, numbers: Tensor) -> Tensor:
        """What all steps back, each to its mean, make of the clean rows of numbers (b,): (b, N)."""
        rows = self.rows(numbers)
        for place in reversed(range(self.steps)):
            kept, before = self.kept[place], self.before[place]
            share = kept / before  # of the variance that one step keeps
            clean = self(rows, torch.full_like(numbers, place))
            rows = ((1 - share) * before.sqrt() * clean + (1 - before) * share.sqrt() * rows) / (1 - kept)
        return rows

    def largest(self, numbers: Tensor, count: int) -> Tensor:
        """The columns (b, count) of the largest numbers of rows made anew, some rows at a time."""
        parts = numbers.split(max(1, AT_ONCE // self.write.out_features))
        return torch.cat([self.made_anew(part).topk(count, dim=1).indices for part in parts])


def schedule(steps: int) -> Tensor:
    """(T,) float64: the share of variance that is kept after each step.

    >>> schedule(1).tolist()
    [0.9999]
    """
    variances = torch.linspace(LOWEST, HIGHEST, steps, dtype=torch.float64)
    left = 1 - variances
    ratios = torch.cat([torch.tensor([1 - FIRST], dtype=torch.float64), left[1:] / left[:-1]])
    return ratios.cumprod(0)


def waves(step: Tensor, kind: torch.dtype) -> Tensor:
    """Cosines and sines of steps (b,) at frequencies from 1 to 1 / 10,000: (b, 10).

    >>> waves(torch.tensor([0]), torch.float32).tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    half = TIME // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=kind, device=step.device) / half)
    angles = step[:, None].to(kind) * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


def check_size(count: int, hidden: int) -> int:
    """How many columns rows have itself; raises UserError where the network of them would be too large."""
    weights = 2 * count * hidden
    if weights > MOST:
        asked = f"diffusion reads and writes dense rows of all {count:,} entities, and with hidden {hidden:,} has {weights:,} weights"
        raise UserError(f"{asked}, more than {MOST:,}; set hidden to {max(1, MOST // (2 * count)):,} or less, or give fewer triples")
    return count
