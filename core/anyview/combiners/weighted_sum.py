"""The sum of the losses: one backward pass, the default."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anyview.combiners.combiner import Backward, Combiner


class WeightedSum(Combiner):
    """Descends the sum of the weighted losses."""

    def backward(
        self, losses: dict[str, Tensor], shared: Sequence[nn.Parameter], run: Backward, generator: torch.Generator
    ) -> dict[str, float]:
        run(torch.stack(list(losses.values())).sum())
        return dict.fromkeys(losses, 1.0)
