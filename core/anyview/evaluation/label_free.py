"""How good rows are without any label: effective ranks, spread on the sphere, and the collapse alarm.

RankMe: Garrido, Balestriero, Najman, LeCun. RankMe: Assessing the downstream performance of pretrained self-supervised representations
by their rank. 2022, arXiv 2210.02885. NESum: He, Ozay. Exploring the gap between collapsed & whitened features in self-supervised
learning. 2022. Everything is computed in float64.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from anyview.distributed import gather_rows, sum_over_ranks
from anyview.evaluation.embedding import require_finite

Rows = Tensor | np.ndarray

LARGE_MEAN = 0.5
"""Above this share of the mean squared norm, the common mean swamps an uncentred spectrum."""

ROWS_PER_COLUMN = 10
"""Below this many rows per column, effective ranks are bounded by the number of rows rather than by the representation."""


def rankme(rows: Rows, *, epsilon: float = 1e-7) -> float:
    """RankMe as published: exp entropy of p_j = sigma_j / sum sigma + epsilon, on rows (N, K) that are not centred.

    At most about min(N, K); rows that are all zero give 1. Compare runs of one method on one data set only. arXiv 2210.02885, eq. 1.

    >>> q, _ = torch.linalg.qr(torch.randn(1000, 64, dtype=torch.float64))
    >>> round(rankme(q), 4)
    64.0013
    """
    return _entropy_of(torch.linalg.svdvals(_float64(rows)), epsilon)


def centred_rankme(rows: Rows, *, epsilon: float = 1e-7) -> float:
    """RankMe of rows (N, K) without their mean; not the published number, but the one to read when the common mean is large."""
    return _entropy_of(torch.linalg.svdvals(_centred(rows)), epsilon)


def mean_share(rows: Rows) -> float:
    """Squared norm of the mean row over the mean squared norm of the rows (N, K), 0 to 1; above one half RankMe sees little else."""
    rows = _float64(rows)
    return float(rows.mean(0).square().sum() / rows.square().sum(1).mean().clamp_min(_TINY))


def entropy_rank(rows: Rows) -> float:
    """exp H(p) with p the normalised eigenvalues of the covariance of rows (N, K); 0 when all rows are equal."""
    return _entropy_rank(torch.linalg.svdvals(_centred(rows)))


def participation_ratio(rows: Rows) -> float:
    """(tr C)² / ||C||² with C the covariance of rows (N, K): how many directions carry the variance; 0 when all rows are equal.

    Needs no eigenvalues; taken from the N x N Gram matrix when N < K, which has the same trace and the same norm.

    >>> round(participation_ratio(torch.eye(8)), 6)
    7.0
    """
    z = _centred(rows)
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    return float(gram.trace() ** 2 / gram.square().sum().clamp_min(_TINY))


def stable_rank(rows: Rows) -> float:
    """Sum of the covariance's eigenvalues over the largest, rows (N, K): NESum (He & Ozay 2022); 0 when all rows are equal."""
    return _stable_rank(torch.linalg.svdvals(_centred(rows)))


def mean_standard_deviation(rows: Rows) -> float:
    """sqrt(K) times the mean over columns of the standard deviation of unit rows (N, K): 1 healthy (isotropic), 0 collapsed, never above 1.

    In training over several ranks, give it the gathered rows. One row has no spread: NaN.

    >>> mean_standard_deviation(torch.ones(10, 4))
    0.0
    """
    unit = torch.nn.functional.normalize(_float64(rows), dim=1)
    if len(unit) < 2:
        return float("nan")
    return float(unit.std(0, correction=0).mean() * unit.shape[1] ** 0.5)


class RankMe:
    """RankMe over rows that come in batches and lie on several ranks; memory is that of min(N, K) rows of width K.

    dim: K. device: where the sums are kept. Up to K rows are kept as they are, and their singular values are exact; beyond that the K x K
    sum of outer products takes their place, which agrees to 1e-6 unless singular values span more than 7 decades.

    >>> z = torch.randn(100, 8)
    >>> meter = RankMe(8)
    >>> for part in z.split(30): meter.add(part)
    >>> abs(meter.value() - rankme(z)) < 1e-6
    True
    """

    def __init__(self, dim: int, *, epsilon: float = 1e-7, device: str | torch.device = "cpu") -> None:
        self.epsilon = epsilon
        self._rows = torch.empty(0, dim, dtype=torch.float64, device=device)
        self._gram: Tensor | None = None
        self._sum = torch.zeros(dim, dtype=torch.float64, device=device)
        self._counts = torch.zeros(2, dtype=torch.float64, device=device)  # rows, and the sum of their squared norms

    def add(self, rows: Rows) -> None:
        """Take in a batch of this rank's rows, (n, K)."""
        batch = _float64(rows).to(self._sum.device)
        self._sum += batch.sum(0)
        self._counts += torch.stack([batch.new_tensor(len(batch)), batch.square().sum()])
        if self._gram is None:
            self._rows = torch.cat([self._rows, batch])
            if len(self._rows) > self._rows.shape[1]:
                self._gram, self._rows = self._outer(), self._rows[:0]
        else:
            self._gram.addmm_(batch.T, batch)

    def value(self, *, centred: bool = False) -> float:
        """RankMe of all rows so far on all ranks; every rank must ask, and every rank is given the same number."""
        return _entropy_of(self._singular_values(centred), self.epsilon)

    def report(self) -> dict[str, float | int | bool | str]:
        """RankMe with all that must be told beside it; every rank must ask. Sizes, epsilon, dtype, the centred value and both warnings."""
        count, squares = sum_over_ranks(self._counts).tolist()
        dim = len(self._sum)
        share = float(sum_over_ranks(self._sum).square().sum()) / count**2 / max(squares / count, _TINY)
        return {
            "rankme": self.value(),
            "rankme_centred": self.value(centred=True),
            "samples": int(count),
            "width": dim,
            "epsilon": self.epsilon,
            "dtype": "float64",
            "mean_share": share,
            "large_mean": share > LARGE_MEAN,
            "too_few_rows": count < ROWS_PER_COLUMN * dim,
        }

    def _singular_values(self, centred: bool) -> Tensor:
        total = int(sum_over_ranks(self._counts)[0])
        if total <= len(self._sum):  # then no rank has folded its rows
            rows = gather_rows(self._rows)
            return torch.linalg.svdvals(rows - rows.mean(0) if centred else rows)
        gram = sum_over_ranks(self._outer() if self._gram is None else self._gram)
        if centred:
            total_sum = sum_over_ranks(self._sum)
            gram = gram - torch.outer(total_sum, total_sum) / total
        return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()

    def _outer(self) -> Tensor:
        return self._rows.T @ self._rows


@dataclass(frozen=True, slots=True)
class LabelFree:
    """What rows say about themselves, with the facts that make the numbers readable.

    samples, width: N and K. dtype: of the rows; the numbers are computed in float64. epsilon: RankMe's. mean_share: squared norm of the
    mean row over the mean squared norm; large_mean: it is above one half, so read the centred RankMe. too_few_rows: N < 10 K, so ranks
    say more of N than of the rows. dead_columns: share of the columns whose standard deviation is below 1e-6.
    """

    samples: int
    width: int
    dtype: str
    epsilon: float
    rankme: float
    rankme_centred: float
    mean_share: float
    large_mean: bool
    too_few_rows: bool
    entropy_rank: float
    participation_ratio: float
    stable_rank: float
    mean_standard_deviation: float
    mean_norm: float
    dead_columns: float

    @classmethod
    def of(cls, rows: Rows, *, epsilon: float = 1e-7) -> LabelFree:
        """The summary of rows (N, K). Raises UserError when some are not finite."""
        require_finite(rows)
        z, share = _float64(rows), mean_share(rows)
        plain, centred = torch.linalg.svdvals(z), torch.linalg.svdvals(_centred(z))
        return cls(
            samples=len(z),
            width=z.shape[1],
            dtype=str(rows.dtype).removeprefix("torch."),
            epsilon=epsilon,
            rankme=_entropy_of(plain, epsilon),
            rankme_centred=_entropy_of(centred, epsilon),
            mean_share=share,
            large_mean=share > LARGE_MEAN,
            too_few_rows=len(z) < ROWS_PER_COLUMN * z.shape[1],
            entropy_rank=_entropy_rank(centred),
            participation_ratio=participation_ratio(z),
            stable_rank=_stable_rank(centred),
            mean_standard_deviation=mean_standard_deviation(z),
            mean_norm=float(z.norm(dim=1).mean()),
            dead_columns=float((z.std(0, correction=0) < 1e-6).double().mean()),
        )


def label_free(rows: Rows, *, epsilon: float = 1e-7) -> dict[str, Any]:
    """LabelFree of rows (N, K) as a dictionary ready for JSON.

    >>> summary = label_free(torch.randn(64, 16))
    >>> summary["samples"], summary["width"], summary["too_few_rows"]
    (64, 16, True)
    """
    return asdict(LabelFree.of(rows, epsilon=epsilon))


State = Literal["healthy", "narrow", "collapsed"]


class CollapseAlarm:
    """Watches `mean_standard_deviation` over a run and speaks when it becomes worse, once per fall.

    warn: below it for `patience` logs in a row, rows are narrow. collapsed: below it, at once, they have collapsed. warmup: logs that are
    not judged. `state` holds the last judgement.

    >>> alarm = CollapseAlarm()
    >>> [alarm.update(c) for c in (0.9, 0.1, 0.1)]
    [None, None, None]
    >>> print(alarm.update(0.1))
    rows are narrow: their standard deviation on the sphere is 0.100 (1 healthy, 0 collapsed) and was below 0.2 in the last 3 logs
    """

    def __init__(self, *, warn: float = 0.2, collapsed: float = 0.05, patience: int = 3, warmup: int = 0) -> None:
        self.warn, self.collapsed, self.patience, self.warmup = warn, collapsed, patience, warmup
        self.state: State = "healthy"
        self._low = self._seen = 0

    def update(self, c: float) -> str | None:
        """Judge the latest value; one sentence when the state became worse, else None."""
        self._seen += 1
        if self._seen <= self.warmup:
            return None
        self._low = self._low + 1 if c < self.warn else 0
        before, self.state = self.state, self._judge(c)
        if _SEVERITY[self.state] <= _SEVERITY[before]:
            return None
        since = f" and was below {self.warn:g} in the last {self._low} logs" if self.state == "narrow" else ""
        verb = "are narrow" if self.state == "narrow" else "have collapsed"
        return f"rows {verb}: their standard deviation on the sphere is {c:.3f} (1 healthy, 0 collapsed){since}"

    def _judge(self, c: float) -> State:
        if c < self.collapsed:
            return "collapsed"
        return "narrow" if self._low >= self.patience else "healthy"


_SEVERITY = {"healthy": 0, "narrow": 1, "collapsed": 2}
_TINY = 1e-300


def _float64(rows: Rows) -> Tensor:
    return torch.from_numpy(rows.astype(np.float64)) if isinstance(rows, np.ndarray) else rows.detach().double()


def _centred(rows: Rows) -> Tensor:
    z = _float64(rows)
    return z - z.mean(0)


def _entropy_rank(singular_values: Tensor) -> float:
    power = singular_values.square()
    if not power.any():
        return 0.0
    return float(torch.special.entr(power / power.sum()).sum().exp())


def _stable_rank(singular_values: Tensor) -> float:
    power = singular_values.square()
    return float(power.sum() / power.max().clamp_min(_TINY))


def _entropy_of(singular_values: Tensor, epsilon: float) -> float:
    p = singular_values / singular_values.sum().clamp_min(_TINY) + epsilon
    return float(torch.exp(-(p * p.log()).sum()))
