"""Shifts of images that a frozen encoder is tested on, each in five severities; batched, on images (B, C, H, W) in [0, 1].

After Hendrycks, Dietterich. Benchmarking Neural Network Robustness to Common Corruptions and Perturbations. 2019, arXiv 1903.12261;
strengths follow the size of an image, so that they mean the same for 8 pixels and for 224.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyview.data.shifts import Shift
from anyview.errors import UserError
from anyview_images.colour import adjust_contrast, gaussian_blur
from anyview_images.geometry import move

NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)
BLUR = (0.015, 0.025, 0.04, 0.055, 0.08)
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
OCCLUSION = (0.04, 0.08, 0.14, 0.2, 0.3)
ROTATION = (8.0, 15.0, 25.0, 35.0, 50.0)
TRANSLATION = (0.04, 0.08, 0.12, 0.16, 0.22)


def gaussian_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Noise of standard deviation 0.04 to 0.26 on every number, cut to [0, 1]."""
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return (images + _of(NOISE, severity) * noise).clamp_(0, 1)


def blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001  nothing is drawn
    """A Gaussian blur, its standard deviation 1.5 to 8 % of the longer side."""
    sigma = _of(BLUR, severity) * max(images.shape[2:])
    return gaussian_blur(images, images.new_full((len(images),), sigma))


def contrast(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001  nothing is drawn
    """75 to 15 % of the contrast, about the image's mean grey value."""
    return adjust_contrast(images, images.new_full((len(images),), _of(CONTRAST, severity)))


def brightness(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001  nothing is drawn
    """0.1 to 0.5 added to every number, cut to [0, 1]."""
    return (images + _of(BRIGHTNESS, severity)).clamp_(0, 1)


def occlusion(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A grey rectangle of the image's aspect over 4 to 30 % of its area, at a place of each image's own."""
    side = _of(OCCLUSION, severity) ** 0.5
    start = (1 - side) * _uniform(images, 2, generator)
    hidden = []
    for axis, size in enumerate(images.shape[2:]):
        place = (torch.arange(size, device=images.device) + 0.5) / size
        begin = start[:, axis, None]
        hidden.append((place >= begin) & (place < begin + side))
    return images.masked_fill((hidden[0][:, :, None] & hidden[1][:, None, :])[:, None], 0.5)


def rotation(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A turn by 8 to 50 degrees, to either side by chance; black beyond the border."""
    turn = _of(ROTATION, severity) * _side(images, 1, generator)
    return move(images, torch.cat([turn, torch.ones_like(turn), torch.zeros_like(turn).expand(-1, 2)], dim=1))


def translation(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A shift by 4 to 22 % of the sides, up or down and left or right by chance; black beyond the border."""
    shift = _of(TRANSLATION, severity) * _side(images, 2, generator)
    still = shift.new_tensor([0.0, 1.0]).expand(len(images), 2)
    return move(images, torch.cat([still, shift], dim=1))


CORRUPTIONS: dict[str, Shift] = {
    "gaussian_noise": gaussian_noise,
    "blur": blur,
    "contrast": contrast,
    "brightness": brightness,
    "occlusion": occlusion,
    "rotation": rotation,
    "translation": translation,
}


def corruptions() -> dict[str, Shift]:
    """All shifts by name.

    >>> corruptions()["occlusion"](torch.ones(2, 1, 10, 10), 5, torch.Generator().manual_seed(0)).mean((1, 2, 3))
    tensor([0.8200, 0.8500])
    """
    return dict(CORRUPTIONS)


def _of(strengths: tuple[float, ...], severity: int) -> float:
    if not 1 <= severity <= len(strengths):
        raise UserError(f"a shift has the severities 1 to {len(strengths)}, and {severity} was asked for")
    return strengths[severity - 1]


def _uniform(images: Tensor, numbers: int, generator: torch.Generator) -> Tensor:
    return torch.rand(len(images), numbers, generator=generator, device=images.device, dtype=images.dtype)


def _side(images: Tensor, numbers: int, generator: torch.Generator) -> Tensor:
    """1 or -1, (B, numbers)."""
    return torch.where(_uniform(images, numbers, generator) < 0.5, -1.0, 1.0).to(images)
