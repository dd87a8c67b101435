"""An encoder of rows."""

from __future__ import annotations

from torch import nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.views.view import View


class TwoLayers(Encoder):
    """Two linear layers with a ReLU between them.

    view.data: (B, features). Encoding.rows: (B, dim).
    """

    def __init__(self, features: int, *, hidden: int = 256, dim: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, view: View) -> Encoding:
        return Encoding(self.layers(view.data))
