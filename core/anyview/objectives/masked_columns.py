"""Masked columns: rebuild a row's hidden entries from what an encoder of whole rows makes of the others.

Yoon, Zhang, Jordon, van der Schaar. VIME: Extending the Success of Self- and Semi-supervised Learning to Tabular Domain. NeurIPS 2020: its
feature vector estimation, with the error taken at the hidden entries.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.masked_reconstruction import reconstruction_loss
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.views.view import View, ViewSet


def masked_columns_loss(prediction: Tensor, target: Tensor, hidden: Tensor, kind: Literal["mse", "smooth_l1"] = "mse") -> Tensor:
    """The error at hidden entries, a mean over those of all ranks; 0 where there are none.

    prediction, target: (M, F). hidden: (M, F) bool. kind: squared, or linear from 1 on.

    >>> x = torch.zeros(2, 3)
    >>> float(masked_columns_loss(x + 2, x, torch.tensor([[True, False, False], [False, False, False]])))
    4.0
    """
    return reconstruction_loss(prediction[hidden][:, None], target[hidden][:, None], kind)


class MaskedColumns(Objective):
    """Objective over a masked view of rows with a target; owns a decoder, two linear layers with a ReLU between them.

    The encoder returns rows and shows something in the place of hidden entries (`MLP(masked=True)`). The target is `View.target`, (B, F) or
    (B, ...); the mask covers its first axis or axes: whole rows (B,), or entries (B, F). Errors of different columns are added as they
    are, so columns should be on one scale.

    dim: width of the encoder's rows. hidden: width of the decoder's inner layer. loss: see `masked_columns_loss`. Raises UserError when
    the mask is not over the target's axes.
    """

    needs = Needs(masks=True, targets=True)
    tags = ("masked prediction",)
    decode: nn.Sequential

    def __init__(self, dim: int, *, hidden: int = 256, loss: Literal["mse", "smooth_l1"] = "mse") -> None:
        super().__init__()
        self.dim, self.hidden, self.loss = dim, hidden, loss

    def prepare(self, views: ViewSet, samples: int) -> None:
        target, _ = _entries(views.seen_whole[0])
        self.decode = mlp(self.dim, self.hidden, target.shape[1], norm=False).to(target.device)

    def forward(self, step: Step) -> Losses:
        view = step.seen_whole[0]
        target, hidden = _entries(view)
        return Losses(reconstruction=masked_columns_loss(self.decode(step.encode(view).rows), target, hidden, self.loss))


def _entries(view: View) -> tuple[Tensor, Tensor]:
    """The target and which of its entries are hidden, (B, F) each."""
    assert view.mask is not None
    target, hidden = view.target, view.mask.hidden
    if target.shape[: hidden.ndim] != hidden.shape:
        raise UserError(
            f"the target is {tuple(target.shape)}, and the mask {tuple(hidden.shape)} is not over its first axes; make them agree"
        )
    return target.flatten(1), hidden.view(*hidden.shape, *[1] * (target.ndim - hidden.ndim)).expand_as(target).flatten(1)
