"""Masked autoencoding: hide most tokens, encode the others, rebuild what the hidden ones held.

He, Chen, Xie, Li, Dollár, Girshick. Masked Autoencoders Are Scalable Vision Learners. 2021, arXiv 2111.06377. The scaled cosine error: Hou
et al. GraphMAE: Self-Supervised Masked Graph Autoencoders. 2022, arXiv 2205.10803.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, smooth_l1_loss

from anyview.encoders.encoder import Encoding
from anyview.encoders.positions import grid_coordinates, position_code
from anyview.encoders.transformer import Blocks, new_token, start_weights
from anyview.errors import UserError
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.tokens import mean_of_all
from anyview.views.view import Mask, View, ViewSet

Kind = Literal["mse", "cosine", "smooth_l1"]


def reconstruction_loss(prediction: Tensor, target: Tensor, kind: Kind = "mse", alpha: float = 3.0) -> Tensor:
    """The error of hidden tokens' predictions, a mean over the tokens of all ranks; 0 where no token is hidden.

    prediction, target: (M, P), one row per hidden token. kind: "mse" and "smooth_l1" (quadratic below 1) are means over the P numbers,
    "cosine" is (1 - cosine)^alpha with alpha >= 1, in which a row of zeros has cosine 0.

    >>> x = torch.eye(3)
    >>> [round(float(reconstruction_loss(2 * x, x, kind)), 3) for kind in ("mse", "smooth_l1", "cosine")]
    [0.333, 0.167, 0.0]
    """
    prediction, target = full(prediction), full(target)
    if kind == "cosine":
        return mean_of_all((1.0 - cosine_similarity(prediction, target, dim=1)).clamp(min=0.0).pow(alpha))
    if kind == "smooth_l1":
        return mean_of_all(smooth_l1_loss(prediction, target, reduction="none").mean(1))
    return mean_of_all((prediction - target).square().mean(1))


def standardised(tokens: Tensor) -> Tensor:
    """Each token's own numbers, (..., P) with P > 1, less their mean and over their deviation (unbiased variance, plus 1e-6).

    >>> standardised(torch.tensor([[1.0, 2.0, 3.0]])).round(decimals=3)
    tensor([[-1.,  0.,  1.]])
    """
    x = full(tokens)
    return (x - x.mean(-1, keepdim=True)) * (x.var(-1, keepdim=True) + 1e-6).rsqrt()


class MaskedReconstruction(Objective):
    """Objective over a masked view with a target; owns a transformer decoder.

    The decoder is shown the codes of visible tokens and, at hidden places, a learned token, whether the encoder left hidden tokens out or
    showed a token of its own in their place; it knows places by their coordinates. The target is `View.target`, (B, N) or (B, N, ...) with
    P numbers per token, N those of the mask.

    dim: width of the encoder's tokens. width, depth, heads: of the decoder. loss: see `reconstruction_loss`. alpha: power of the cosine
    error. normalise_target: rebuild the target less its token's own mean, over its deviation; not for targets of one number.

    Raises UserError when the mask keeps no token of those that are dropped, when target or tokens are not those of the mask, and when an
    encoder drops tokens of a grid without saying where they were (`TokenEncoding.places`; a sequence counts as evenly spaced).
    """

    needs = Needs(masks=True, targets=True, tokens=True, drops=True)
    tags = ("masked prediction",)
    predict: nn.Linear

    def __init__(
        self,
        dim: int,
        *,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
        loss: Kind = "mse",
        alpha: float = 3.0,
        normalise_target: bool = True,
    ) -> None:
        super().__init__()
        if alpha < 1.0:
            raise UserError(f"the cosine error's power alpha must be at least 1, and {alpha:g} was given")
        self.width, self.loss, self.alpha, self.normalise_target = width, loss, alpha, normalise_target
        self.embed = nn.Linear(dim, width)
        start_weights(self.embed)
        self.token = new_token(width)
        self.blocks = Blocks(width, depth, heads)
        self.numbers = 0

    def prepare(self, views: ViewSet, samples: int) -> None:
        self.numbers = self._target(views.seen_whole[0]).shape[2]
        self.predict = nn.Linear(self.width, self.numbers, device=self.token.device)
        start_weights(self.predict)

    def forward(self, step: Step) -> Losses:
        view = step.seen_whole[0]
        assert view.mask is not None
        encoding, hidden = step.encode(view), view.mask.hidden
        code = position_code(all_places(encoding, hidden), self.width)
        codes = self.blocks(self._filled(encoding.tokens, view.mask) + code)
        target = view.mask.at_hidden(self._target(view))
        return Losses(reconstruction=reconstruction_loss(self.predict(view.mask.at_hidden(codes)), target, self.loss, self.alpha))

    def _filled(self, tokens: Tensor | None, mask: Mask) -> Tensor:
        """The visible tokens' codes at their places, and the decoder's token at all others: (B, N, width)."""
        assert tokens is not None
        places = mask.hidden.shape[1]
        if tokens.shape[1] == 0:
            raise UserError(f"the mask hides all {places} tokens, and nothing is left to rebuild them from; hide a smaller share")
        seen = self.embed(tokens)
        if tokens.shape[1] == places:
            return torch.where(mask.hidden[..., None], self.token.to(seen.dtype), seen)
        if tokens.shape[1] != mask.kept.shape[1]:
            found = f"{tokens.shape[1]} tokens came of a mask that keeps {mask.kept.shape[1]} of {places}"
            raise UserError(f"{found}; the encoder must return the kept tokens, or all of them")
        hidden = self.token.to(seen.dtype).expand(len(seen), places - seen.shape[1], -1)
        return torch.cat([seen, hidden], dim=1).take_along_dim(mask.restore[..., None], 1)

    def _target(self, view: View) -> Tensor:
        """What the tokens held, (B, N, P)."""
        target: Tensor = view.target
        mask = None if view.mask is None else tuple(view.mask.hidden.shape)
        if mask is None or tuple(target.shape[:2]) != mask:
            found = f"the target is {tuple(target.shape)}, and the mask {mask}"
            raise UserError(f"masked reconstruction needs a target (B, N, ...) for a mask (B, N); {found}; give the views patches and grid")
        target = target.reshape(*mask, -1)
        if not self.normalise_target:
            return target
        if target.shape[2] < 2:
            raise UserError("a target of one number per token has no deviation to divide by; set normalise_target=False")
        return standardised(target)

    def collapse_line(self, rows: int) -> float | None:
        """The error of a prediction that is 0 everywhere, the mean of every standardised token."""
        return (self.numbers - 1) / self.numbers if self.numbers and self.normalise_target and self.loss == "mse" else None


def all_places(encoding: Encoding, hidden: Tensor) -> Tensor:
    """Coordinates (B, N, C) of all tokens that a mask (B, N) is over, also of those that the encoder dropped.

    >>> hidden = torch.tensor([[True, False]])
    >>> kept = Encoding(torch.ones(1, 3), torch.ones(1, 1, 3), coordinates=torch.tensor([[[0.75]]]))
    >>> all_places(kept, hidden)[0, :, 0]
    tensor([0.2500, 0.7500])
    """
    places = getattr(encoding, "places", None)
    if places is None:
        places = encoding.coordinates
    if places is None:
        raise UserError("the encoder returns tokens without coordinates; let its encoding say where they lie")
    if places.shape[1] == hidden.shape[1]:
        return places
    if places.shape[2] > 1:
        raise UserError("the encoder drops tokens of a grid and does not say where they were; let its encoding have `places` of them all")
    return grid_coordinates((hidden.shape[1],), like=places).expand(len(hidden), -1, -1)
