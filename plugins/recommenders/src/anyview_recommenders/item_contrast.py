"""Contrast of items: two views of one item's features find each other among all items of the batch.

Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang, Ettinger. Self-supervised Learning for Large-scale Item Recommendations. CIKM 2021,
arXiv 2007.12865. Of two equal views it is the spread-out regulariser: Zhang, Yu, Kumar, Chang. Learning Spread-out Local Feature
Descriptors. ICCV 2017, arXiv 1708.06320, in the form that Yao et al. compare with.
"""

from __future__ import annotations

import math

from torch import Tensor

from anyview.distributed import gather_rows
from anyview.objectives.contrast import info_nce
from anyview.objectives.objective import Losses, Needs, Objective, Step


def item_contrast_loss(a: Tensor, b: Tensor, temperature: float = 0.07) -> Tensor:
    """Cross-entropy of finding an item's second view among those of all items by its first, from cosines; a mean over items.

    a, b: (M, D), row i of both from the same item, on any scale. Where all rows are equal it is log M; so it is for any as the temperature
    grows. Raises ValueError for a single item.

    >>> round(float(item_contrast_loss(torch.ones(8, 4), torch.ones(8, 4)).exp()), 3)
    8.0
    """
    return info_nce(a, b, temperature)


class ItemContrast(Objective):
    """Objective over two views, taken on the encoder's rows as they are, which is what items are scored by.

    temperature: what cosines are divided by.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, temperature: float = 0.07) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, step: Step) -> Losses:
        a, b = (gather_rows(step.encode(view).rows) for view in step.seen_whole[:2])
        return Losses(item_contrast=item_contrast_loss(a, b, self.temperature))

    def collapse_line(self, rows: int) -> float:
        return math.log(rows)
