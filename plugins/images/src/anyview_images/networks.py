"""From what fills a recipe's encoder slot to the encoder of its images."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Needs, ObjectiveSlot
from anyview.views.view import Mask, View
from anyview_images.pixels import as_float

EncoderSlot = Callable[[int], Encoder]
"""A recipe's parameter that takes any encoder of images: called with the number of their channels."""

MEAN, STD = 0.5, 0.25
"""Images from [0, 1] reach encoders shifted and scaled by these, to [-2, 2]."""


class Normalised(Encoder):
    """An encoder of images that are in [0, 1], or uint8, and reach the encoder within it in [-2, 2].

    Normalising belongs to the encoder and not to the views: those that a trained encoder is used on were made by no view maker.

    >>> from anyview_images.resnet import ResNet
    >>> Normalised(ResNet(1, depth=10, widths=(8,)))(View(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))).rows.shape
    torch.Size([2, 8])
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.dim, self.tokens, self.masks = encoder, encoder.dim, encoder.tokens, encoder.masks

    def forward(self, view: View) -> Encoding:
        encoding: Encoding = self.encoder(replace(view, data=(as_float(view.data) - MEAN) / STD))
        return encoding


def make_encoder(slot: EncoderSlot, channels: int, needs: Needs | None = None) -> Normalised:
    """The encoder of images with so many channels; its options "tokens" and "masked", if it has them, are switched on where `needs` ask."""
    needs = needs or Needs()
    asked = {"tokens": needs.tokens, "masked": needs.masks and not needs.drops}
    known = inspect.signature(slot).parameters
    return Normalised(slot(channels, **{name: True for name, wanted in asked.items() if wanted and name in known}))


def needs_of(slot: ObjectiveSlot) -> Needs:
    """What the objective in a slot needs, before it is made."""
    made = slot.func if isinstance(slot, functools.partial) else slot
    return getattr(made, "needs", Needs())


def check_reads(encoder: Normalised, channels: int, height: int, width: int, mask: Mask | None = None) -> Encoding:
    """The encoding of one blank image; raises UserError when the encoder cannot read images of that size, or the mask."""
    training = encoder.training
    try:
        with torch.no_grad():
            encoding: Encoding = encoder.eval()(View(torch.zeros(1, channels, height, width), mask=mask))
    except (RuntimeError, ValueError, TypeError) as error:
        name, reason = type(encoder.encoder).__name__, " ".join(str(error).split())
        shown = f"{'masked ' if mask is not None else ''}images of {channels} x {height} x {width}"
        raise UserError(f"{name} cannot read {shown} ({reason}); choose another encoder or size") from error
    finally:
        encoder.train(training)
    return encoding


def token_grid(encoder: Normalised, channels: int, size: int, *, drop: bool) -> tuple[int, int]:
    """How many tokens an encoder makes of a view of that size, down and across.

    drop: whether masks leave tokens out, or show a token in their place. Raises UserError for an encoder that makes none or reads no such
    masks.

    >>> from anyview_images.vision_transformer import VisionTransformer
    >>> token_grid(Normalised(VisionTransformer(1, patch=4, dim=8, depth=1, heads=2)), 1, 28, drop=True)
    (7, 7)
    """
    coordinates = check_reads(encoder, channels, size, size).coordinates
    if coordinates is None:
        raise UserError(
            f"{type(encoder.encoder).__name__} makes no tokens that could be hidden; choose --encoder images/vision_transformer"
        )
    down, across = (len(axis.unique()) for axis in coordinates[0].unbind(1))
    first = torch.arange(down * across)[None] == 0
    check_reads(encoder, channels, size, size, Mask(first, drop=drop))
    return down, across


def sides(shape: Mapping[str, int], size: int | None) -> tuple[int, int]:
    """Channels of a source's images, and the pixels of a view's sides: those asked for, else the shorter of the images' own.

    >>> sides({"channels": 3, "height": 32, "width": 40}, None)
    (3, 32)
    """
    return shape["channels"], size or min(shape["height"], shape["width"])
