"""What the numbers of an image mean: images are (B, C, H, W), float in [0, 1], or uint8 in 0 .. 255 while they are stored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601), those of PIL."""


def as_float(images: Tensor) -> Tensor:
    """Images as floats in [0, 1]: uint8 is divided by 255, floats stay what they are.

    >>> as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    return images / 255 if images.dtype == torch.uint8 else images


def as_stored(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in [0, 1] in the type that images are stored in: uint8 is 255 times as much, rounded.

    >>> as_stored(torch.tensor([0.0, 0.5, 1.0]), torch.uint8).tolist()
    [0, 128, 255]
    """
    return (images * 255).round().to(dtype) if dtype == torch.uint8 else images.to(dtype)


def grey_of(images: Tensor) -> Tensor:
    """The grey value of every pixel, (B, 1, H, W): BT.601 luma of three channels, the mean of any other number of them.

    >>> grey_of(torch.ones(2, 3, 1, 1)).flatten().tolist()
    [1.0, 1.0]
    """
    if images.shape[1] != len(LUMA):
        return images.mean(1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def per_sample(values: Tensor, images: Tensor) -> Tensor:
    """Numbers (B,) or (B, 1), one for each image, in a shape that multiplies images (B, C, H, W), and in their type and on their device."""
    return values.reshape(-1, 1, 1, 1).to(images)


def on_chosen(images: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The images with `change(images[rows], rows)` in the place of the chosen ones; for changes that few images undergo and that cost much.

    images: (B, C, H, W), chosen: (B,) bool. The images that came in stay as they are. On an accelerator all of them are changed and the
    chosen ones taken: to count them, the host would have to wait for the device.

    >>> on_chosen(torch.ones(3, 1, 1, 1), torch.tensor([True, False, True]), lambda some, rows: some + rows.view(-1, 1, 1, 1)).flatten()
    tensor([1., 1., 3.])
    """
    if images.device.type != "cpu":
        every = torch.arange(len(images), device=images.device)
        return torch.where(chosen.view(-1, 1, 1, 1), change(images, every), images)
    rows = chosen.nonzero()[:, 0]
    return images.index_copy(0, rows, change(images[rows], rows)) if len(rows) else images
