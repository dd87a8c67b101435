"""What a view does to colours: jitter, grey, blur, solarisation; one set of numbers for each sample, on images (B, C, H, W) in [0, 1].

The functions are PIL's and torchvision's operations with one factor for each image; the classes draw the factors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import threshold

from anyview.errors import UserError
from anyview.views.draws import Draws
from anyview.views.pair import Params, RecordedTransform
from anyview_images.geometry import separable
from anyview_images.pixels import grey_of, on_chosen, per_sample


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """factor·images + (1 - factor)·other, cut to [0, 1]; factor: (B,), also above 1; other: whatever broadcasts to the images."""
    factor = per_sample(factor, images)
    return (images * factor).add_((1 - factor) * other).clamp_(0, 1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Images nearer to black (factor below 1) or brighter; factor: (B,).

    >>> adjust_brightness(torch.full((2, 1, 1, 1), 0.4), torch.tensor([0.5, 2.0])).flatten()
    tensor([0.2000, 0.8000])
    """
    return (images * per_sample(factor, images)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Images nearer to their mean grey value (factor below 1), or further from it; factor: (B,)."""
    return blend(images, grey_of(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Images nearer to their grey version (factor below 1), or more colourful; factor: (B,). Images of one channel stay as they are."""
    return images if images.shape[1] == 1 else blend(images, grey_of(images), factor)


def shift_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Images whose hues are shifted by `turn` (B,) of the colour circle; saturation and value stay. Needs three channels, others stay.

    >>> shift_hue(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), torch.tensor([1 / 3])).flatten().round(decimals=4)
    tensor([0., 1., 0.])
    """
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    # the hue times 6, at the largest channel: 0 at red, 2 at green, 4 at blue
    hue = torch.where(value == green, (blue - red).add_(chroma, alpha=2), (red - green).add_(chroma, alpha=4))
    hue = torch.where(value == red, green - blue, hue).div_(chroma.clamp(min=torch.finfo(images.dtype).tiny))
    hue.add_(6 * per_sample(turn, images)[:, 0])
    # each channel loses chroma the further the hue is from its own: not at all to a distance of 1, wholly from 2 on
    own = torch.arange(0, 6, 2, dtype=images.dtype, device=images.device).view(3, 1, 1)
    away = hue[:, None] - own
    away = away.sub_(away.div(6).round_(), alpha=6).abs_()
    return value[:, None] - away.sub_(1).clamp_(0, 1).mul_(chroma[:, None])


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Images blurred by a Gaussian of standard deviation `sigma` (B,), in pixels; 0 leaves an image as it is.

    At the border the Gaussian is cut and scaled to sum to 1.
    """
    sigma = sigma.to(images)
    rows, columns = (_gaussian_weights(sigma, size) for size in images.shape[2:])
    return separable(images, rows, columns)


SMALLEST = -30.0
"""Weights of less than its exponential are 0: in float32 they add nothing to 1, and processors multiply by denormal numbers slowly."""


def _gaussian_weights(sigma: Tensor, size: int) -> Tensor:
    places = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = (places[:, None] - places).square()
    exponents = distance / (-2 * sigma.clamp(min=1e-3).square())[:, None, None]  # exp(-5e5) is 0: the identity
    weights = threshold(exponents, SMALLEST, -math.inf, inplace=True).exp_()
    return weights.div_(weights.sum(2, keepdim=True))


def solarise(images: Tensor, threshold: float = 0.5) -> Tensor:
    """Images with what is at least as bright as the threshold inverted.

    >>> solarise(torch.tensor([0.2, 0.8]).view(1, 1, 1, 2)).flatten()
    tensor([0.2000, 0.2000])
    """
    return torch.where(images >= threshold, 1 - images, images)


class ColourJitter(RecordedTransform):
    """Changes brightness, contrast, saturation and hue, in this order; records "jitter" (B, 4): three factors and a turn.

    brightness, contrast, saturation s: factors from [1 - s, 1 + s], not below 0, 1 where nothing changes. hue h: turns from [-h, h] of the
    colour circle, h at most 0.5. probability: of an image being changed at all. shared: one draw for the whole batch, for methods that want
    its samples alike. Images of one channel have neither saturation nor hue, which then are left alone.

    >>> ColourJitter()(torch.rand(4, 3, 8, 8), Draws.seeded(0, total=4)).shape
    torch.Size([4, 3, 8, 8])
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        *,
        probability: float = 0.8,
        shared: bool = False,
    ) -> None:
        if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
            found = f"{brightness:g}, {contrast:g}, {saturation:g}, {hue:g}"
            raise UserError(f"colour jitter takes strengths of at least 0 and a hue of at most 0.5, and was given {found}")
        self.strengths, self.probability, self.shared = (brightness, contrast, saturation, hue), probability, shared

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        factors = self.factors(draws)
        brightness, contrast, saturation, turn = factors.unbind(1)
        changes = (
            (adjust_brightness, brightness),
            (adjust_contrast, contrast),
            (adjust_saturation, saturation),
            (shift_hue, turn),
        )
        for strength, (change, amount) in zip(self.strengths, changes, strict=True):
            if strength:
                data = change(data, amount)
        return data, {"jitter": factors}

    def factors(self, draws: Draws) -> Tensor:
        """What the images of a batch are changed by, (rows, 4)."""
        chance = draws.shared_uniform(1, 5).expand(draws.rows, 5) if self.shared else draws.uniform(5)
        spread = (2 * chance[:, :4] - 1).unbind(1)
        brightness, contrast, saturation, turn = (strength * part for strength, part in zip(self.strengths, spread, strict=True))
        drawn = torch.stack([*((1 + part).clamp(min=0) for part in (brightness, contrast, saturation)), turn], dim=1)
        nothing = torch.ones_like(drawn)
        nothing[:, 3] = 0
        return torch.where(chance[:, 4:] < self.probability, drawn, nothing)


class Grey(RecordedTransform):
    """Turns some images grey, keeping their channels; records "grey" (B, 1): 1 or 0.

    >>> view = Grey(1.0)(torch.rand(4, 3, 8, 8), Draws.seeded(0, total=4))
    >>> bool((view[:, 0] == view[:, 2]).all())
    True
    """

    def __init__(self, probability: float = 0.2) -> None:
        self.probability = probability

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        chosen = draws.bernoulli(self.probability, 1)
        if data.shape[1] > 1:
            data = torch.where(chosen.view(-1, 1, 1, 1), grey_of(data), data)
        return data, {"grey": chosen.float()}


class GaussianBlur(RecordedTransform):
    """Blurs some images; records "blur" (B, 1): the standard deviation in pixels of the view, 0 = none.

    probability: of an image being blurred. sigma: least and largest standard deviation.

    >>> GaussianBlur(0.5)(torch.rand(4, 3, 8, 8), Draws.seeded(0, total=4)).shape
    torch.Size([4, 3, 8, 8])
    """

    def __init__(self, probability: float = 0.5, *, sigma: tuple[float, float] = (0.1, 2.0)) -> None:
        if not 0 <= sigma[0] <= sigma[1]:
            raise UserError(
                f"a blur of {sigma[0]:g} to {sigma[1]:g} pixels was asked for; give two numbers of at least 0, the smaller first"
            )
        self.probability, self.sigma = probability, sigma

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        chance = draws.uniform(2)
        drawn = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * chance[:, :1]
        sigma = torch.where(chance[:, 1:] < self.probability, drawn, 0.0)
        return on_chosen(data, sigma[:, 0] > 0, lambda images, rows: gaussian_blur(images, sigma[rows, 0])), {"blur": sigma}


class Solarise(RecordedTransform):
    """Inverts the bright parts of some images; records "solarise" (B, 1): 1 or 0.

    probability: of an image being changed. threshold: how bright a bright part is, in [0, 1].

    >>> Solarise(1.0)(torch.tensor([0.1, 0.9]).view(1, 1, 1, 2), Draws.seeded(0, total=1)).flatten()
    tensor([0.1000, 0.1000])
    """

    def __init__(self, probability: float = 0.2, *, threshold: float = 0.5) -> None:
        self.probability, self.threshold = probability, threshold

    def record(self, data: Tensor, draws: Draws) -> tuple[Tensor, Params]:
        chosen = draws.bernoulli(self.probability, 1)
        data = on_chosen(data, chosen[:, 0], lambda images, _: solarise(images, self.threshold))
        return data, {"solarise": chosen.float()}
