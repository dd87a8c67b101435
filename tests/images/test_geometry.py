from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview_images.geometry import RandomAffine, RandomResizedCrop, crop_resize, move

from .conftest import draws_for, some_images


def triangle_weights(start: float, extent: float, size: int, out: int) -> Tensor:
    """One axis of an antialiased bilinear resize, written out pixel by pixel."""
    step = extent * size / out
    radius = max(abs(step), 1.0)
    weights = torch.zeros(out, size, dtype=torch.float64)
    for place in range(out):
        centre = start * size + (place + 0.5) * step
        for pixel in range(size):
            weights[place, pixel] = max(0.0, 1.0 - abs(pixel + 0.5 - centre) / radius)
        weights[place] /= weights[place].sum()
    return weights


def plain_crop(image: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """One image's crop by explicit matrices, in float64."""
    start_y, start_x, extent_y, extent_x = box.tolist()
    rows, columns = (
        triangle_weights(start_y, extent_y, image.shape[1], size[0]),
        triangle_weights(start_x, extent_x, image.shape[2], size[1]),
    )
    return torch.stack([rows @ channel @ columns.T for channel in image])


@pytest.mark.parametrize("size", [8, 20, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_an_antialiased_resize_of_each_samples_own_box(size: int, channels: int) -> None:
    images = some_images(channels=channels)
    view, params = RandomResizedCrop(size).record(images, draws_for(images))
    expected = torch.stack([plain_crop(image, box, (size, size)) for image, box in zip(images, params["box"].double(), strict=True)])
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-10)
    assert params["box"].unique(dim=0).shape[0] == len(images)


def test_a_crop_is_pils_resize_of_a_box(images: Tensor) -> None:
    image = pytest.importorskip("PIL.Image")
    stored = (images * 255).round().to(torch.uint8)
    view, params = RandomResizedCrop(12, flip=0.5).record(stored, draws_for(images))
    assert {bool(extent < 0) for extent in params["box"][:, 3]} == {True, False}
    for pixels, box, made in zip(stored, params["box"], view, strict=True):
        start_y, start_x, extent_y, extent_x = box.tolist()
        left, right = sorted((start_x, start_x + extent_x))
        corners = (left * 26, start_y * 20, right * 26, (start_y + extent_y) * 20)
        picture = image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((12, 12), image.Resampling.BILINEAR, box=corners)
        theirs = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255
        ours = made.flip(2) if extent_x < 0 else made
        assert float((ours - theirs).abs().max()) < 1.5 / 255


def test_a_negative_extent_turns_the_view_round(images: Tensor) -> None:
    box = torch.tensor([[0.1, 0.2, 0.6, 0.5]], dtype=torch.float64).expand(6, 4)
    turned = torch.tensor([[0.1, 0.7, 0.6, -0.5]], dtype=torch.float64).expand(6, 4)
    torch.testing.assert_close(crop_resize(images, turned, (9, 9)), crop_resize(images, box, (9, 9)).flip(3))


def test_the_whole_image_at_its_own_size_is_the_image(images: Tensor) -> None:
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64).expand(6, 4)
    torch.testing.assert_close(crop_resize(images, box, (20, 26)), images)


def test_a_fine_pattern_becomes_its_mean_when_it_is_made_small() -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).double().view(1, 1, 32, 32)
    small = crop_resize(board, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (4, 4))
    torch.testing.assert_close(small, torch.full_like(small, 0.5), rtol=0, atol=1e-3)  # borders cut the triangles


def test_boxes_lie_in_the_image_and_keep_area_and_aspect() -> None:
    crop = RandomResizedCrop(8, scale=(0.2, 0.6), ratio=(0.5, 2.0), flip=0.3)
    box = crop.boxes(Draws.seeded(0, total=4000), 40, 60)
    start, extent = box[:, :2], box[:, 2:]
    ends = torch.stack([start, start + extent])
    assert float(ends.min()) >= -1e-6
    assert float(ends.max()) <= 1 + 1e-6
    area = extent.abs().prod(1)
    aspect = extent[:, 1].abs() * 60 / (extent[:, 0] * 40)
    assert 0.2 - 1e-6 < float(area.min()) < 0.21
    assert 0.58 < float(area.max()) < 0.6 + 1e-6
    assert 0.5 - 1e-6 < float(aspect.min()) < 0.53
    assert 1.9 < float(aspect.max()) < 2 + 1e-6
    assert abs(float((extent[:, 1] < 0).float().mean()) - 0.3) < 0.03
    free = (1 - extent.abs()).clamp(min=1e-6)
    shares = torch.stack([start[:, 0], torch.minimum(start[:, 1], start[:, 1] + extent[:, 1])], 1) / free
    assert abs(float(shares.mean()) - 0.5) < 0.01  # places are uniform in what is free


def test_an_image_that_no_crop_fits_is_shown_by_the_largest_centred_one() -> None:
    box = RandomResizedCrop(8, scale=(0.9, 1.0), flip=0.0).boxes(Draws.seeded(0, total=3), 10, 100)
    extent_x = 10 * (4 / 3) / 100
    torch.testing.assert_close(box, torch.tensor([[0.0, (1 - extent_x) / 2, 1.0, extent_x]]).expand(3, 4))


def test_stored_images_and_floats_give_the_same_view(images: Tensor) -> None:
    stored = (images * 255).round().to(torch.uint8)
    for transform in (RandomResizedCrop(9), RandomAffine()):
        assert torch.equal(transform(stored, draws_for(images)), transform(stored / 255, draws_for(images)))


def test_autocast_does_not_coarsen_a_view() -> None:
    images = some_images(dtype=torch.float32)
    for transform in (RandomResizedCrop(9), RandomAffine()):
        plain = transform(images, draws_for(images))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(transform(images, draws_for(images)), plain)


def test_seeds_decide(images: Tensor) -> None:
    crop = RandomResizedCrop(9)
    assert torch.equal(crop(images, draws_for(images)), crop(images, draws_for(images)))
    assert not torch.equal(crop(images, draws_for(images)), crop(images, draws_for(images, seed=1)))


def row(degrees: float = 0.0, scale: float = 1.0, down: float = 0.0, right: float = 0.0) -> Tensor:
    return torch.tensor([[degrees, scale, down, right]], dtype=torch.float64)


def test_a_move_turns_shifts_and_scales() -> None:
    square = some_images(1, height=16, width=16)
    torch.testing.assert_close(move(square, row()), square)
    torch.testing.assert_close(move(square, row(90.0)), square.rot90(-1, (2, 3)))
    shifted = move(square, row(down=0.25, right=-0.125))
    torch.testing.assert_close(shifted[..., 4:, :-2], square[..., :-4, 2:])
    assert not shifted[..., :4, :].any()
    larger = move(square, row(scale=2.0))
    torch.testing.assert_close(larger, crop_resize(square, torch.tensor([[0.25, 0.25, 0.5, 0.5]]), (16, 16)))


def test_a_turn_keeps_shapes_in_images_that_are_no_squares() -> None:
    image = torch.zeros(1, 1, 30, 50, dtype=torch.float64)
    image[..., 13:17, 20:30] = 1.0  # 4 high, 10 wide, about the centre
    turned = move(image, row(90.0))
    assert float(turned[..., 10:20, 23:27].min()) > 0.99
    assert math.isclose(float(turned.sum()), 40.0, rel_tol=1e-6)


def test_a_turn_and_a_shift_follow_each_other() -> None:
    square = some_images(1, height=16, width=16)
    torch.testing.assert_close(move(square, row(90.0, 1.0, 0.25, 0.0)), move(move(square, row(90.0)), row(down=0.25)))


def test_moves_are_drawn_within_their_ranges() -> None:
    images = torch.rand(500, 1, 4, 4)
    _, params = RandomAffine(20.0, scale=(0.8, 1.1), shift=0.2).record(images, draws_for(images))
    least, most = params["affine"].amin(0), params["affine"].amax(0)
    torch.testing.assert_close(least, torch.tensor([-20.0, 0.8, -0.2, -0.2]), rtol=0.05, atol=0.01)
    torch.testing.assert_close(most, torch.tensor([20.0, 1.1, 0.2, 0.2]), rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RandomResizedCrop(0), "0 pixels showing"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 1.2)), "give at least one pixel and shares above 0, at most 1"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 0.2)), "the smaller first"),
        (lambda: RandomResizedCrop(8, ratio=(0.0, 1.0)), "aspects 0 to 1"),
        (lambda: RandomAffine(scale=(1.2, 0.8)), "scaled by 1.2 to 0.8"),
    ],
)
def test_what_cannot_be_is_refused(make: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()  # type: ignore[operator]
