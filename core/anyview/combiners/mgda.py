"""MGDA: the shortest vector in the convex hull of the losses' gradients, a direction in which no loss rises.

Désidéri. Multiple-gradient descent algorithm for multiobjective optimization. 2012.
Sener, Koltun. Multi-Task Learning as Multi-Objective Optimization. 2018, arXiv 1810.04650.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from anyview.combiners.combiner import Backward, Combiner, shared_gradients
from anyview.combiners.weighted_sum import WeightedSum
from anyview.distributed import mean_over_ranks


def min_norm_weights(gram: Tensor, *, iterations: int = 250, tolerance: float = 1e-5) -> Tensor:
    """Weights w on the simplex that minimise w' G w, by Frank-Wolfe with exact line search from the best pair.

    gram: (K, K) inner products of the K gradients. Returns (K,), float64.

    >>> min_norm_weights(torch.eye(2)).tolist()
    [0.5, 0.5]
    """
    gram = gram.double().cpu()
    count = len(gram)
    weights = torch.zeros(count, dtype=torch.float64)
    if count == 1:
        return weights + 1.0
    first, second, share, best = 0, 1, 0.5, float("inf")
    for i in range(count):
        for j in range(i + 1, count):
            gamma, norm = _best_of_pair(float(gram[i, i]), float(gram[i, j]), float(gram[j, j]))
            if norm < best:
                first, second, share, best = i, j, gamma, norm
    weights[first], weights[second] = share, 1.0 - share
    for _ in range(iterations):
        slopes = gram @ weights
        corner = int(slopes.argmin())
        share, _ = _best_of_pair(float(weights @ slopes), float(slopes[corner]), float(gram[corner, corner]))
        moved = share * weights
        moved[corner] += 1.0 - share
        if float((moved - weights).abs().sum()) < tolerance:
            return moved
        weights = moved
    return weights


def _best_of_pair(aa: float, ab: float, bb: float) -> tuple[float, float]:
    """Share of a, and squared norm, of the shortest point between two vectors with these inner products."""
    distance = aa - 2 * ab + bb
    share = 0.5 if distance <= 0 else min(1.0, max(0.0, (bb - ab) / distance))
    return share, share * share * aa + 2 * share * (1 - share) * ab + (1 - share) ** 2 * bb


class MGDA(Combiner):
    """Descends sum w_k L_k with the w that make the shared gradient shortest; heads of loss k get w_k of its gradient.

    normalise: how gradients are scaled before w is sought: "none", "l2" (unit length), "loss" (divided by the loss), "loss+" (both).
    """

    def __init__(self, normalise: Literal["none", "l2", "loss", "loss+"] = "none") -> None:
        self.normalise = normalise

    def backward(
        self, losses: dict[str, Tensor], shared: Sequence[nn.Parameter], run: Backward, generator: torch.Generator
    ) -> dict[str, float]:
        if not shared:
            return WeightedSum().backward(losses, shared, run, generator)
        gradients = shared_gradients(losses, shared)
        scale = torch.ones(len(losses), device=gradients.device)
        if self.normalise in ("l2", "loss+"):
            scale = scale * gradients.norm(dim=1)
        if self.normalise in ("loss", "loss+"):
            scale = scale * mean_over_ranks(torch.stack([loss.detach().float() for loss in losses.values()])).abs()
        gradients = gradients / scale.clamp_min(1e-12)[:, None]
        weights = min_norm_weights(gradients @ gradients.T).tolist()
        run(torch.stack([w * loss for w, loss in zip(weights, losses.values(), strict=True)]).sum())
        return dict(zip(losses, weights, strict=True))
