"""How sure a number is that samples gave: its spread over random halves of them.

A half is drawn without replacement, so no sample stands beside a copy of itself, which would change neighbours and spectra; the spread of a
mean over halves is nevertheless that of the mean over all samples (half-sampling; Politis, Romano. Large sample confidence regions based
on subsamples under minimal assumptions. 1994).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from anyview.views.draws import derive_seed

LEVEL = 0.95


def halves(samples: int, count: int, *seed: int | str) -> Iterator[np.ndarray]:
    """`count` random halves of 0 .. samples - 1, each sorted, (samples // 2,); equal seeds and samples give equal halves.

    >>> [len(half) for half in halves(11, 3, 0)]
    [5, 5, 5]
    """
    random = np.random.default_rng(derive_seed("halves", samples, *seed))
    for _ in range(count):
        yield np.sort(random.permutation(samples)[: samples // 2])


def spread_around(value: float, replicates: np.ndarray) -> np.ndarray:
    """The replicates (R,) moved so that their mean is the value: halves give smaller ranks than the whole, equally spread."""
    return value + replicates - replicates.mean()


def interval(value: float, replicates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The interval that holds `level` of the replicates (R,) when they are moved to the value.

    >>> interval(5.0, np.linspace(0, 2, 101), 0.9)
    (4.1, 5.9)
    """
    low, high = np.quantile(spread_around(value, replicates), [(1 - level) / 2, (1 + level) / 2])
    return float(np.round(low, 12)), float(np.round(high, 12))
