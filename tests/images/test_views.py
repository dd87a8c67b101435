from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.testing import check_view_maker
from anyview.views.draws import Draws
from anyview.views.maker import ViewMaker
from anyview.views.mask import hide_tokens
from anyview.views.multi_crop import MaskedViews
from anyview.views.pair import Chain, Pair
from anyview_images.colour import ColourJitter, GaussianBlur, Grey, Solarise
from anyview_images.geometry import RandomAffine, RandomResizedCrop
from anyview_images.views import AUGMENTATIONS, AugmentedCrops, AugmentedPair, MaskedCrops, Transformed, augmentation_row

from .conftest import batch_of, draws_for, some_images


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_augmentation_keeps_the_contract(name: str, channels: int) -> None:
    images = some_images(12, channels, 16, 18, dtype=torch.float32)
    maker = AugmentedPair(12, augmentation=name)
    check_view_maker(maker, batch_of(images))
    for view in maker(batch_of(images), draws_for(images)).views:
        assert view.data.shape == (12, channels, 12, 12)
        assert float(view.data.min()) >= 0
        assert float(view.data.max()) <= 1 + 1e-6
        assert view.index.tolist() == list(range(12))


@pytest.mark.parametrize(
    "maker",
    [
        AugmentedPair(12, style=(0.1, 0.3)),
        AugmentedCrops(12, local_size=8, locals=3),
        Transformed(RandomResizedCrop(12), AugmentedPair(8)),
        MaskedCrops(12, grid=(3, 3), local_size=8, locals=1),
        MaskedCrops(12, grid=(3, 3), rate=(0.4, 0.4), drop=True, probability=1.0, locals=0),
        MaskedViews(AugmentedPair(12), lambda draws, tokens: hide_tokens(draws, tokens, 0.5), tokens=9),
    ],
    ids=["style", "crops", "transformed", "masked_crops", "dropped_crops", "masked"],
)
def test_other_makers_keep_the_contract(maker: ViewMaker) -> None:
    images = some_images(12, height=16, width=18, dtype=torch.float32)
    sliced = "style" not in (maker(batch_of(images), draws_for(images)).views[0].params or {})
    check_view_maker(maker, batch_of(images), sliced=sliced)


def steps(chain: Chain) -> dict[type, object]:
    return {type(step): step for step in chain.transforms}


@pytest.mark.parametrize(
    ("name", "scale", "jitter", "grey", "blur", "solarise", "flip"),
    [
        ("asymmetric", (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), 0.2, (1.0, 0.1), (0.0, 0.2), 0.5),
        ("asymmetric_small", (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), 0.2, (0.0, 0.0), (0.0, 0.2), 0.5),
        ("symmetric", (0.08, 1.0), (0.8, 0.8, 0.8, 0.2), 0.2, (0.5, 0.5), (0.0, 0.0), 0.5),
        ("symmetric_weak", (0.08, 1.0), (0.4, 0.4, 0.4, 0.1), 0.2, (0.5, 0.5), (0.0, 0.0), 0.5),
        ("vicreg_small", (0.2, 1.0), (0.4, 0.4, 0.2, 0.1), 0.2, (0.0, 0.0), (0.1, 0.1), 0.5),
        ("w_mse_small", (0.2, 1.0), (0.8, 0.8, 0.8, 0.2), 0.2, (0.0, 0.0), (0.0, 0.0), 0.5),
    ],
)
def test_the_transforms_are_the_published_ones(
    name: str,
    scale: tuple[float, float],
    jitter: tuple[float, ...],
    grey: float,
    blur: tuple[float, float],
    solarise: tuple[float, float],
    flip: float,
) -> None:
    maker = AugmentedPair(32, augmentation=name)
    for number, view in enumerate((maker.first, maker.second)):
        found = steps(view)
        assert (found[RandomResizedCrop].scale, found[RandomResizedCrop].flip) == (scale, flip)
        assert (found[ColourJitter].strengths, found[ColourJitter].probability) == (jitter, 0.8)
        assert found[Grey].probability == grey
        for kind, probability in ((GaussianBlur, blur[number]), (Solarise, solarise[number])):
            assert (found[kind].probability if kind in found else 0.0) == probability
        assert RandomAffine not in found


def test_digits_are_never_mirrored() -> None:
    images = some_images(200, 1, 8, 8, dtype=torch.float32)
    for view in AugmentedPair(8, augmentation="digits")(batch_of(images), draws_for(images)).views:
        assert bool((view.params["box"][:, 3] > 0).all())
        assert len(view.params["affine"].unique(dim=0)) == 200
    mirrored = AugmentedPair(8, augmentation="digits", flip=1.0)(batch_of(images), draws_for(images)).views[0]
    assert bool((mirrored.params["box"][:, 3] < 0).all())


def test_crops_have_their_sizes_scales_and_blurs() -> None:
    images = some_images(300, dtype=torch.float32)
    views = AugmentedCrops(16, local_size=8, locals=2, scale=(0.5, 1.0), local_scale=(0.05, 0.3))(batch_of(images), draws_for(images)).views
    assert [(view.role, view.data.shape[2]) for view in views] == [("global", 16), ("global", 16), ("local", 8), ("local", 8)]
    for view, (least, most) in zip(views, [(0.5, 1.0)] * 2 + [(0.05, 0.3)] * 2, strict=True):
        area = view.params["box"][:, 2:].abs().prod(1)
        assert least - 1e-6 <= float(area.min())
        assert float(area.max()) <= most + 1e-6
    shares = [float((view.params["blur"] > 0).float().mean()) for view in views]
    assert shares[0] == 1.0
    assert abs(shares[1] - 0.1) < 0.06
    assert all(abs(share - 0.5) < 0.1 for share in shares[2:])
    assert "solarise" in views[1].params
    assert "solarise" not in views[2].params
    assert AugmentedCrops(16, locals=0).gives.roles == ("global",)


def test_transformed_views_share_one_draw_and_know_where_they_look() -> None:
    images = some_images(dtype=torch.float32)
    maker = Transformed(
        RandomResizedCrop(12), MaskedViews(AugmentedPair(8), lambda draws, tokens: hide_tokens(draws, tokens, 0.5), tokens=4)
    )
    views = maker(batch_of(images), draws_for(images)).views
    assert maker.gives.masks
    assert [view.role for view in views] == ["view", "view", "clean", "clean"]
    plain = Transformed(RandomResizedCrop(12), Pair(Chain()))(batch_of(images), draws_for(images)).views
    assert torch.equal(plain[0].data, plain[1].data)
    assert torch.equal(plain[0].params["box"], plain[1].params["box"])
    torch.testing.assert_close(plain[0].data, RandomResizedCrop(12)(images, draws_for(images)))


def test_masked_crops_hide_patches_of_whole_views_and_keep_their_twins() -> None:
    images = some_images(40, dtype=torch.float32)
    views = MaskedCrops(16, grid=(4, 4), local_size=8, locals=1)(batch_of(images), draws_for(images)).views
    assert [view.role for view in views] == ["global", "global", "local", "clean", "clean"]
    for view, clean in zip(views[:2], views[3:], strict=True):
        assert view.data is clean.data
        hidden = view.mask.hidden.sum(1)
        assert not view.mask.drop
        assert 0.2 < float((hidden == 0).float().mean()) < 0.8
        assert int(hidden[hidden > 0].min()) >= 1
        assert int(hidden.max()) <= 8
    dropped = MaskedCrops(16, grid=(4, 4), rate=(0.25, 0.25), drop=True, probability=1.0, locals=0)(
        batch_of(images), draws_for(images)
    ).views
    assert all(view.mask.drop and view.mask.hidden.sum(1).unique().tolist() == [4] for view in dropped[:2])
    with pytest.raises(UserError, match=r"shares of 0.1 to 0.5 with probability 0.5 were asked for; give one share"):
        MaskedCrops(16, grid=(4, 4), drop=True)


def test_rows_of_the_table_can_be_changed() -> None:
    assert augmentation_row("symmetric", flip=0.0, scale=None) == replace(AUGMENTATIONS["symmetric"], flip=0.0)
    with pytest.raises(UserError, match=r"there is no augmentation 'symetric'; did you mean 'symmetric'"):
        augmentation_row("symetric")
    with pytest.raises(UserError, match=r"flip is a probability, and 1.5 was given"):
        AugmentedPair(8, flip=1.5)


def test_an_empty_part_of_a_batch_makes_empty_views() -> None:
    images = some_images(dtype=torch.float32)
    part = Batch(images[:0], 0, 0, 6)
    views = AugmentedPair(8)(part, Draws.seeded(0, total=6, start=0, rows=0)).views
    assert [tuple(view.data.shape) for view in views] == [(0, 3, 8, 8)] * 2
