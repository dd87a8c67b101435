"""LiDAR: how many directions tell samples apart, against the spread of a sample's own views.

Thilak, Huang, Saremi, Dinh, Goh, Nakkiran, Susskind, Littwin. LiDAR: Sensing linear probing performance in joint embedding SSL
architectures. 2023, arXiv 2312.04000.

It is a rank, no ratio of signal to noise: views that say nothing of their sample score as high as views that say everything. Read the
signal ratio beside it, which is about 1 where there is no signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anyview.distributed import gather_rows
from anyview.errors import UserError
from anyview.evaluation.rows import TINY, Rows, float64
from anyview.evaluation.sums import Sums

DELTA = 1e-4
"""Added to the diagonal of the scatter within samples, as published."""

EPSILON = 1e-8

LEAST_SIGNAL = 2.0
"""Below this signal ratio a LiDAR says nothing, and runs are not ranked by it."""


@dataclass(frozen=True, slots=True)
class LiDAR:
    """lidar: the effective rank, at most min(samples - 1, width). signal_ratio: about 1 where views do not tell samples apart.

    relative_delta: delta over the mean variance within samples; where it is no longer small, the scale of the rows decides the value.
    views: per sample, on average.
    """

    lidar: float
    signal_ratio: float
    relative_delta: float
    delta: float
    epsilon: float
    samples: int
    views: float
    width: int


def lidar(rows: Rows, index: Tensor | Sequence[int], *, delta: float = DELTA, epsilon: float = EPSILON) -> LiDAR:
    """LiDAR of rows (M, K) of augmented views, index (M,): the sample that each row is a view of, in any order.

    Raises UserError with fewer than two samples, or no sample with two views.

    >>> codes = torch.cat([torch.randn(200, 3), torch.zeros(200, 13)], 1)
    >>> rows = (codes[:, None] + 0.01 * torch.randn(200, 10, 16)).flatten(0, 1)
    >>> round(lidar(rows, torch.arange(200).repeat_interleave(10)).lidar)
    3
    """
    z = float64(rows)
    _, sample = torch.as_tensor(index).unique(return_inverse=True)
    sample = sample.to(z.device)
    count = torch.bincount(sample)
    means = z.new_zeros(len(count), z.shape[1]).index_add_(0, sample, z) / count[:, None]
    apart, own = means - means.mean(0), z - means[sample]
    return lidar_of(apart.T @ apart, own.T @ own, len(count), len(z), delta=delta, epsilon=epsilon)


def lidar_of(between: Tensor, within: Tensor, samples: int, rows: int, *, delta: float = DELTA, epsilon: float = EPSILON) -> LiDAR:
    """LiDAR by the sums of outer products, each (K, K): of sample means about their mean, and of rows about their sample's mean."""
    width = len(within)
    if samples < 2 or rows <= samples:
        raise UserError(f"LiDAR needs two samples and two views of each, and was given {rows} views of {samples} samples; show more")
    between, within = between / (samples - 1), within / (rows - samples)
    scale = float(within.trace()) / width
    values, vectors = torch.linalg.eigh(within + delta * torch.eye(width, dtype=within.dtype, device=within.device))
    whiten = vectors * values.clamp_min(TINY).rsqrt()  # up to a rotation, which changes no eigenvalue
    power = torch.linalg.eigvalsh(whiten.T @ between @ whiten).clamp_min(0)
    p = power / power.sum().clamp_min(TINY) + epsilon
    return LiDAR(
        lidar=float((-(p * p.log()).sum()).exp()),
        signal_ratio=float(power.sum()) * rows / samples / width,
        relative_delta=delta / max(scale, TINY),
        delta=delta,
        epsilon=epsilon,
        samples=samples,
        views=rows / samples,
        width=width,
    )


class LiDARMeter:
    """LiDAR of rows that come in batches and lie on several ranks; a sample's views may come at any time, on any rank.

    dim: K. Kept are one row per sample, and the K x K sum of outer products.

    >>> rows, index = torch.randn(40, 4), torch.arange(10).repeat(4)
    >>> meter = LiDARMeter(4)
    >>> for part, own in zip(rows.split(7), index.split(7)): meter.add(part, own)
    >>> abs(meter.value().lidar - lidar(rows, index).lidar) < 1e-9
    True
    """

    def __init__(self, dim: int, *, delta: float = DELTA, epsilon: float = EPSILON, device: str | torch.device = "cpu") -> None:
        self.delta, self.epsilon = delta, epsilon
        self._outer = Sums(outer=(dim, dim), device=device)
        self._index = torch.empty(0, dtype=torch.long, device=device)
        self._totals = torch.empty(0, dim + 1, dtype=torch.float64, device=device)  # sums of a sample's rows, and how many they are

    def add(self, rows: Rows, index: Tensor | Sequence[int]) -> None:
        """Take in a batch of this rank's rows (n, K), index (n,): their samples."""
        z = float64(rows).to(self._totals.device)
        self._outer.add(outer=z.T @ z)
        seen = torch.as_tensor(index, device=z.device)
        totals = torch.cat([z, z.new_ones(len(z), 1)], 1)
        self._index, self._totals = _by_sample(torch.cat([self._index, seen]), torch.cat([self._totals, totals]))

    def value(self) -> LiDAR:
        """LiDAR of all rows so far on all ranks; every rank must ask, and every rank is given the same."""
        _, totals = _by_sample(gather_rows(self._index), gather_rows(self._totals))
        sums, count = totals[:, :-1], totals[:, -1:]
        means = sums / count
        apart = means - means.mean(0)
        within = self._outer.over_ranks()["outer"] - means.T @ sums
        return lidar_of(apart.T @ apart, within, len(means), int(count.sum()), delta=self.delta, epsilon=self.epsilon)


def _by_sample(index: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
    """The samples (n,), each once and in order, and the sums of their rows of `totals` (m, ...)."""
    samples, place = index.unique(return_inverse=True)
    return samples, totals.new_zeros(len(samples), totals.shape[1]).index_add_(0, place, totals)
