"""TS-TCC's loss: what one view has shown so far tells the other view's next steps, and its own summary from other samples'.

Eldele, Ragab, Chen, Wu, Kwoh, Li, Guan. Time-Series Representation Learning via Temporal and Contextual Contrasting. IJCAI 2021,
arXiv 2106.14112.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.encoders.transformer import Attention, new_token
from anyview.errors import UserError
from anyview.objectives.contrast import cross_entropy
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.simclr import simclr_loss


def temporal_contrast_loss(features: Tensor, predictions: Tensor) -> Tensor:
    """Cross-entropy of finding, by a sample's features at a later step, its own prediction among all samples'; a mean over steps and rows.

    features, predictions: (B, K, D), of K steps. Logits are products, neither scaled nor divided; the softmax is over predictions. Equal
    predictions give log B.

    >>> round(float(temporal_contrast_loss(torch.randn(8, 3, 4), torch.ones(8, 3, 4)).exp()), 3)
    8.0
    """
    pairs = zip(full(features).unbind(1), full(predictions).unbind(1), strict=True)
    return torch.stack([cross_entropy(ours, theirs, targets=[0]).mean() for ours, theirs in pairs]).mean()


class Summary(nn.Module):
    """A transformer that says in one row (B, hidden) what tokens (B, N, dim) show: the class token's last state.

    Tokens have no places of their own. Layers norm before each part; width: inside their feed-forward parts.
    """

    def __init__(self, dim: int, hidden: int, *, depth: int = 4, heads: int = 4, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self.linear, self.token = nn.Linear(dim, hidden), new_token(hidden)
        self.layers = nn.ModuleList(_Layer(hidden, heads, width, dropout) for _ in range(depth))

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(tokens), 1, -1), self.linear(tokens)], 1)
        for layer in self.layers:
            x = layer(x)
        return x[:, 0]


class _Layer(nn.Module):
    """Attention and a feed-forward part, each normed before and with dropout after."""

    def __init__(self, dim: int, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(dim), Attention(dim, heads), nn.Dropout(dropout))
        feed = (nn.Linear(dim, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, dim), nn.Dropout(dropout))
        self.feed = nn.Sequential(nn.LayerNorm(dim), *feed)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        return x + self.feed(x)


class TemporalContrast(Objective):
    """Objective over the tokens of two views; owns the transformer that sums up, the maps to later steps, and a projector.

    Each step draws how many tokens, from the first one on, a view is summed up from; of the summary c a linear map for each of the `ahead`
    next steps predicts the other view's token there (temporal contrast, both directions), and c, projected, finds the other view's c
    (contextual contrast: NT-Xent of cosines). Tokens are brought to length 1.

    dim: width of rows and tokens. ahead: steps to predict, fewer where views have too few tokens. hidden, depth, heads, width, dropout: of
    the transformer; the paper's dropout is 0.1, whose masks are drawn by each process for itself. temperature: of the contextual contrast.
    contextual: its weight. Raises UserError where views have a single token.
    """

    needs = Needs(views=2, tokens=True, couples_rows=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        *,
        ahead: int = 6,
        hidden: int = 100,
        depth: int = 4,
        heads: int = 4,
        width: int = 64,
        dropout: float = 0.0,
        temperature: float = 0.2,
        contextual: float = 0.7,
    ) -> None:
        super().__init__()
        if ahead < 1:
            raise UserError(f"temporal contrast predicts 1 step or more, and {ahead} were asked for; choose another number")
        self.ahead, self.temperature, self.contextual = ahead, temperature, contextual
        self.summarise = Summary(dim, hidden, depth=depth, heads=heads, width=width, dropout=dropout)
        self.predict = nn.Linear(hidden, ahead * dim)
        self.project = mlp(hidden, max(1, dim // 2), max(1, dim // 4))

    def forward(self, step: Step) -> Losses:
        a, b = (self._tokens(step, view) for view in range(2))
        ahead = min(self.ahead, a.shape[1] - 1)
        seen = [1 + int(torch.randint(a.shape[1] - ahead, (), generator=step.generator, device=step.draws.device)) for _ in range(2)]
        summaries = [self.summarise(tokens[:, :number]) for tokens, number in zip((a, b), seen, strict=True)]
        later = [tokens[:, number : number + ahead] for tokens, number in zip((b, a), seen, strict=True)]
        temporal = [self._temporal(c, targets) for c, targets in zip(summaries, later, strict=True)]
        projected = [gather_rows(self.project(c)) for c in summaries]
        contextual = simclr_loss(projected[0], projected[1], self.temperature)
        return Losses(temporal=torch.stack(temporal).sum(), contextual=self.contextual * contextual)

    def collapse_line(self, rows: int) -> float:
        return 2 * math.log(rows) + self.contextual * math.log(2 * rows - 1)

    def _tokens(self, step: Step, view: int) -> Tensor:
        tokens = step.encode(step.seen_whole[view]).tokens
        assert tokens is not None
        if tokens.shape[1] < 2:
            asked = "temporal contrast predicts later tokens of a view from earlier ones, and the encoder makes one of a window"
            raise UserError(f"{asked}; give longer windows or an encoder of more tokens")
        return normalize(tokens, dim=2)

    def _temporal(self, summary: Tensor, later: Tensor) -> Tensor:
        """Temporal contrast of a view's summary and the other view's next tokens (B, K, dim)."""
        predictions = self.predict(summary).unflatten(1, (self.ahead, -1))[:, : later.shape[1]]
        return temporal_contrast_loss(gather_rows(later.contiguous()), gather_rows(predictions.contiguous()))
