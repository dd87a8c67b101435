from __future__ import annotations

from functools import partial

import pytest
import torch

from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.objective import Needs
from anyview.testing import check_encoder
from anyview.views.view import Mask, View
from anyview_images.networks import Normalised, check_reads, make_encoder, needs_of, sides, token_grid
from anyview_images.resnet import ResNet
from anyview_images.vision_transformer import VisionTransformer

SMALL = partial(ResNet, depth=10, widths=(4, 8), stem="strided")
PATCHES = partial(VisionTransformer, patch=4, dim=8, depth=1, heads=2)


def test_normalised_encoders_keep_the_contract() -> None:
    check_encoder(Normalised(SMALL(3)), View(torch.rand(4, 3, 16, 16)))
    check_encoder(Normalised(PATCHES(1)), View(torch.rand(4, 1, 16, 16)))


def test_encoders_are_shown_images_from_minus_two_to_two() -> None:
    encoder = SMALL(3).eval()
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(Normalised(encoder).eval()(View(images)).rows, encoder(View(4 * images - 2)).rows)
    stored = (255 * images).round().to(torch.uint8)
    torch.testing.assert_close(Normalised(encoder).eval()(View(stored)).rows, encoder(View(4 * (stored / 255) - 2)).rows)


def test_masks_reach_the_encoder_within() -> None:
    mask = Mask(torch.tensor([[True, False, False, True]]), drop=True)
    assert Normalised(PATCHES(1))(View(torch.rand(1, 1, 8, 8), mask=mask)).tokens.shape == (1, 2, 8)
    assert Normalised(PATCHES(1)).masks == ("drop",)
    assert Normalised(PATCHES(1, masked=True)).masks == ("drop", "token")
    assert Normalised(SMALL(1)).masks == ()


def test_options_that_an_objective_needs_are_switched_on() -> None:
    assert not make_encoder(SMALL, 3).tokens
    assert make_encoder(SMALL, 3, Needs(tokens=True)).tokens
    assert make_encoder(PATCHES, 3, Needs(masks=True)).encoder.mask_token is not None
    assert make_encoder(PATCHES, 3, Needs(masks=True, drops=True)).encoder.mask_token is None
    assert make_encoder(partial(PATCHES, masked=True), 3, Needs(masks=True, drops=True)).encoder.mask_token is not None
    assert make_encoder(SMALL, 3, Needs(masks=True)).encoder.stem[0].in_channels == 3


def test_needs_of_a_slot() -> None:
    assert needs_of(BarlowTwins) == needs_of(partial(BarlowTwins, width=16)) == BarlowTwins.needs
    assert needs_of(lambda dim: BarlowTwins(dim)) == Needs()


def test_a_grid_is_read_off_the_tokens() -> None:
    assert token_grid(Normalised(PATCHES(1)), 1, 28, drop=True) == (7, 7)
    assert token_grid(Normalised(PATCHES(1, masked=True)), 1, 28, drop=False) == (7, 7)
    with pytest.raises(UserError, match="ResNet makes no tokens that could be hidden"):
        token_grid(Normalised(SMALL(1)), 1, 12, drop=True)


def test_encoders_that_read_no_masks_are_refused() -> None:
    with pytest.raises(UserError, match=r"ResNet cannot read masked images of 1 x 12 x 12 \(.*cannot leave places out"):
        token_grid(Normalised(SMALL(1, tokens=True)), 1, 12, drop=True)
    with pytest.raises(UserError, match="build it with masked=True"):
        token_grid(Normalised(PATCHES(1)), 1, 12, drop=False)


def test_checking_leaves_the_encoder_as_it_was() -> None:
    encoder = Normalised(SMALL(3))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert check_reads(encoder, 3, 20, 24).feature_map.shape == (1, 8, 5, 6)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_encoders_that_cannot_read_the_images_are_refused() -> None:
    with pytest.raises(UserError, match="images of 10 x 10 cannot be cut into patches of 4 x 4"):
        check_reads(Normalised(PATCHES(1)), 1, 10, 10)
    with pytest.raises(UserError, match="MLP cannot read images of 1 x 8 x 8"):
        check_reads(make_encoder(MLP, 1), 1, 8, 8)


def test_sides_of_views() -> None:
    assert sides({"channels": 1, "height": 40, "width": 32}, None) == (1, 32)
    assert sides({"channels": 1, "height": 40, "width": 32}, 24) == (1, 24)
