"""I-JEPA: from the tokens of a context, predict what a teacher that sees everything makes of the tokens in other blocks.

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas. Self-Supervised Learning from Images with a Joint-Embedding Predictive
Architecture. 2023, arXiv 2301.08243.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, smooth_l1_loss

from anyview.encoders.positions import position_code
from anyview.encoders.transformer import Blocks, new_token, start_weights
from anyview.errors import UserError
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.tokens import mean_of_all, spread
from anyview.schedules import Linear
from anyview.views.view import Mask, View


def i_jepa_loss(prediction: Tensor, target: Tensor, kind: Literal["smooth_l1", "mse"] = "smooth_l1") -> Tensor:
    """The distance of predicted tokens from the teacher's, a mean over the tokens of all ranks; no gradient to the target.

    prediction, target: (M, D). kind: "smooth_l1", quadratic below 1, as the method was released, or "mse", as it was published.

    >>> [float(i_jepa_loss(torch.full((1, 2), 2.0), torch.zeros(1, 2), kind)) for kind in ("smooth_l1", "mse")]
    [1.5, 4.0]
    """
    prediction, target = full(prediction), full(target.detach())
    errors = (prediction - target).square() if kind == "mse" else smooth_l1_loss(prediction, target, reduction="none")
    return mean_of_all(errors.mean(1))


class Predictor(nn.Module):
    """Guesses tokens at places that it is asked about, from tokens at other places; a transformer.

    dim: width of tokens. width, depth, heads: its own. Takes seen (B, K, dim), their coordinates (B, K, C) and those asked about (B, M, C);
    returns (B, M, dim). The guess at a place depends on which others are asked about with it.

    >>> Predictor(8, width=16, depth=1, heads=2)(torch.randn(3, 5, 8), torch.rand(3, 5, 2), torch.rand(3, 4, 2)).shape
    torch.Size([3, 4, 8])
    """

    def __init__(self, dim: int, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(dim, width), nn.Linear(width, dim)
        start_weights(self.embed)
        start_weights(self.out)
        self.token = new_token(width)
        self.blocks = Blocks(width, depth, heads)

    def forward(self, seen: Tensor, places: Tensor, asked: Tensor) -> Tensor:
        width = len(self.token)
        shown = self.embed(seen) + position_code(places, width)
        tokens = torch.cat([shown, self.token + position_code(asked, width)], dim=1)
        return self.out(self.blocks(tokens)[:, seen.shape[1] :])


class IJEPA(Objective):
    """Objective over a context, target blocks and a teacher; owns the predictor.

    The student is shown the view of role "context" alone; the teacher the "clean" one. Each view of role "target" says by its mask which
    tokens are predicted together; every sample asks for equally many. Targets are the teacher's tokens, each normalised by itself.

    dim: width of tokens. width, depth, heads: of the predictor. loss: see `i_jepa_loss`. momentum, final_momentum: the teacher's, along a
    line. The teacher's mean token is what the method is evaluated on.

    Monitor: target_spread, the deviation of a feature over the targets; near 0 the run has collapsed, at a loss of 0. Raises UserError when
    a context is empty, and when context and clean views do not have the tokens that the masks are over.
    """

    needs = Needs(views=0, roles=("context", "clean", "target"), masks=True, tokens=True, drops=True, teacher=True)
    tags = ("masked prediction", "joint-embedding prediction")
    evaluated = "teacher"

    def __init__(
        self,
        dim: int,
        *,
        width: int = 384,
        depth: int = 6,
        heads: int = 16,
        loss: Literal["smooth_l1", "mse"] = "smooth_l1",
        momentum: float = 0.996,
        final_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum = Linear(momentum, final_momentum)
        self.predict = Predictor(dim, width=width, depth=depth, heads=heads)
        self.loss: Literal["smooth_l1", "mse"] = loss

    def forward(self, step: Step) -> Losses:
        seen, places = self._context(step)
        cells, tokens = self._targets(step)
        guesses, targets = [], []
        for view in step.set.role("target"):
            asked = _inside(view)[..., None]
            guesses.append(self.predict(seen, places, cells.take_along_dim(asked, 1)).flatten(0, 1))
            targets.append(tokens.take_along_dim(asked, 1).flatten(0, 1))
        prediction, target = torch.cat(guesses), torch.cat(targets)
        return Losses(i_jepa=i_jepa_loss(prediction, target, self.loss), monitors={"target_spread": spread(target)})

    def _context(self, step: Step) -> tuple[Tensor, Tensor]:
        """The student's tokens of the context, (B, K, D), and their coordinates."""
        view = step.set.role("context")[0]
        assert view.mask is not None
        encoding = step.encode(view)
        assert encoding.tokens is not None
        assert encoding.coordinates is not None
        kept = view.mask.kept
        tokens, places = encoding.tokens, encoding.coordinates
        if kept.shape[1] == 0 or tokens.shape[1] not in (kept.shape[1], view.mask.hidden.shape[1]):
            found = f"the mask keeps {kept.shape[1]} of {view.mask.hidden.shape[1]}, and the encoder returned {tokens.shape[1]}"
            raise UserError(f"I-JEPA predicts from the tokens of a context; {found}; let the context keep some, on the encoder's grid")
        if tokens.shape[1] > kept.shape[1]:  # the encoder showed a token in the place of hidden ones
            tokens, places = tokens.take_along_dim(kept[..., None], 1), places.take_along_dim(kept[..., None], 1)
        return tokens, places

    def _targets(self, step: Step) -> tuple[Tensor, Tensor]:
        """Coordinates of all tokens, (B, N, C), and what the teacher makes of them, each normalised by itself, (B, N, D)."""
        encoding = step.encode(step.set.role("clean")[0], teacher=True)
        assert encoding.tokens is not None
        assert encoding.coordinates is not None
        tokens = full(encoding.tokens.detach())
        return encoding.coordinates, layer_norm(tokens, tokens.shape[-1:])


def _inside(view: View) -> Tensor:
    """Positions (B, K) of a target block's tokens."""
    assert view.mask is not None
    return Mask(~view.mask.hidden).kept
