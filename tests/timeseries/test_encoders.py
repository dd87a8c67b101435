"""Encoders of windows and of coefficients: sizes as published, any length, exact shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.testing import check_encoder
from anyview.views.view import Mask, View
from anyview_timeseries.encoders import PatchTransformer, ResidualBlock, ResNet1d, SameConv
from anyview_timeseries.frame_encoders import BandsNet, PyramidNet, SpectrumNet, frame_encoder
from anyview_timeseries.frames.table import FRAMES, make_frame
from anyview_timeseries.pooling import Pool

SMALL = {"dim": 12, "width": 4, "blocks": 4}


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(channels: int) -> ResNet1d:
    return ResNet1d(channels, **SMALL)


@pytest.mark.parametrize(
    ("encoder", "data"),
    [
        (ResNet1d(2, **SMALL, dropout=0.0), torch.randn(6, 2, 33)),
        (ResNet1d(2, **SMALL, dropout=0.0, tokens=True, stride=2), torch.randn(6, 2, 33)),
        (PatchTransformer(2, patch=8, dim=8, depth=1, heads=2), torch.randn(6, 2, 33)),
        (SpectrumNet(2, 17, planes=2, dim=16), torch.randn(6, 4, 17)),
        (SpectrumNet(2, 17, planes=3, dim=16, pool="attention"), torch.randn(6, 6, 17)),
        (PyramidNet(2, (12, 10), dim=8), torch.randn(6, 2, 12, 10)),
        (PyramidNet(2, (12, 10), dim=9, width=3, pool="mean"), torch.randn(6, 2, 12, 10)),
        (BandsNet(2, [9, 8, 16], lambda x: list(x.split([9, 8, 16], -1)), dim=8, width=4), torch.randn(6, 2, 33)),
    ],
)
def test_contract(encoder: Encoder, data: torch.Tensor) -> None:
    check_encoder(encoder, View(data))


def test_sizes_are_the_published_ones() -> None:
    assert weights(ResNet1d(1)) == 205_504 - 64
    assert weights(PyramidNet(1, (48, 200))) == 519_393


@pytest.mark.parametrize("length", [16, 17, 101, 1000])
@pytest.mark.parametrize("channels", [1, 9])
def test_any_length_and_channels(channels: int, length: int) -> None:
    window = torch.randn(2, channels, length)
    assert small(channels)(View(window)).rows.shape == (2, 12)
    assert PatchTransformer(channels, dim=8, depth=1, heads=2)(View(window)).tokens.shape == (2, -(-length // 8), 8)
    for name in FRAMES:
        frame = make_frame(name)
        encoder = frame_encoder(frame, channels, length, time=small, dim=12, width=2)
        assert encoder(View(frame.show(window))).rows.shape == (2, 12), name


@pytest.mark.parametrize("name", ["fourier", "morlet", "gabor"])
def test_pools_that_take_any_length(name: str) -> None:
    frame = make_frame(name)
    encoder = frame_encoder(frame, 1, 40, time=small, dim=12, width=2, pool="attention")
    assert encoder(View(frame.show(torch.randn(3, 1, 128)))).rows.shape == (3, 12)
    fixed = frame_encoder(frame, 1, 40, time=small, dim=12, width=2)
    with pytest.raises(UserError, match="positions are weighed by linear layers for"):
        fixed(View(frame.show(torch.randn(3, 1, 128))))


def test_a_window_is_embedded_alone_as_among_others() -> None:
    encoder, windows = small(1).eval(), torch.randn(5, 1, 30)
    assert torch.allclose(encoder(View(windows[:1])).rows, encoder(View(windows)).rows[:1], atol=1e-6)


@pytest.mark.parametrize(("length", "stride"), [(10, 1), (10, 2), (11, 2), (1, 2)])
def test_same_convolution(length: int, stride: int) -> None:
    conv = SameConv(1, 1, 5, stride)
    steps = -(-length // stride)
    zeros = max(0, (steps - 1) * stride + 5 - length)
    x = torch.randn(2, 1, length)
    padded = nn.functional.pad(x, (zeros // 2, zeros - zeros // 2))
    assert torch.allclose(conv(x), nn.functional.conv1d(padded, conv.weight, conv.bias, stride), atol=1e-6)
    assert conv(x).shape[-1] == steps


def test_the_shortcut_fills_new_channels_on_both_sides() -> None:
    block = ResidualBlock(2, 4, 3, stride=2, first=True, norm=False).eval()
    nn.init.zeros_(block.second_conv.weight)
    nn.init.zeros_(block.second_conv.bias)
    out = block(torch.arange(10.0).reshape(1, 2, 5))
    assert out[0].tolist() == [[0, 0, 0], [1, 3, 4], [6, 8, 9], [0, 0, 0]]


def test_pool_by_position_is_a_linear_layer_over_each_axis() -> None:
    pool, maps = Pool("positions", 3, (4, 5)), torch.randn(2, 3, 4, 5)
    across, along = pool.axes
    expected = torch.einsum("bcst,t,s->bc", maps, along.weight[0], across.weight[0])
    expected += along.bias * across.weight.sum() + across.bias
    assert torch.allclose(pool(maps), expected, atol=1e-5)
    assert torch.allclose(Pool("mean", 3)(maps), maps.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: small(2)(View(torch.randn(3, 1, 30))), r"a ResNet1d reads windows \(B, 2, T\), and the view's data is \(3, 1, 30\)"),
        (lambda: PatchTransformer(1)(View(torch.randn(3, 30))), "a PatchTransformer reads windows"),
        (lambda: ResNet1d(1, dropout=1.0), "a dropout from 0 to below 1, found"),
        (lambda: PatchTransformer(1, patch=0), "a patch of 0 was asked for"),
        (lambda: SpectrumNet(1, 9, planes=2, dim=7), "needs rows of 8 numbers or more, and dim is 7"),
        (lambda: Pool("max", 4), "'positions', 'mean' or 'attention', and 'max'"),
    ],
)
def test_mistakes_are_told(act: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        act()  # type: ignore[operator]


def test_a_masked_view_is_refused_by_convolutions() -> None:
    with pytest.raises(ValueError, match="use a transformer"):
        small(1)(View(torch.randn(2, 1, 16), mask=Mask(torch.zeros(2, 16, dtype=torch.bool))))
