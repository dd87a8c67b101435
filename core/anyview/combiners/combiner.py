"""How several losses become one gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from anyview.distributed import mean_over_ranks

Backward = Callable[[Tensor], None]
"""Runs the backward pass of a scalar; Fabric's, so that precision plug-ins and gradient averaging take part."""


class Combiner:
    """Turns named losses into gradients on all trainable parameters; keeps no state between steps."""

    def backward(
        self, losses: dict[str, Tensor], shared: Sequence[nn.Parameter], run: Backward, generator: torch.Generator
    ) -> dict[str, float]:
        """Accumulate gradients into `.grad` and return the weight that each loss got on the shared parameters.

        losses: scalars, already weighted by their tasks. shared: the encoder's trainable parameters. run: the backward pass.
        generator: the step's, in one state on every rank.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward")


def shared_gradients(losses: dict[str, Tensor], shared: Sequence[nn.Parameter]) -> Tensor:
    """Each loss's gradient on the shared parameters, averaged over ranks: (K, P), one row per loss; the graph is kept."""
    rows = []
    for loss in losses.values():
        gradients = torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(shared, gradients, strict=True)]
        rows.append(torch.cat([g.reshape(-1).float() for g in flat]))
    return mean_over_ranks(torch.stack(rows))
