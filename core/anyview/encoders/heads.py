"""Heads: the small networks between an encoder's rows and a loss."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import nn

from anyview.encoders.norm import BatchNorm
from anyview.errors import UserError

LastLayer = Literal["linear", "norm", "norm without affine"]


def mlp(
    dim: int,
    *widths: int,
    norm: bool = True,
    bias: bool = True,
    last: LastLayer = "linear",
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Linear layers from `dim` through `widths`, with batch norm (over the global batch) and activation between them.

    norm: batch norm after every inner layer. bias: whether layers that no norm follows have one (a norm takes the bias before it away).
    last: what follows the last linear layer: nothing, batch norm, or batch norm without scale and shift.

    Rows (M, dim) become (M, widths[-1]). Published heads:
    SimCLR `mlp(D, 2048, 128)`, its v2 `mlp(D, 2048, 2048, 128, last="norm without affine")`; MoCo v2 `mlp(D, 2048, 128, norm=False)`;
    MoCo v3 and SimSiam `last="norm without affine"`; NNCLR `last="norm"`; DINO `norm=False, activation=nn.GELU`.

    >>> [type(layer).__name__ for layer in mlp(8, 16, 4)]
    ['Linear', 'BatchNorm', 'ReLU', 'Linear']
    """
    if min(widths) < 1:
        raise UserError(f"a head needs layers of width 1 or more, and {', '.join(map(str, widths))} were asked for")
    layers: list[nn.Module] = []
    for position, (width, following) in enumerate(pairwise((dim, *widths))):
        is_last = position == len(widths) - 1
        normed = last != "linear" if is_last else norm
        layers.append(nn.Linear(width, following, bias=bias and not normed))
        if normed:
            layers.append(BatchNorm(following, affine=not is_last or last == "norm"))
        if not is_last:
            layers.append(activation())
    return nn.Sequential(*layers)


def projector(dim: int, *widths: int, norm: bool = True, bias: bool = False, last: LastLayer = "linear") -> nn.Sequential:
    """The head that a loss is taken on: (M, dim) to (M, widths[-1]); by default Barlow Twins' and VICReg's, without biases.

    >>> projector(64, 256, 256, 256)(torch.randn(8, 64)).shape
    torch.Size([8, 256])
    """
    return mlp(dim, *widths, norm=norm, bias=bias, last=last)


def predictor(dim: int, width: int, *, norm: bool = True, bias: bool = True) -> nn.Sequential:
    """The head that guesses another view's projection: (M, dim) through `width` back to (M, dim), BYOL's and SimSiam's.

    >>> predictor(256, 4096)[-1]
    Linear(in_features=4096, out_features=256, bias=True)
    """
    return mlp(dim, width, dim, norm=norm, bias=bias)
