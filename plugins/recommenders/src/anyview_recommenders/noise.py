"""Noise in the place of corrupted graphs: every layer moves each node a little way within the orthant that it lies in.

Yu, Yin, Xia, Chen, Cui, Nguyen. Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation. SIGIR 2022,
arXiv 2112.08679.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.errors import UserError
from anyview.views.draws import Draws, derive_seed
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution


class NoisyGraphConvolution(LightGraphConvolution):
    """A light graph convolution whose rows leave the embeddings out, the mean of layers 1 .. L, and whose layers may be noisy.

    A view's data may have "noise", the length of what is added to each node after each layer, and "seed", an integer that the noise follows
    from; all else is as in LightGraphConvolution. Raises UserError for fewer than one layer.

    >>> encoder = NoisyGraphConvolution(csr_matrix(np.ones((2, 3))), dim=4, layers=1)
    >>> nodes = {"nodes": torch.arange(5)}
    >>> far = encoder(View({**nodes, "noise": 0.1, "seed": 0})).rows - encoder(View(nodes)).rows
    >>> far.norm(dim=1).detach()
    tensor([0.1000, 0.1000, 0.1000, 0.1000, 0.1000])
    """

    def __init__(self, matrix: csr_matrix, dim: int = 64, *, layers: int = 3, **options: Any) -> None:
        if layers < 1:
            raise UserError(f"rows are the mean of the layers after the embeddings, and layers is {layers}; give at least one")
        super().__init__(matrix, dim, layers=layers, **options)

    def after_layer(self, view: View) -> Callable[[Tensor], Tensor] | None:
        length = view.data.get("noise", 0.0)
        if not length:
            return None
        generator = torch.Generator(self.embedding.device).manual_seed(view.data["seed"])
        return functools.partial(add_noise, length=length, generator=generator)

    def pooled(self, layers: list[Tensor]) -> Tensor:
        return super().pooled(layers[1:])


def add_noise(rows: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Rows (N, D), each moved by `length` in a random direction of the orthant that it lies in; a row of zeros stays.

    The direction is n / |n| with n uniform in [0, 1)^D and the signs of the row. The gradient passes as if nothing had been added.

    >>> moved = add_noise(torch.tensor([[3.0, -4.0], [0.0, 0.0]]), 0.1, torch.Generator().manual_seed(0))
    >>> bool(moved[0, 0] > 3), bool(moved[0, 1] < -4), moved[1].tolist()
    (True, True, [0.0, 0.0])
    """
    with torch.no_grad():
        noise = torch.rand(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
        noise.mul_(length / noise.norm(dim=1, keepdim=True).clamp_min(1e-12)).mul_(rows.sign())
    return rows + noise


def noisy(draws: Draws, length: float, number: int = 0) -> dict[str, Any]:
    """What a view's data needs for noise of this length, equal on all ranks; views of one step take different numbers."""
    if length < 0:
        raise UserError(f"noise has a length of 0 or more, {length} was given; try 0.1")
    return {"noise": length, "seed": derive_seed(draws.generator.initial_seed(), "noise", number)}
