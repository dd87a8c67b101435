"""An encoder and the projector behind it: the rows that a loss compared."""

from __future__ import annotations

import torch
from torch import nn

from anyview.encoders.encoder import Encoder, Encoding
from anyview.views.view import View


class Projected(Encoder):
    """An encoder whose rows go through a projector; tokens and layers stay behind.

    project: (M, D) to (M, width).

    >>> from anyview.encoders.mlp import MLP
    >>> encoder = Projected(MLP(64, dim=32), nn.Linear(32, 8))
    >>> encoder.dim, encoder(View(torch.randn(5, 64))).rows.shape
    (8, torch.Size([5, 8]))
    """

    def __init__(self, encoder: Encoder, project: nn.Module) -> None:
        super().__init__()
        self.encoder, self.project = encoder, project
        modes = {module: module.training for module in project.modules()}
        first = next(project.parameters(), torch.empty(0))
        with torch.no_grad():
            self.dim = project.eval()(torch.zeros(1, encoder.dim, device=first.device, dtype=first.dtype)).shape[1]
        for module, mode in modes.items():
            module.training = mode

    def forward(self, view: View) -> Encoding:
        return Encoding(self.project(self.encoder(view).rows))
