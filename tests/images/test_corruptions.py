from __future__ import annotations

import pytest
import torch

from anyview.errors import UserError
from anyview_images.colour import gaussian_blur
from anyview_images.corruptions import BLUR, OCCLUSION, ROTATION, TRANSLATION, corruptions
from anyview_images.geometry import move

from .conftest import some_images

NAMES = ("gaussian_noise", "blur", "contrast", "brightness", "occlusion", "rotation", "translation")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_names() -> None:
    assert tuple(corruptions()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_keep_shape_range_and_input_and_follow_their_generator(name: str, channels: int) -> None:
    images = some_images(channels=channels, dtype=torch.float32)
    before, shift = images.clone(), corruptions()[name]
    for severity in range(1, 6):
        shifted = shift(images, severity, generator())
        assert (shifted.shape, shifted.dtype) == (images.shape, images.dtype)
        assert float(shifted.min()) >= 0
        assert float(shifted.max()) <= 1 + 1e-6
        assert torch.equal(shift(images, severity, generator()), shifted)
    assert torch.equal(images, before)
    drawn = name in ("gaussian_noise", "occlusion", "rotation", "translation")
    assert torch.equal(shift(images, 5, generator(1)), shift(images, 5, generator(0))) != drawn


@pytest.mark.parametrize("name", NAMES)
def test_severities_grow(name: str) -> None:
    images = some_images(64, height=32, width=32)
    distances = [float((corruptions()[name](images, severity, generator()) - images).square().mean()) for severity in range(1, 6)]
    assert distances == sorted(distances)
    assert distances[0] > 0
    assert distances[4] > 1.5 * distances[0]


@pytest.mark.parametrize("severity", [0, 6])
@pytest.mark.parametrize("name", NAMES)
def test_severities_that_there_are_not(name: str, severity: int) -> None:
    with pytest.raises(UserError, match=f"has the severities 1 to 5, and {severity} was asked for"):
        corruptions()[name](some_images(1), severity, generator())


def test_shifts_are_what_they_are_called() -> None:
    images = some_images(40, height=32, width=32)
    noise = corruptions()["gaussian_noise"](torch.full_like(images, 0.5), 1, generator()) - 0.5
    assert abs(float(noise.std()) - 0.04) < 1e-3
    brighter = corruptions()["brightness"](images, 2, generator())
    torch.testing.assert_close(brighter, (images + 0.2).clamp(max=1))
    blurred = corruptions()["blur"](images, 4, generator())
    torch.testing.assert_close(blurred, gaussian_blur(images, torch.full((40,), BLUR[3] * 32, dtype=torch.float64)))
    pale = corruptions()["contrast"](images, 3, generator())
    torch.testing.assert_close(pale.std((1, 2, 3)), 0.4 * images.std((1, 2, 3)), rtol=0.2, atol=0)


def test_rotations_and_translations_go_either_way() -> None:
    images = some_images(40, height=32, width=32)
    turned = corruptions()["rotation"](images, 2, generator())
    ways = []
    for sign in (1.0, -1.0):
        params = torch.tensor([[sign * ROTATION[1], 1.0, 0.0, 0.0]], dtype=torch.float64).expand(40, 4)
        ways.append((turned - move(images, params)).abs().amax((1, 2, 3)) < 1e-9)
    assert bool((ways[0] ^ ways[1]).all())
    assert 5 < int(ways[0].sum()) < 35
    shifted = corruptions()["translation"](images, 5, generator())
    found = set()
    for down in (1.0, -1.0):
        for right in (1.0, -1.0):
            params = torch.tensor([[0.0, 1.0, down * TRANSLATION[4], right * TRANSLATION[4]]], dtype=torch.float64).expand(40, 4)
            same = (shifted - move(images, params)).abs().amax((1, 2, 3)) < 1e-9
            found |= set(same.nonzero().flatten().tolist())
            assert bool(same.any())
    assert found == set(range(40))


def test_an_occlusion_covers_its_share() -> None:
    images = torch.ones(200, 1, 64, 64)
    covered = (corruptions()["occlusion"](images, 5, generator()) == 0.5).float()
    assert abs(float(covered.mean()) - OCCLUSION[4]) < 0.01
    assert len(covered.flatten(1).unique(dim=0)) > 100
