"""SimCLR: a sample's two views find each other among the views of all other samples.

Chen, Kornblith, Norouzi, Hinton. A Simple Framework for Contrastive Learning of Visual Representations. 2020, arXiv 2002.05709.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.objectives.contrast import cross_entropy, in_blocks, products, require_others, unit
from anyview.objectives.objective import Losses, Needs, Objective, Step

FAR = -1e30
"""The logit of a pair that takes no part: finite, so that a row without any pair has a gradient of zero rather than none."""


def simclr_loss(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """NT-Xent of two views: cross-entropy of finding a row's other view among all other rows of both views, a mean over the 2M rows.

    a, b: (M, D), row i of both from the same sample, on any scale. temperature: what cosines are divided by. All rows equal gives
    log(2M - 1). Raises ValueError for a single sample. With many rows the 2M x 2M matrix is made in blocks.

    >>> round(float(simclr_loss(torch.ones(8, 4), torch.ones(8, 4)).exp()), 3)
    15.0
    """
    require_others(len(a), "SimCLR")
    rows = unit(torch.cat([a, b]), temperature**-0.5)
    return cross_entropy(rows, rows, targets=[len(a), -len(a)], apart=[0]).mean()


def nt_xent_loss(z: Tensor, positives: Tensor | None = None, excluded: Tensor | None = None, temperature: float = 0.1) -> Tensor:
    """NT-Xent with any positives: mean over rows, and over a row's positives p, of -log(e^p / (e^p + sum over negatives n of e^n)).

    z: (N, D), on any scale. positives: (N, N) bool, the pairs that belong together; without them N = 2M and row i belongs to row i + M.
    excluded: (N, N) bool, pairs that are neither positive nor negative (duplicates, samples of one subject), as a row and itself always
    are. All other pairs are negative. The logits of a row are its cosines over the temperature; a row without a positive does not count.
    Raises ValueError for fewer than two rows, and for an odd number when no positives are given. With many rows, a block of them at a time.

    >>> z = torch.randn(6, 4)
    >>> same_class = torch.tensor([0, 1, 2, 0, 1, 2]).unsqueeze(0) == torch.tensor([0, 1, 2, 0, 1, 2]).unsqueeze(1)
    >>> torch.allclose(nt_xent_loss(z, same_class), simclr_loss(z[:3], z[3:]))
    True
    """
    if positives is None:
        if len(z) % 2:
            raise ValueError(f"NT-Xent takes both views one below the other, and {len(z)} rows have no half; give positives")
        if excluded is None:
            return simclr_loss(z[: len(z) // 2], z[len(z) // 2 :], temperature)
        positives = torch.eye(len(z), dtype=torch.bool, device=z.device).roll(len(z) // 2, 0)
    require_others(len(z), "NT-Xent")
    hidden = torch.eye(len(z), dtype=torch.bool, device=z.device)
    hidden = hidden if excluded is None else hidden | excluded
    chosen = positives & ~hidden
    rows = unit(z, temperature**-0.5)
    losses = in_blocks(partial(_row_losses, rows, chosen, hidden), len(z), len(z))
    return losses.sum() / chosen.any(1).sum().clamp_min(1)


def _row_losses(rows: Tensor, chosen: Tensor, hidden: Tensor, own: slice) -> Tensor:
    """NT-Xent of the rows `own`; 0 for those without a positive."""
    chosen = chosen[own]
    logits = products(rows[own], rows)
    negatives = logits.masked_fill(chosen | hidden[own], FAR).logsumexp(1, keepdim=True)
    losses = logsigmoid(logits - negatives).neg().masked_fill(~chosen, 0.0)
    return losses.sum(1) / chosen.sum(1).clamp_min(1)


class SimCLR(Objective):
    """Objective over two views; owns the projector that the loss is taken on.

    dim: width of the encoder's rows. hidden, width: of the projector's two layers. temperature: what cosines are divided by; 0.1 is for
    large batches, 0.2 to 0.5 serve small data.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, hidden: int = 2048, width: int = 128, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature
        self.project = mlp(dim, hidden, width)

    def forward(self, step: Step) -> Losses:
        a, b = (gather_rows(self.project(step.encode(view).rows)) for view in step.seen_whole[:2])
        return Losses(simclr=simclr_loss(a, b, self.temperature))

    def collapse_line(self, rows: int) -> float:
        return math.log(2 * rows - 1)
