"""Small images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.views.draws import Draws


def some_images(count: int = 6, channels: int = 3, height: int = 20, width: int = 26, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images in [0, 1], each another: slow waves and some noise, so that neighbouring pixels are alike and none are equal."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, channels, 5, 5, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (0.8 * smooth + 0.2 * torch.rand(smooth.shape, generator=generator, dtype=torch.float64)).to(dtype)


def draws_for(images: Tensor, seed: int = 0) -> Draws:
    """The draws of a step whose batch these images are."""
    return Draws.seeded(seed, total=len(images))


def batch_of(images: Tensor) -> Batch:
    """The images as one batch."""
    return Batch(images, len(images), index=torch.arange(len(images)))


@pytest.fixture
def images() -> Tensor:
    """Six images of 20 x 26 pixels, three channels, float64."""
    return some_images()
