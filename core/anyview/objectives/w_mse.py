"""W-MSE: views agree after the batch has been whitened, so that they cannot agree by being all alike.

Ermolov, Siarohin, Sangineto, Sebe. Whitening for Self-Supervised Representation Learning. 2020, arXiv 2007.06346.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.gram import full, full_products, wide
from anyview.objectives.objective import Losses, Needs, Objective, Step


class WhiteningError(UserError, ValueError):
    """Rows that cannot be whitened: fewer than columns, duplicates, or columns that follow from others."""


def whiten(rows: Tensor, shrinkage: float = 0.0) -> Tensor:
    """Rows with mean 0 and the identity for covariance, (..., M, D) to (..., M, D), by the Cholesky factor of their covariance.

    Computed in float64 where the device has it: columns of a trained projector are correlated, and float32 would whiten them in part.
    shrinkage: share of the identity that is mixed into the (unbiased) covariance, 0 to 1; with more than 0 any rows can be whitened,
    nearly. Raises WhiteningError when a column is, up to rounding, a combination of those before it.

    >>> whitened = whiten(torch.randn(50, 3).double() * torch.tensor([1.0, 5.0, 0.1]))
    >>> torch.allclose(whitened.T @ whitened / 49, torch.eye(3).double())
    True
    """
    x = full(rows).to(wide(rows.device))
    with full_products(rows.device):
        mean = x.mean(-2, keepdim=True)
        centred = x - mean
        covariance = centred.mT @ centred / max(1, rows.shape[-2] - 1)
        covariance = (1 - shrinkage) * covariance + shrinkage * torch.eye(rows.shape[-1], dtype=covariance.dtype, device=covariance.device)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed.any()) or (shrinkage == 0 and _depends(factor.detach(), covariance.detach(), mean.detach(), rows)):
            raise WhiteningError(_cannot_whiten(*rows.shape[-2:]))
        return torch.linalg.solve_triangular(factor, centred.mT, upper=False).mT.to(full(rows).dtype)


def w_mse_loss(views: Sequence[Tensor], order: Tensor, window: int = 128, shrinkage: float = 0.0) -> Tensor:
    """Squared distance of whitened unit rows, 2 - 2 cos, a mean over pairs of views and rows, between 0 and 4.

    views: (M, D) each, row i of all from the same sample. order: (..., M) permutations; along each, rows are cut into parts of `window`,
    whitened part by part, the same in every view; rows that are left over when no whole part remains take no part. With fewer rows than a
    window, all are one part. Gradients flow to every view. Raises WhiteningError as `whiten` does.

    >>> views = [torch.randn(8, 2) for _ in range(2)]
    >>> float(w_mse_loss([views[0], 3 * views[0] + 1], torch.arange(8))) < 1e-5 < float(w_mse_loss(views, torch.arange(8)))
    True
    """
    rows = order.shape[-1]
    window = min(window, rows)
    parts = order[..., : rows // window * window].reshape(-1, window)
    unit = normalize(whiten(torch.stack([full(view)[parts] for view in views]), shrinkage), dim=-1, eps=1e-12)
    pairs = [(2 - 2 * (a * b).sum(-1)).mean() for a, b in combinations(unit, 2)]
    return torch.stack(pairs).mean()


class WMSE(Objective):
    """Objective over two or more views; owns the projector that the loss is taken on.

    dim: width of the encoder's rows. hidden, width: of the projector. window: how many rows are whitened together, at least twice
    `width`. repeats: how often a batch is cut into windows anew, by permutations that all views and ranks share. shrinkage: see `whiten`.

    Raises WhiteningError, which a collapsed encoder leads to as well: the loss has no value there.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("information maximisation",)

    def __init__(
        self, dim: int, *, hidden: int = 1024, width: int = 64, window: int = 128, repeats: int = 1, shrinkage: float = 0.0
    ) -> None:
        super().__init__()
        if window < 2 * width and shrinkage == 0:
            raise UserError(
                f"W-MSE whitens {width} columns from at least {2 * width} rows, and a window of {window} was asked for; widen it"
            )
        self.project = mlp(dim, hidden, width)
        self.window, self.repeats, self.shrinkage = window, repeats, shrinkage

    def forward(self, step: Step) -> Losses:
        views = [gather_rows(self.project(step.encode(view).rows)) for view in step.crops]
        rows = len(views[0])
        orders = [torch.randperm(rows, generator=step.generator, device=step.draws.device) for _ in range(self.repeats)]
        return Losses(w_mse=w_mse_loss(views, torch.stack(orders).to(views[0].device), self.window, self.shrinkage))


def _depends(factor: Tensor, covariance: Tensor, mean: Tensor, rows: Tensor) -> bool:
    """Whether a column varies, apart from what those before it explain, by no more than rounding."""
    count, width = rows.shape[-2:]
    eps = torch.finfo(factor.dtype).eps
    rounding = 4 * width * max(eps, torch.finfo(full(rows).dtype).eps ** 2)  # of the sums here, and of the rows as they came
    size = covariance.diagonal(dim1=-2, dim2=-1) + mean.squeeze(-2).square()
    return count <= width or bool((factor.diagonal(dim1=-2, dim2=-1).square() <= rounding * size).any())


def _cannot_whiten(rows: int, columns: int) -> str:
    asked = f"W-MSE needs at least 2·d = {2 * columns} independent rows to whiten {columns} columns, and {rows} rows were found"
    how = " that depend on each other" if rows > columns else ""
    return f"{asked}{how}; make the batch larger, the projector narrower or shrinkage positive"
