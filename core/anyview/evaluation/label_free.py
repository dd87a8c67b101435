"""How good rows are without any label: what `anyview evaluate` tells of every encoder beside, or instead of, scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from anyview.evaluation.alpha_req import alpha_req_of
from anyview.evaluation.collapse import dead_columns, mean_standard_deviation
from anyview.evaluation.embedding import require_finite
from anyview.evaluation.rows import Rows, centred, float64
from anyview.evaluation.spectra import (
    EPSILON,
    LARGE_MEAN,
    ROWS_PER_COLUMN,
    entropy_rank_of,
    mean_share,
    participation_ratio,
    rankme_of,
    stable_rank_of,
)


@dataclass(frozen=True, slots=True)
class LabelFree:
    """What rows say about themselves, with the facts that make the numbers readable.

    rows: which they are. samples, width: N and K. dtype: of the rows; the numbers are computed in float64. epsilon: RankMe's. mean_share:
    squared norm of the mean row over the mean squared norm; large_mean: it is above one half, so read the centred RankMe. too_few_rows:
    N < 10 K, so ranks say more of N than of the rows. stable_rank is NESum, and like entropy_rank, participation_ratio and alpha_req that
    of the covariance; rankme and uncentred_stable_rank are of rows that are not centred. alpha_req: None where there are too few
    eigenvalues for a fit; its r2, and the first and last eigenvalue of it. dead_columns: share of the columns whose standard deviation is
    below 1e-6.
    """

    rows: str
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
    uncentred_stable_rank: float
    alpha_req: float | None
    alpha_req_r2: float | None
    alpha_req_first: int
    alpha_req_last: int
    mean_standard_deviation: float
    mean_norm: float
    dead_columns: float

    @classmethod
    def of(cls, rows: Rows, *, epsilon: float = EPSILON, what: str = "rows as given") -> LabelFree:
        """The summary of rows (N, K). Raises UserError when some are not finite."""
        require_finite(rows)
        z, share = float64(rows), mean_share(rows)
        plain, without_mean = torch.linalg.svdvals(z), torch.linalg.svdvals(centred(z))
        law = alpha_req_of(without_mean.square(), z.shape[1])
        return cls(
            rows=what,
            samples=len(z),
            width=z.shape[1],
            dtype=str(rows.dtype).removeprefix("torch."),
            epsilon=epsilon,
            rankme=rankme_of(plain, epsilon),
            rankme_centred=rankme_of(without_mean, epsilon),
            mean_share=share,
            large_mean=share > LARGE_MEAN,
            too_few_rows=len(z) < ROWS_PER_COLUMN * z.shape[1],
            entropy_rank=entropy_rank_of(without_mean),
            participation_ratio=participation_ratio(z),
            stable_rank=stable_rank_of(without_mean),
            uncentred_stable_rank=stable_rank_of(plain),
            alpha_req=law.alpha,
            alpha_req_r2=law.r2,
            alpha_req_first=law.first,
            alpha_req_last=law.last,
            mean_standard_deviation=mean_standard_deviation(z),
            mean_norm=float(z.norm(dim=1).mean()),
            dead_columns=dead_columns(z),
        )


def label_free(rows: Rows, *, epsilon: float = EPSILON, what: str = "rows as given") -> dict[str, Any]:
    """LabelFree of rows (N, K) as a dictionary ready for JSON. what: which rows they are.

    >>> summary = label_free(torch.randn(64, 16))
    >>> summary["samples"], summary["width"], summary["too_few_rows"]
    (64, 16, True)
    """
    return asdict(LabelFree.of(rows, epsilon=epsilon, what=what))
