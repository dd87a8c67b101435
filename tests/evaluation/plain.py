"""Rows with known spectra, and formulas as the papers write them."""

from __future__ import annotations

import math

import numpy as np
import torch


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spectrum(*variances: float, samples: int = 500) -> torch.Tensor:
    """Centred rows whose covariance has exactly these eigenvalues, up to a common factor."""
    z = normal(samples, len(variances))
    q, _ = torch.linalg.qr(z - z.mean(0))
    return q * torch.tensor(variances, dtype=torch.float64).sqrt()


def plain_rankme(rows: torch.Tensor, epsilon: float) -> float:
    sigma = np.linalg.svd(rows.double().numpy(), compute_uv=False)
    return math.exp(-sum(p * math.log(p) for p in (s / sigma.sum() + epsilon for s in sigma)))


def views_of(codes: torch.Tensor, views: int, noise: float = 1.0, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n q, K) of `views` noisy views of each code (n, K), and their samples."""
    rows = codes[:, None] + noise * normal(len(codes), views, codes.shape[1], seed=seed)
    return rows.flatten(0, 1), torch.arange(len(codes)).repeat_interleave(views)
