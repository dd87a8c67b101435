"""CLID: clusters that are easily learnt, in rows that fill many dimensions.

Lu, Liu, Baratin, Laroche, Courville, Sordoni. Using Representation Expressiveness and Learnability to Evaluate Self-Supervised Learning
Methods. 2022, arXiv 2206.01251. Dimension by nearest neighbours: Facco, d'Errico, Rodriguez, Laio. Estimating the intrinsic dimension of
datasets by a minimal neighborhood information. 2017, arXiv 1803.06992.

CLID is a sum of two z-scores over the runs that are compared, so it exists only for a set of runs. Both parts are of one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anyview.evaluation.cluster import clusters
from anyview.evaluation.neighbourhoods import CHUNK, nearest_distances
from anyview.evaluation.rows import Rows, float64, unit

DROPPED = 0.1
"""Share of the largest ratios of distances that TwoNN does not look at: far points follow no local law."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """dimension: the estimate, NaN with fewer than two different ratios. samples: rows it is of. duplicates: rows left out for a twin."""

    dimension: float
    samples: int
    duplicates: int


def cluster_learnability(rows: Rows, *, count: int | None = None, restarts: int = 10, seed: int = 0) -> float:
    """How well a nearest neighbour tells the clusters of rows (N, K), each row from those before it in one random order; 0 to 1.

    Clusters are those of k-means on unit rows. count: how many, None = sqrt(N) rounded. restarts: of k-means, the best one counts. seed:
    of k-means and of the order. The first row of the order has none before it and is not counted.

    >>> corners = 10 * torch.eye(4).repeat(25, 1) + 0.1 * torch.randn(100, 4)
    >>> cluster_learnability(corners, count=4) > 0.9
    True
    """
    labels = pseudo_labels(rows, count=count, restarts=restarts, seed=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    return prequential_accuracy(unit(rows)[order], labels[order])


def pseudo_labels(rows: Rows, *, count: int | None = None, restarts: int = 10, seed: int = 0) -> Tensor:
    """Clusters (N,) of rows (N, K): k-means on unit rows, sqrt(N) of them unless `count` says."""
    z = float64(rows)
    found = clusters(z.cpu().numpy(), count or max(1, round(len(z) ** 0.5)), seed, restarts)
    return torch.from_numpy(found.astype(np.int64)).to(z.device)


def prequential_accuracy(rows: Tensor, labels: Tensor) -> float:
    """Share of rows, from the second on, whose nearest among those before them has their label; rows (N, K) of unit length, labels (N,)."""
    hits = 0
    for start in range(1, len(rows), max(1, CHUNK // len(rows))):
        stop = min(len(rows), start + max(1, CHUNK // len(rows)))
        cosine = rows[start:stop] @ rows[:stop].T
        later = torch.arange(stop, device=rows.device) >= torch.arange(start, stop, device=rows.device)[:, None]
        nearest = cosine.masked_fill_(later, -torch.inf).argmax(1)
        hits += int((labels[nearest] == labels[start:stop]).sum())
    return hits / max(1, len(rows) - 1)


def intrinsic_dimension(rows: Rows, *, dropped: float = DROPPED) -> Dimension:
    """TwoNN: the dimension of rows (N, K) by the ratios mu of each row's distances to its second and its first neighbour.

    Rows that equal an earlier one are left out and counted. log mu is exponential with rate d; the largest `dropped` share counts only
    as "at least as large as the largest kept", which is what keeps the estimate (r - 1) / (sum of the r kept + (n - r) times the largest
    kept) unbiased. With none dropped it is (n - 1) / sum log mu.

    >>> 1.7 < intrinsic_dimension(torch.rand(1000, 2) @ torch.randn(2, 20)).dimension < 2.3
    True
    """
    z = float64(rows)
    different = z.unique(dim=0)
    distances = nearest_distances(different, 2) if len(different) > 2 else different.new_ones(0, 2)
    return Dimension(dimension_of(distances, dropped), len(different), len(z) - len(different))


def dimension_of(distances: Tensor, dropped: float = DROPPED) -> float:
    """The dimension by distances (n, 2) to the first and second neighbour, none of them 0; see `intrinsic_dimension`."""
    logs = (distances[:, 1] / distances[:, 0]).log().sort().values
    kept = logs[: len(logs) - int(dropped * len(logs))]
    total = float(kept.sum() + (len(logs) - len(kept)) * kept[-1]) if len(kept) else 0.0
    return (len(kept) - 1) / total if total > 0 else float("nan")


def clid(learnability: Sequence[float], dimension: Sequence[float]) -> np.ndarray:
    """CLID (R,) of R runs: z-score of cluster learnability plus z-score of intrinsic dimension; a part in which all agree adds 0.

    >>> clid([0.5, 0.7, 0.9], [3.0, 9.0, 6.0]).round(2).tolist()
    [-2.45, 1.22, 1.22]
    """
    return _z_scores(learnability) + _z_scores(dimension)


def _z_scores(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    spread = array.std()
    return (array - array.mean()) / spread if spread > 0 else np.zeros_like(array)
