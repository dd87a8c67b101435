"""Where a view looks: crops that are resized and turned round, small rotations and shifts; one set of numbers for each sample.

A resize along one axis is a linear map, so each sample has two small matrices, one per axis, and a batch is resized by two batched matrix
products: no loop over samples, and the same numbers on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.pair import Params, RecordedTransform
from anyview_images.pixels import as_float

TRIES = 10
"""How often a crop's area and aspect are drawn before the largest centred crop is taken, as is usual."""


def resize_weights(start: Tensor, extent: Tensor, size: int, out: int) -> Tensor:
    """The matrices (B, out, size) that resize one axis of `size` pixels, from `start` over `extent`, to `out` pixels.

    start, extent: (B,) shares of the axis; below 0, the extent runs backwards and the axis is turned round. Each output pixel is the mean
    of the input under a triangle as wide as two output pixels (two input pixels where the crop is enlarged): bilinear with antialiasing, as
    PIL's `resize` with a box does it.

    >>> resize_weights(torch.tensor([0.0, 1.0]), torch.tensor([1.0, -1.0]), 2, 2).tolist()
    [[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]
    """
    scale = (extent * (size / out))[:, None]
    places = torch.arange(max(size, out), device=start.device, dtype=start.dtype) + 0.5
    centres = (start * size)[:, None] + places[:out] * scale
    weights = places[:size] - centres[..., None]
    weights = weights.abs_().div_(scale.abs().clamp(min=1)[..., None]).neg_().add_(1).clamp_(min=0)
    return weights.div_(weights.sum(2, keepdim=True))


def separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each image (C, H, W) with its own pair of matrices: rows @ image @ columnsᵀ.

    images: (B, C, H, W), rows: (B, h, H), columns: (B, w, W); the result is (B, C, h, w). Computed in the images' type under autocast too:
    half precision has fewer grey values than an image.
    """
    with torch.autocast(images.device.type, enabled=False):
        batch, channels, height, width = images.shape
        across = torch.bmm(images.reshape(batch, channels * height, width), columns.transpose(1, 2))
        across = across.view(batch, channels, height, columns.shape[1])
        return torch.stack([torch.bmm(rows, across[:, channel]) for channel in range(channels)], dim=1)


def crop_resize(images: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """What each box shows of its image, resized to `size` (h, w) by `resize_weights`.

    images: (B, C, H, W), box: (B, 4) start and extent along both axes, as in `View.params`. Returns (B, C, h, w).
    """
    height, width = images.shape[2:]
    start_y, start_x, extent_y, extent_x = box.to(images).unbind(1)
    rows, columns = resize_weights(start_y, extent_y, height, size[0]), resize_weights(start_x, extent_x, width, size[1])
    return separable(images, rows, columns)


class RandomResizedCrop(RecordedTransform):
    """Cuts a random rectangle out of every image, resizes it to a square and turns some round; records the "box" (B, 4).

    size: pixels of the view's sides. scale: least and largest share of the image's area. ratio: least and largest width over height, in
    pixels. flip: how likely a view is turned round; its box then starts on the right and has a negative extent. Area and aspect
    (log-uniform) are drawn up to ten times until they fit into the image; else the view is the largest centred rectangle of an allowed
    aspect. Takes images (B, C, H, W), uint8 or float; gives float in [0, 1]. Raises UserError for scales outside of (0, 1].

    >>> view, params = RandomResizedCrop(16).record(torch.rand(4, 3, 32, 32), Draws.seeded(0, total=4))
    >>> view.shape, params["box"].shape
    (torch.Size([4, 3, 16, 16]), torch.Size([4, 4]))
    """

    def __init__(
        self, size: int, *, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3), flip: float = 0.5
    ) -> None:
        if size < 1 or not 0 < scale[0] <= scale[1] <= 1:
            found = f"{size} pixels showing {scale[0]:g} to {scale[1]:g} of the image"
            raise UserError(f"crops of {found} were asked for; give at least one pixel and shares above 0, at most 1, the smaller first")
        if not 0 < ratio[0] <= ratio[1]:
            raise UserError(f"crops of aspects {ratio[0]:g} to {ratio[1]:g} were asked for; give two above 0, the smaller first")
        self.size, self.scale, self.ratio, self.flip = size, scale, ratio, flip

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        box = self.boxes(draws, data.shape[2], data.shape[3])
        return crop_resize(as_float(data), box, (self.size, self.size)), {"box": box}

    def boxes(self, draws: Draws, height: int, width: int) -> Tensor:
        """Boxes (rows, 4) for images of that many pixels."""
        extent, found = self._extents(draws.uniform(TRIES, 2), height, width)
        start = torch.where(found, draws.uniform(2), 0.5) * (1 - extent)
        turned = draws.bernoulli(self.flip)
        start_x = start[:, 1] + turned * extent[:, 1]
        extent_x = torch.where(turned, -extent[:, 1], extent[:, 1])
        return torch.stack([start[:, 0], start_x, extent[:, 0], extent_x], dim=1)

    def _extents(self, chance: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Extents (rows, 2) of the first of several tries (rows, tries, 2) that fits, else the largest that does; and (rows, 1) which."""
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * chance[..., 0]
        least, most = (math.log(aspect) for aspect in self.ratio)
        aspect = (least + (most - least) * chance[..., 1]).exp() * (height / width)
        tries = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=2)
        fits = (tries <= 1).all(2)
        first = tries.take_along_dim(fits.to(torch.int8).argmax(1)[:, None, None], dim=1)[:, 0]
        found = fits.any(1, keepdim=True)
        return torch.where(found, first, self._largest(first, height, width)), found

    def _largest(self, like: Tensor, height: int, width: int) -> Tensor:
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1]) * height / width
        return torch.stack([like.new_full((), min(1.0, 1 / aspect)), like.new_full((), min(1.0, aspect))])


class RandomAffine(RecordedTransform):
    """Turns, enlarges and shifts every image a little about its centre; records "affine" (B, 4): degrees, scale, shift down, shift right.

    degrees: largest angle, either way. scale: least and largest factor of the size. shift: largest shift, as a share of the side, either
    way. Places from outside the image are black. Takes images (B, C, H, W), uint8 or float; gives float of the same size, bilinear.

    >>> RandomAffine()(torch.rand(4, 1, 28, 28), Draws.seeded(0, total=4)).shape
    torch.Size([4, 1, 28, 28])
    """

    def __init__(self, degrees: float = 15.0, *, scale: tuple[float, float] = (0.85, 1.15), shift: float = 0.1) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise UserError(f"images scaled by {scale[0]:g} to {scale[1]:g} were asked for; give two factors above 0, the smaller first")
        self.degrees, self.scale, self.shift = degrees, scale, shift

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        chance = draws.uniform(4)
        angle = self.degrees * (2 * chance[:, 0] - 1)
        scale = self.scale[0] + (self.scale[1] - self.scale[0]) * chance[:, 1]
        shift = self.shift * (2 * chance[:, 2:] - 1)
        params = torch.cat([angle[:, None], scale[:, None], shift], dim=1)
        return move(as_float(data), params), {"affine": params}


def move(images: Tensor, params: Tensor) -> Tensor:
    """Images (B, C, H, W) turned about their centre, scaled and shifted; bilinear, black beyond the border.

    params: (B, 4) degrees clockwise, factor of the size, shift down and to the right in shares of the side.

    >>> image = torch.zeros(1, 1, 4, 4); image[0, 0, 0, 1] = 1.0
    >>> move(image, torch.tensor([[90.0, 1.0, 0.0, 0.0]]))[0, 0, 1, 3].round(decimals=4)
    tensor(1.)
    """
    height, width = images.shape[2:]
    degrees, scale, down, right = params.to(images).unbind(1)
    cos, sin = degrees.deg2rad().cos() / scale, degrees.deg2rad().sin() / scale
    across, along = 2 * right, 2 * down  # affine_grid measures from -1 to 1
    x = torch.stack([cos, sin * (height / width), -(cos * across + sin * (height / width) * along)], dim=1)
    y = torch.stack([-sin * (width / height), cos, -(cos * along - sin * (width / height) * across)], dim=1)
    with torch.autocast(images.device.type, enabled=False):
        grid = affine_grid(torch.stack([x, y], dim=1), list(images.shape), align_corners=False)
        return grid_sample(images, grid, align_corners=False)
