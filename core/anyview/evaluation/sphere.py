"""Alignment and uniformity of rows on the sphere, with how sure they are.

Wang, Isola. Understanding contrastive representation learning through alignment and uniformity on the hypersphere. 2020, arXiv
2005.10242.

Uniformity is 0 when all rows are equal, at least -4 - 4 / (N - 1) or so, and about -4 + 8 / K for rows spread evenly on the sphere of K
dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.evaluation.bootstrap import halves, interval
from anyview.evaluation.rows import Rows, float64, unit
from anyview.evaluation.sums import Sums
from anyview.objectives.align_uniform import alignment, uniformity

PAIRS = 10**7
"""Uniformity looks at this many pairs at most: those of a random part of the rows."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with the interval that holds 95 % of it over random halves of the samples; samples: how many it was taken over."""

    value: float
    low: float
    high: float
    samples: int


def measured_alignment(a: Rows, b: Rows, *, replicates: int = 200, seed: int = 0) -> Measured:
    """Mean squared distance of two views' unit rows, (N, K) each, 0 to 4, and its interval.

    >>> rows = torch.randn(50, 8)
    >>> measured_alignment(rows, 3 * rows).value < 1e-12
    True
    """
    first, second = float64(a), float64(b)
    distances = (unit(first) - unit(second)).square().sum(1).cpu().numpy()
    means = np.array([distances[half].mean() for half in halves(_enough(len(distances)), replicates, seed)])
    value = float(alignment(first, second))
    return Measured(value, *interval(value, means), len(distances))


def measured_uniformity(rows: Rows, *, replicates: int = 200, seed: int = 0, pairs: int = PAIRS) -> Measured:
    """log of the mean over pairs of exp(-2 squared distance) of unit rows (N, K), and its interval; at most `pairs` pairs are looked at.

    >>> abs(measured_uniformity(torch.ones(50, 8)).value) < 1e-12
    True
    """
    z = some_rows(float64(rows), pairs, seed)
    kernel = _kernel(z)
    values = np.array([_log_mean(kernel, half) for half in halves(_enough(len(z)), replicates, seed)])
    value = float(uniformity(z))
    return Measured(value, *interval(value, values), len(z))


def some_rows(rows: Tensor, pairs: int, seed: int) -> Tensor:
    """A random part of rows (N, K) that has at most `pairs` pairs; all of them where that is few enough."""
    most = int((1 + (1 + 8 * pairs) ** 0.5) / 2)
    if len(rows) <= most:
        return rows
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
    return rows[torch.from_numpy(chosen).to(rows.device)]


class AlignmentMeter:
    """Alignment of views that come in batches and lie on several ranks.

    >>> meter = AlignmentMeter()
    >>> for part in torch.randn(20, 4).split(6): meter.add(part, -part)
    >>> round(meter.value(), 6)
    4.0
    """

    def __init__(self, *, device: str | torch.device = "cpu") -> None:
        self._sums = Sums(distance=(), rows=(), device=device)

    def add(self, a: Rows, b: Rows) -> None:
        """Take in a batch of this rank's rows of both views, (n, K) each."""
        self._sums.add(distance=(unit(a) - unit(b)).square().sum(), rows=len(a))

    def value(self) -> float:
        """Mean squared distance over all rows so far on all ranks; every rank must ask."""
        sums = self._sums.over_ranks()
        return float(sums["distance"] / sums["rows"])


def _kernel(rows: Tensor) -> np.ndarray:
    """exp(-2 squared distance) of all unit rows (N, N), with zeros for each row and itself."""
    z = unit(rows)
    squares = z.square().sum(1)
    kernel = torch.exp(-2 * (squares[:, None] + squares - 2 * z @ z.T).clamp_min(0)).fill_diagonal_(0)
    return kernel.cpu().numpy()


def _log_mean(kernel: np.ndarray, chosen: np.ndarray) -> float:
    """log of the kernel's mean over pairs of the chosen rows."""
    there = np.zeros(len(kernel))
    there[chosen] = 1
    return float(np.log(there @ kernel @ there / (len(chosen) * (len(chosen) - 1))))


def _enough(samples: int) -> int:
    if samples < 4:
        raise UserError(f"an interval needs at least 4 samples, and there are {samples}; give more")
    return samples
