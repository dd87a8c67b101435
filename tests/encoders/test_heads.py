from __future__ import annotations

import pytest
import torch
from torch import nn

from anyview.encoders.heads import mlp, predictor, projector
from anyview.encoders.norm import BatchNorm


def layout(head: nn.Sequential) -> list[str]:
    names = []
    for layer in head:
        if isinstance(layer, nn.Linear):
            names.append(f"{layer.in_features}>{layer.out_features}{'+b' if layer.bias is not None else ''}")
        elif isinstance(layer, BatchNorm):
            names.append("BN" if layer.affine else "bn")
        else:
            names.append(type(layer).__name__)
    return names


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (projector(8, 16, 16, 16), ["8>16", "BN", "ReLU", "16>16", "BN", "ReLU", "16>16"]),  # Barlow Twins, VICReg
        (mlp(8, 16, 4), ["8>16", "BN", "ReLU", "16>4+b"]),  # SimCLR, BYOL
        (predictor(4, 16), ["4>16", "BN", "ReLU", "16>4+b"]),  # BYOL, SimSiam
        (mlp(8, 16, 4, norm=False), ["8>16+b", "ReLU", "16>4+b"]),  # MoCo v2
        (projector(8, 16, 4, last="norm without affine"), ["8>16", "BN", "ReLU", "16>4", "bn"]),  # MoCo v3, SimSiam
        (mlp(8, 16, 4, last="norm"), ["8>16", "BN", "ReLU", "16>4", "BN"]),  # NNCLR
        (mlp(8, 16, 4, norm=False, activation=nn.GELU), ["8>16+b", "GELU", "16>4+b"]),  # DINO
        (mlp(8, 4), ["8>4+b"]),
    ],
)
def test_published_heads(head: nn.Sequential, expected: list[str]) -> None:
    assert layout(head) == expected


def test_a_bias_before_a_norm_would_change_nothing() -> None:
    head = mlp(8, 16, 4)
    x = torch.randn(10, 8)
    before = head(x)
    first = nn.Linear(8, 16)
    first.weight.data = head[0].weight.data
    torch.testing.assert_close(nn.Sequential(first, *head[1:])(x), before, rtol=1e-5, atol=1e-5)
