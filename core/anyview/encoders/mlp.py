"""An encoder for rows of numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.norm import BatchNorm
from anyview.errors import UserError
from anyview.views.view import Mask, View


class MLP(Encoder):
    """Linear layers with batch norm and ReLU between them, on data (B, F) or (B, ...) of F numbers per sample.

    features: F. hidden: width of the inner layers. dim: width of the rows. layers: how many linear layers.
    masked: learn one value per column that stands in for hidden entries; needed for views with a mask (B, F), or (B,) for whole rows.
    The encoding's `layers` are the outputs of the inner layers, (B, hidden) each. Raises ValueError when a view has a mask and the
    encoder has nothing to show in its place.

    >>> MLP(64, dim=32)(View(torch.randn(8, 64))).rows.shape
    torch.Size([8, 32])
    """

    def __init__(self, features: int, *, hidden: int = 256, dim: int = 128, layers: int = 3, masked: bool = False) -> None:
        super().__init__()
        if min(hidden, dim, layers) < 1:
            raise UserError(f"an MLP needs at least one layer of width 1; found {layers} layers, hidden {hidden}, dim {dim}")
        self.dim = dim
        widths = [features] + [hidden] * (layers - 1)
        self.inner = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden, bias=False), BatchNorm(hidden), nn.ReLU()) for width in widths[:-1]
        )
        self.last = nn.Linear(widths[-1], dim)
        self.token = nn.Parameter(torch.zeros(features)) if masked else None
        self.masks = ("token",) if masked else ()

    def forward(self, view: View) -> Encoding:
        x = view.data.flatten(1)
        if view.mask is not None:
            x = self._hide(x, view.mask)
        outputs = []
        for layer in self.inner:
            x = layer(x)
            outputs.append(x)
        return Encoding(self.last(x), layers=outputs)

    def _hide(self, x: Tensor, mask: Mask) -> Tensor:
        if self.token is None:
            raise ValueError("a masked view reached an MLP that has no mask token; build it with masked=True")
        replaced = mask.replaced[:, None] if mask.replaced.ndim == 1 else mask.replaced.flatten(1)
        return torch.where(replaced, self.token.to(x.dtype), x)
