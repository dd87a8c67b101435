"""Rows as the label-free metrics take them: float64, of tensor or array, centred or of unit length."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

Rows = Tensor | np.ndarray
"""(N, K), one row per sample."""

TINY = 1e-300
"""Keeps a quotient finite where its denominator may be 0; smaller than anything that is not."""


def float64(rows: Rows) -> Tensor:
    """The rows in float64, without gradient.

    >>> float64(np.eye(2, dtype=np.float32)).dtype
    torch.float64
    """
    return torch.from_numpy(rows.astype(np.float64)) if isinstance(rows, np.ndarray) else rows.detach().double()


def centred(rows: Rows) -> Tensor:
    """The rows without their mean, float64.

    >>> centred(torch.tensor([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]
    """
    z = float64(rows)
    return z - z.mean(0)


def unit(rows: Rows) -> Tensor:
    """The rows at length one, float64; rows of zeros stay zeros.

    >>> unit(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    return normalize(float64(rows), dim=1, eps=1e-12)
