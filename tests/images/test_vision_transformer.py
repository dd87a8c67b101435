from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d

from anyview.data.source import Batch
from anyview.encoders.positions import grid_coordinates
from anyview.errors import UserError
from anyview.objectives.data2vec import Data2Vec
from anyview.objectives.i_jepa import IJEPA
from anyview.objectives.masked_reconstruction import MaskedReconstruction
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.testing import check_encoder
from anyview.testing.tiny import sgd, tiny_draws
from anyview.views.blocks import ContextTargets, MaskGrid
from anyview.views.maker import ViewMaker
from anyview.views.view import Mask, View
from anyview_images.vision_transformer import VisionTransformer, patchify, unpatchify, vit_base, vit_small, vit_tiny


def small(**options: Any) -> VisionTransformer:
    return VisionTransformer(2, **{"patch": 4, "dim": 16, "depth": 2, "heads": 2, **options})


def test_patches_are_cut_row_by_row_with_channels_outermost() -> None:
    images = torch.randn(2, 3, 6, 4)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    for row in range(3):
        for column in range(2):
            cut = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(patches[:, 2 * row + column], cut.flatten(1))


@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
def test_unpatchify_takes_patchify_back(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    assert torch.equal(unpatchify(patchify(images, 4), 4, size), images)


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(UserError, match="images of 6 x 8 cannot be cut into patches of 4 x 4"):
        patchify(torch.randn(1, 3, 6, 8), 4)
    with pytest.raises(UserError, match="5 patches of 48 numbers are no image of 8 x 8"):
        unpatchify(torch.randn(1, 5, 48), 4, (8, 8))
    with pytest.raises(UserError, match=r"reads images \(B, 2, H, W\), and the view's data is \(1, 3, 8, 8\)"):
        small()(View(torch.randn(1, 3, 8, 8)))


def test_the_map_of_patches_is_a_convolution_with_as_large_a_stride() -> None:
    encoder, images = small().double(), torch.randn(2, 2, 8, 12, dtype=torch.float64)
    tokens, grid = encoder.embed(images)
    expected = conv2d(images, encoder.linear.weight.view(16, 2, 4, 4), encoder.linear.bias, stride=4)
    assert grid == (2, 3)
    torch.testing.assert_close(tokens, expected.flatten(2).mT, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("drop", [None, False, True])
def test_transformer_keeps_the_contract(pool: str, drop: bool | None) -> None:
    mask = None if drop is None else Mask(torch.rand(3, 4).argsort(1) < 2, drop=drop)
    check_encoder(small(pool=pool, masked=True), View(torch.randn(3, 2, 8, 8), mask=mask))


def test_views_of_other_sizes_have_places_of_their_own() -> None:
    encoder = small()
    for size in ((16, 16), (8, 8), (4, 12)):
        encoding = encoder(View(torch.randn(2, 2, *size)))
        grid = (size[0] // 4, size[1] // 4)
        assert torch.equal(encoding.coordinates[1], grid_coordinates(grid))
        assert encoding.rows.shape == (2, 16)


def test_frozen_patches_get_no_gradient_and_all_else_does() -> None:
    encoder = small(frozen_patches=True)
    check_encoder(encoder, View(torch.randn(3, 2, 8, 8)))
    assert not any(parameter.requires_grad for parameter in encoder.linear.parameters())
    assert all(parameter.requires_grad for name, parameter in encoder.named_parameters() if not name.startswith("linear"))


@pytest.mark.parametrize(("make", "millions"), [(vit_tiny, 5.5), (vit_small, 21.6), (vit_base, 85.6)])
def test_presets_have_the_published_sizes(make: Callable[..., VisionTransformer], millions: float) -> None:
    """Published counts are with learned positions (197 of them) and without a classifier of classes; ours are codes."""
    with torch.device("meta"):
        encoder = make()
    count = sum(parameter.numel() for parameter in encoder.parameters()) + 197 * encoder.dim
    assert count / 1e6 == pytest.approx(millions, rel=0.01)
    assert encoder.patch == 16


CUT = partial(patchify, patch=4)
DECODER = {"width": 16, "depth": 1, "heads": 2}


@pytest.mark.parametrize(
    ("objective", "views"),
    [
        (partial(MaskedReconstruction, **DECODER), MaskGrid(0.75, grid=(4, 4), patches=CUT, drop=True)),
        (partial(MaskedReconstruction, **DECODER), MaskGrid(0.5, shape="blocks", grid=(4, 4), patches=CUT)),
        (partial(IJEPA, **DECODER), ContextTargets(grid=(4, 4))),
        (Data2Vec, MaskGrid(0.6, shape="blocks", grid=(4, 4), patches=CUT)),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_masked_objectives_train_on_images(objective: Callable[..., Any], views: ViewMaker, half: bool) -> None:
    stage = Stage([Task(views, objective(16))], small(masked=True), epochs=1, optimizer=sgd)
    pretrainer = Pretrainer(stage).train()
    batch = Batch(torch.randn(6, 2, 16, 16), 6)
    pretrainer.prepare(StepInput(batch, tiny_draws(0, 6), 0, 2), 6)
    pretrainer.start()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        loss = pretrainer(StepInput(batch, tiny_draws(0, 6), 0, 2)).total
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in pretrainer.named_parameters():
        assert not parameter.requires_grad or bool(parameter.grad.isfinite().all()), name
