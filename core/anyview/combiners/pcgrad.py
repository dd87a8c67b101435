"""PCGrad: where two losses' gradients conflict, each drops its part along the other.

Yu, Kumar, Gupta, Levine, Hausman, Finn. Gradient Surgery for Multi-Task Learning. 2020, arXiv 2001.06782.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anyview.combiners.combiner import Backward, Combiner, shared_gradients
from anyview.combiners.weighted_sum import WeightedSum


def project_conflicts(gradients: Tensor, generator: torch.Generator) -> Tensor:
    """The sum over i of g_i, freed of its conflicts with the other g_j in random order, as weights on the g_k: (K,), float64.

    gradients: (K, P). Every projected gradient is a combination of the given ones, so that only their inner products are needed.
    """
    gram = (gradients.double() @ gradients.double().T).cpu()
    count = len(gram)
    combination = torch.eye(count, dtype=torch.float64)
    for i in range(count):
        order = torch.randperm(count, generator=generator, device=generator.device).tolist()
        for j in order:
            overlap = float(combination[i] @ gram[:, j])
            if j != i and overlap < 0:
                combination[i, j] -= overlap / float(gram[j, j])
    return combination.sum(0)


class PCGrad(Combiner):
    """Shared parameters get the sum of the projected gradients; heads get the plain gradient of their own loss."""

    def backward(
        self, losses: dict[str, Tensor], shared: Sequence[nn.Parameter], run: Backward, generator: torch.Generator
    ) -> dict[str, float]:
        if not shared:
            return WeightedSum().backward(losses, shared, run, generator)
        gradients = shared_gradients(losses, shared)
        weights = project_conflicts(gradients, generator)
        before = [None if p.grad is None else p.grad.clone() for p in shared]
        run(torch.stack(list(losses.values())).sum())
        combined = weights.to(gradients) @ gradients
        for parameter, earlier, new in zip(shared, before, combined.split([p.numel() for p in shared]), strict=True):
            gradient = new.view_as(parameter).to(parameter.dtype)
            parameter.grad = gradient if earlier is None else earlier + gradient
        return dict(zip(losses, weights.tolist(), strict=True))
