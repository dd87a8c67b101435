from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.recipe import Stage, Task
from anyview.testing import check_encoder, check_stage_rank_exact
from anyview.testing.tiny import sgd
from anyview.views.view import Mask, View
from anyview_images.resnet import Pointwise, ResNet
from anyview_images.views import AugmentedPair

from .conftest import batch_of, some_images


def parameters(encoder: nn.Module) -> int:
    return sum(parameter.numel() for parameter in encoder.parameters())


@pytest.mark.parametrize(
    "encoder",
    [
        partial(ResNet, 3, depth=10, widths=(8, 16), zero_init=True),
        partial(ResNet, 1, depth=18, widths=(4, 8, 8), stem="small", tokens=True),
        partial(ResNet, 2, depth=50, widths=(4, 4, 8, 8), stem="strided"),
    ],
)
def test_keeps_the_contract(encoder: partial[ResNet]) -> None:
    check_encoder(encoder(), View(torch.rand(4, encoder.args[0], 32, 32)))


@pytest.mark.parametrize(("depth", "dim", "expected"), [(18, 512, 11_176_512), (34, 512, 21_284_672), (50, 2048, 23_508_032)])
def test_has_the_published_number_of_parameters(depth: int, dim: int, expected: int) -> None:
    with torch.device("meta"):
        encoder = ResNet(3, depth=depth)  # type: ignore[arg-type]
    assert encoder.dim == dim
    assert parameters(encoder) == expected


@pytest.mark.parametrize(("stem", "side"), [("standard", 2), ("small", 8), ("strided", 4)])
def test_stems_decide_the_size_of_the_map(stem: str, side: int) -> None:
    encoding = ResNet(3, depth=10, widths=(4, 8, 16, 16), stem=stem)(View(torch.rand(2, 3, 64, 64)))  # type: ignore[arg-type]
    assert encoding.feature_map.shape == (2, 16, side, side)
    assert [layer.shape[1] for layer in encoding.layers] == [4, 8, 16, 16]
    torch.testing.assert_close(encoding.rows, encoding.feature_map.mean((2, 3)))
    assert encoding.tokens is None


def test_tokens_are_the_places_of_the_map() -> None:
    encoding = ResNet(3, depth=10, widths=(4, 8), stem="strided", tokens=True).eval()(View(torch.rand(2, 3, 24, 40)))
    assert encoding.tokens.shape == (2, 6 * 10, 8)
    down, across = 4, 7
    torch.testing.assert_close(encoding.tokens[:, 10 * down + across], encoding.feature_map[:, :, down, across])
    torch.testing.assert_close(encoding.coordinates[1, 10 * down + across], torch.tensor([4.5 / 6, 7.5 / 10]))


def test_zero_init_begins_as_the_shortcuts_alone() -> None:
    torch.manual_seed(0)
    view = View(torch.rand(4, 3, 16, 16))
    encoder = ResNet(3, depth=18, widths=(8,), stem="small", zero_init=True)
    torch.testing.assert_close(encoder(view).feature_map, encoder.stem(view.data))
    branches = ResNet(3, depth=18, widths=(8,), stem="small")
    assert not torch.allclose(branches(view).feature_map, branches.stem(view.data))


def test_memory_format_changes_no_number() -> None:
    torch.manual_seed(0)
    encoder = ResNet(3, depth=10, widths=(8, 16)).double().eval()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    ours = encoder(View(images)).rows
    x = images
    for module in (encoder.to(memory_format=torch.contiguous_format).stem, *encoder.groups):
        x = module(x)
    torch.testing.assert_close(ours, x.mean((2, 3)))


def tiny_stage() -> Stage:
    """Barlow Twins on two small views, with batch norm in every layer."""
    torch.manual_seed(0)
    encoder = ResNet(3, depth=10, widths=(4,), stem="strided")
    return Stage([Task(AugmentedPair(8), BarlowTwins(4, width=16))], encoder, epochs=1, optimizer=sgd)


def tiny_images() -> Batch:
    """Seven images, which two ranks share unevenly."""
    return batch_of(some_images(7, height=16, width=16, dtype=torch.get_default_dtype()))


def test_ranks_train_as_one_process() -> None:
    check_stage_rank_exact(tiny_stage, tiny_images, steps=2)


def test_masked_views_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot leave places out; use a vision transformer"):
        ResNet(1, depth=10, widths=(4,))(View(torch.rand(2, 1, 8, 8), mask=Mask(torch.zeros(2, 4, dtype=torch.bool))))


@pytest.mark.parametrize(("options", "sentence"), [({"depth": 20}, "depth 20; choose 10, 18, 34, 50"), ({"widths": ()}, "widths none")])
def test_sizes_that_there_are_not_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ResNet(3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(7, 8), (1, 1)])
def test_a_pointwise_convolution_of_every_second_place_is_one_with_stride_2(size: tuple[int, int]) -> None:
    ours = Pointwise(4, 8, step=2).double()
    x = torch.rand(2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(ours(x), torch.nn.functional.conv2d(x, ours.weight, stride=2))
