"""The spectrum of rows that come in batches and lie on several ranks, and the effective ranks of it."""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.distributed import gather_rows, sum_over_ranks
from anyview.evaluation.alpha_req import AlphaReQ, alpha_req_of
from anyview.evaluation.rows import TINY, Rows, float64
from anyview.evaluation.spectra import (
    EPSILON,
    LARGE_MEAN,
    ROWS_PER_COLUMN,
    entropy_rank_of,
    participation_ratio_of,
    rankme_of,
    stable_rank_of,
)
from anyview.evaluation.sums import Sums


class SpectrumMeter:
    """Effective ranks of rows that are seen in parts; memory is that of min(N, K) rows of width K.

    dim: K. epsilon: RankMe's. device: where the sums are kept. Up to K rows are kept as they are, and their singular values are exact;
    beyond that the K x K sum of outer products takes their place, which agrees to 1e-6 unless singular values span more than 7 decades.

    >>> from anyview.evaluation.spectra import rankme
    >>> z = torch.randn(100, 8)
    >>> meter = SpectrumMeter(8)
    >>> for part in z.split(30): meter.add(part)
    >>> abs(meter.rankme() - rankme(z)) < 1e-6
    True
    """

    def __init__(self, dim: int, *, epsilon: float = EPSILON, device: str | torch.device = "cpu") -> None:
        self.dim, self.epsilon = dim, epsilon
        self._rows = torch.empty(0, dim, dtype=torch.float64, device=device)
        self._gram: Tensor | None = None
        self._sums = Sums(rows=(), squares=(), total=(dim,), device=device)

    def add(self, rows: Rows) -> None:
        """Take in a batch of this rank's rows, (n, K)."""
        batch = float64(rows).to(self._rows.device)
        self._sums.add(rows=len(batch), squares=batch.square().sum(), total=batch.sum(0))
        if self._gram is None:
            self._rows = torch.cat([self._rows, batch])
            if len(self._rows) > self.dim:
                self._gram, self._rows = self._outer(), self._rows[:0]
        else:
            self._gram.addmm_(batch.T, batch)

    def singular_values(self, *, centred: bool = False) -> Tensor:
        """Of all rows so far on all ranks, with or without their mean, largest first; every rank must ask."""
        sums = self._sums.over_ranks()
        count = int(sums["rows"])
        if count <= self.dim:  # then no rank has folded its rows
            rows = gather_rows(self._rows)
            return torch.linalg.svdvals(rows - rows.mean(0) if centred else rows)
        gram = sum_over_ranks(self._outer() if self._gram is None else self._gram)
        if centred:
            gram = gram - torch.outer(sums["total"], sums["total"]) / count
        return torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).sqrt()

    def rankme(self, *, centred: bool = False) -> float:
        """RankMe of all rows so far on all ranks; every rank must ask, and every rank is given the same number."""
        return rankme_of(self.singular_values(centred=centred), self.epsilon)

    def report(self) -> dict[str, float | int | bool | str | None]:
        """The numbers of `label_free` that follow from the spectrum, under the same names; every rank must ask."""
        sums = self._sums.over_ranks()
        count = int(sums["rows"])
        share = float(sums["total"].square().sum() / count**2 / (sums["squares"] / count).clamp_min(TINY))
        plain, centred = self.singular_values(), self.singular_values(centred=True)
        law: AlphaReQ = alpha_req_of(centred.square(), self.dim)
        return {
            "samples": count,
            "width": self.dim,
            "epsilon": self.epsilon,
            "rankme": rankme_of(plain, self.epsilon),
            "rankme_centred": rankme_of(centred, self.epsilon),
            "mean_share": share,
            "large_mean": share > LARGE_MEAN,
            "too_few_rows": count < ROWS_PER_COLUMN * self.dim,
            "entropy_rank": entropy_rank_of(centred),
            "participation_ratio": participation_ratio_of(centred),
            "stable_rank": stable_rank_of(centred),
            "uncentred_stable_rank": stable_rank_of(plain),
            "alpha_req": law.alpha,
            "alpha_req_r2": law.r2,
            "alpha_req_first": law.first,
            "alpha_req_last": law.last,
        }

    def _outer(self) -> Tensor:
        return self._rows.T @ self._rows
