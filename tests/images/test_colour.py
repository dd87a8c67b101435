from __future__ import annotations

import colorsys
import math

import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview_images.colour import (
    ColourJitter,
    GaussianBlur,
    Grey,
    Solarise,
    _gaussian_weights,
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    gaussian_blur,
    shift_hue,
    solarise,
)
from anyview_images.pixels import grey_of, on_chosen

from .conftest import draws_for, some_images

FACTORS = torch.tensor([0.0, 0.3, 1.0, 1.4, 2.0, 0.9], dtype=torch.float64)


def luma(image: Tensor) -> Tensor:
    red, green, blue = image
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_brightness_contrast_and_saturation_are_pils(images: Tensor) -> None:
    for number, (image, factor) in enumerate(zip(images, FACTORS, strict=True)):
        grey = luma(image)
        expected = {
            adjust_brightness: factor * image,
            adjust_contrast: factor * image + (1 - factor) * grey.mean(),
            adjust_saturation: factor * image + (1 - factor) * grey,
        }
        for change, by_hand in expected.items():
            torch.testing.assert_close(change(images, FACTORS)[number], by_hand.clamp(0, 1), rtol=0, atol=1e-12)


def test_they_are_pils_on_stored_images(images: Tensor) -> None:
    image, enhance = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageEnhance")
    stored = (images * 255).round().to(torch.uint8)
    pairs = {adjust_brightness: enhance.Brightness, adjust_contrast: enhance.Contrast, adjust_saturation: enhance.Color}
    for change, theirs in pairs.items():
        ours = change(stored / 255, FACTORS) * 255
        for number, factor in enumerate(FACTORS.tolist()):
            picture = theirs(image.fromarray(stored[number].permute(1, 2, 0).numpy())).enhance(factor)
            made = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(20, 26, 3).permute(2, 0, 1)
            assert float((ours[number] - made).abs().max()) < 2.5


def test_hue_is_turned_as_in_hsv() -> None:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(300, 3, generator=generator, dtype=torch.float64)
    colours[:3] = torch.tensor([[0.4, 0.4, 0.4], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    colours[3:6] = torch.eye(3)
    colours[6:8, 0] = colours[6:8, 1]  # ties
    turn = torch.rand(300, generator=generator, dtype=torch.float64) - 0.5
    turned = shift_hue(colours.view(300, 3, 1, 1), turn).view(300, 3)
    for colour, amount, made in zip(colours.tolist(), turn.tolist(), turned, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected = torch.tensor(colorsys.hsv_to_rgb((hue + amount) % 1, saturation, value), dtype=torch.float64)
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_that_are_not_of_three_channels(channels: int) -> None:
    images = some_images(channels=channels)
    torch.testing.assert_close(grey_of(images), images.mean(1, keepdim=True))
    assert shift_hue(images, FACTORS) is images
    if channels == 1:
        assert adjust_saturation(images, FACTORS) is images
        assert Grey(1.0)(images, draws_for(images)) is images
        colourless = ColourJitter(0.0, 0.0, 0.8, 0.5, probability=1.0)
        assert torch.equal(colourless(images, draws_for(images)), images)


def test_jitter_applies_what_it_records(images: Tensor) -> None:
    view, params = ColourJitter(0.8, 0.8, 0.8, 0.2, probability=0.5).record(images, draws_for(images, seed=1))
    brightness, contrast, saturation, turn = params["jitter"].double().unbind(1)
    expected = shift_hue(adjust_saturation(adjust_contrast(adjust_brightness(images, brightness), contrast), saturation), turn)
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-12)
    changed = (params["jitter"] != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(1)
    assert {True, False} == set(changed.tolist())
    torch.testing.assert_close(view[~changed], images[~changed], rtol=0, atol=1e-12)
    assert params["jitter"][changed].unique(dim=0).shape[0] == int(changed.sum())


def test_jitter_is_drawn_within_its_strengths() -> None:
    factors = ColourJitter(0.4, 1.5, 0.2, 0.1, probability=0.8).factors(Draws.seeded(0, total=5000))
    changed = factors[(factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(1)]
    assert abs(len(changed) / 5000 - 0.8) < 0.02
    torch.testing.assert_close(changed.amin(0), torch.tensor([0.6, 0.0, 0.8, -0.1]), rtol=0, atol=0.01)
    torch.testing.assert_close(changed.amax(0), torch.tensor([1.4, 2.5, 1.2, 0.1]), rtol=0, atol=0.01)


def test_shared_jitter_is_one_for_the_batch() -> None:
    jitter = ColourJitter(probability=1.0, shared=True)
    factors = [jitter.factors(Draws.seeded(seed, total=6)) for seed in range(2)]
    assert [len(found.unique(dim=0)) for found in factors] == [1, 1]
    assert not torch.equal(*factors)
    assert torch.equal(jitter.factors(Draws.seeded(0, total=6, start=4, rows=2)), factors[0][4:])


def test_a_blur_is_a_gaussian_cut_at_the_border(images: Tensor) -> None:
    sigma = torch.tensor([0.0, 0.3, 0.7, 1.0, 1.5, 2.0], dtype=torch.float64)
    blurred = gaussian_blur(images, sigma)
    assert torch.equal(blurred[0], images[0])
    for number in (1, 3, 5):
        for y, x in ((0, 0), (7, 25), (10, 13)):
            total, weights = torch.zeros(3, dtype=torch.float64), 0.0
            for row in range(20):
                for column in range(26):
                    weight = math.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * float(sigma[number]) ** 2))
                    total, weights = total + weight * images[number, :, row, column], weights + weight
            torch.testing.assert_close(blurred[number, :, y, x], total / weights, rtol=0, atol=1e-10)


def test_weights_far_from_a_pixel_are_zero_and_not_denormal() -> None:
    """Products with numbers below the smallest normal one take ten times as long on a processor."""
    weights = _gaussian_weights(torch.linspace(0.1, 2.0, 20), 224)
    assert weights[weights > 0].min() > 1e-14
    assert torch.equal(weights.sum(2).round(decimals=5), torch.ones(20, 224))


def test_some_are_blurred(images: Tensor) -> None:
    view, params = GaussianBlur(0.5, sigma=(0.5, 1.0)).record(images, draws_for(images))
    sigma = params["blur"][:, 0]
    assert {True, False} == set((sigma > 0).tolist())
    assert torch.equal(view[sigma == 0], images[sigma == 0])
    torch.testing.assert_close(view[sigma > 0], gaussian_blur(images, sigma)[sigma > 0])
    drawn = GaussianBlur(0.3, sigma=(0.5, 1.0)).record(torch.rand(3000, 1, 1, 1), Draws.seeded(0, total=3000))[1]["blur"]
    assert abs(float((drawn > 0).float().mean()) - 0.3) < 0.03
    assert 0.5 <= float(drawn[drawn > 0].min()) < 0.52


def test_some_are_grey(images: Tensor) -> None:
    view, params = Grey(0.5).record(images, draws_for(images))
    grey = params["grey"][:, 0].bool()
    assert {True, False} == set(grey.tolist())
    assert torch.equal(view[~grey], images[~grey])
    torch.testing.assert_close(view[grey], grey_of(images)[grey].expand(-1, 3, -1, -1))


def test_some_are_solarised(images: Tensor) -> None:
    before = images.clone()
    view, params = Solarise(0.5).record(images, draws_for(images))
    chosen = params["solarise"][:, 0].bool()
    assert {True, False} == set(chosen.tolist())
    assert torch.equal(view[~chosen], images[~chosen])
    torch.testing.assert_close(view[chosen], torch.where(images < 0.5, images, 1 - images)[chosen])
    assert torch.equal(images, before)
    assert torch.equal(solarise(images, 2.0), images)


def test_changes_of_chosen_images_see_their_rows(images: Tensor) -> None:
    chosen = torch.tensor([False, True, False, False, True, False])
    seen: list[Tensor] = []
    made = on_chosen(images, chosen, lambda some, rows: (seen.append(rows), some + 1)[1])
    assert torch.equal(made, images + chosen.view(-1, 1, 1, 1))
    assert seen[0].tolist() == [1, 4]
    assert on_chosen(images, torch.zeros(6, dtype=torch.bool), torch.add) is images


def test_strengths_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"a hue of at most 0.5, and was given 0.4, 0.4, 0.2, 0.6"):
        ColourJitter(hue=0.6)
    with pytest.raises(UserError, match=r"a blur of 2 to 1 pixels was asked for"):
        GaussianBlur(sigma=(2.0, 1.0))
