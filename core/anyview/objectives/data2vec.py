"""data2vec: at hidden tokens, predict what a teacher that sees them makes of them in its upper layers.

Baevski, Hsu, Xu, Babu, Gu, Auli. data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language. 2022,
arXiv 2202.03555.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from anyview.distributed import gather_rows
from anyview.encoders.encoder import Encoding
from anyview.encoders.transformer import start_weights
from anyview.errors import UserError
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.tokens import mean_of_all, spread
from anyview.schedules import Linear

Normalise = Literal["layer", "instance", "batch"]


@torch.no_grad()
def data2vec_targets(layers: Sequence[Tensor], normalise: Normalise = "layer", again: bool = True) -> Tensor:
    """The mean of layers' outputs, each normalised by itself, (B, N, D); without gradient.

    layers: (B, N, D) each. normalise: "layer", over the D numbers of a token (vision, text), or "instance", over the N tokens of a sample,
    for each of the D numbers (speech); or, which is ours, "batch", over the samples of all ranks, for each place and number, so that
    nothing is left to predict that all samples have there. None has weights. again: normalise the mean too.

    >>> targets = data2vec_targets([torch.randn(2, 5, 8), 100 * torch.randn(2, 5, 8)])
    >>> bool((targets.mean(2).abs() < 1e-5).all())
    True
    """
    mean = torch.stack([_normalised(full(layer), normalise) for layer in layers]).mean(0)
    return _normalised(mean, normalise) if again else mean


def data2vec_loss(prediction: Tensor, target: Tensor, beta: float = 2.0) -> Tensor:
    """Smooth L1 of predictions at hidden tokens: half the square over beta up to beta, linear from there on; a mean over all ranks' tokens.

    prediction, target: (M, D); no gradient to the target. beta: 0 stands for the plain squared error. Without any hidden token it is 0.

    >>> x = torch.zeros(1, 2)
    >>> [float(data2vec_loss(x + 1, x, beta)) for beta in (2.0, 0.5, 0.0)]
    [0.25, 0.75, 1.0]
    """
    prediction, target = full(prediction), full(target.detach())
    if beta == 0:
        return mean_of_all((prediction - target).square().mean(1))
    return mean_of_all(smooth_l1_loss(prediction, target, reduction="none", beta=beta).mean(1))


class Data2Vec(Objective):
    """Objective over a masked view, its clean twin and a teacher; owns a linear predictor.

    The student sees a token in the place of hidden ones, the teacher sees everything. Of the teacher's layers the last `top` make the
    target (all of them where it has fewer): what their feed-forward parts add before the last residual where the encoding says so
    (`TokenEncoding.branches`), else their outputs.

    dim: width of tokens and layers. top: 6 for images, 8 for speech, 10 for text. beta: see `data2vec_loss`; 2 for images, 0 for speech.
    normalise, normalise_again: see `data2vec_targets`; "instance" for speech, "batch" for small images, whose teacher says mostly where a
    patch lies. momentum, final_momentum: the teacher's, along a line.

    Monitors: target_spread and prediction_spread, the deviation of a feature over the hidden tokens; below 0.1 the run has collapsed.
    Raises UserError when the encoder left hidden tokens out, and when it returns no layers.
    """

    needs = Needs(masks=True, tokens=True, roles=("clean",), teacher=True)
    tags = ("masked prediction", "distillation")

    def __init__(
        self,
        dim: int,
        *,
        top: int = 6,
        beta: float = 2.0,
        normalise: Normalise = "layer",
        normalise_again: bool = True,
        momentum: float = 0.9998,
        final_momentum: float = 0.9999,
    ) -> None:
        super().__init__()
        if top < 1 or beta < 0:
            raise UserError(f"data2vec needs a target of at least one layer and a beta of 0 or more; found top {top}, beta {beta:g}")
        self.momentum = Linear(momentum, final_momentum)
        self.top, self.beta, self.normalise, self.normalise_again = top, beta, normalise, normalise_again
        if normalise == "batch":
            self.needs = replace(self.needs, couples_rows=True)
        self.predict = nn.Linear(dim, dim)
        start_weights(self.predict)

    def forward(self, step: Step) -> Losses:
        view, clean = step.seen_whole[0], step.set.role("clean")[0]
        tokens = step.encode(view).tokens
        assert view.mask is not None
        assert tokens is not None
        hidden = view.mask.hidden
        if tokens.shape[:2] != hidden.shape:
            found = f"the encoder returned {tokens.shape[1]} tokens for a mask over {hidden.shape[1]}"
            raise UserError(f"data2vec needs a token at every hidden place, and {found}; let the mask keep them (drop=False)")
        layers = _layers(step.encode(clean, teacher=True))[-self.top :]
        target = data2vec_targets(layers, self.normalise, self.normalise_again)
        target, prediction = view.mask.at_hidden(target), self.predict(view.mask.at_hidden(tokens))
        losses = Losses(data2vec=data2vec_loss(prediction, target, self.beta))
        losses.monitors = {"target_spread": spread(target), "prediction_spread": spread(prediction)}
        return losses


def _normalised(layer: Tensor, how: Normalise) -> Tensor:
    """Mean 0 and variance 1 over the numbers of each token, the tokens of each sample, or all ranks' samples at each place."""
    over = {"layer": 2, "instance": 1, "batch": 0}[how]
    whole = gather_rows(layer) if how == "batch" else layer
    mean = whole.mean(over, keepdim=True)
    return (layer - mean) * ((whole - mean).square().mean(over, keepdim=True) + 1e-5).rsqrt()


def _layers(encoding: Encoding) -> list[Tensor]:
    layers = getattr(encoding, "branches", None) or encoding.layers
    if not layers:
        raise UserError(
            "data2vec predicts layers, and the encoder returns none; take one whose encoding has layers, as SequenceTransformer"
        )
    return list(layers)
