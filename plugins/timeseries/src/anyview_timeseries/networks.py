"""From what fills a recipe's encoder slot to the encoder of its windows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import torch

from anyview.data.source import Source
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.objectives.objective import Needs, ObjectiveSlot
from anyview.views.view import View

EncoderSlot = Callable[[int], Encoder]
"""A recipe's parameter that takes any encoder of windows: called with the number of their channels."""


def make_encoder(slot: EncoderSlot, source: Source, needs: Needs | None = None) -> Encoder:
    """The encoder of a source's windows; its options "tokens" and "masked", if it has them, are switched on where `needs` ask for them.

    Raises UserError when it cannot read such windows.
    """
    needs = needs or Needs()
    asked = {"tokens": needs.tokens, "masked": needs.masks and not needs.drops}
    known = inspect.signature(slot).parameters
    channels, length = source.shape["channels"], source.shape["length"]
    encoder = slot(channels, **{name: True for name, wanted in asked.items() if wanted and name in known})
    try:
        with torch.no_grad():
            encoder.eval()(View(torch.zeros(1, channels, length)))
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        name = type(encoder).__name__
        raise UserError(f"{name} cannot read windows of {channels} x {length} ({reason}); choose another encoder") from error
    return encoder.train()


def needs_of(slot: ObjectiveSlot) -> Needs:
    """What the objective in a slot needs, before it is made."""
    made = slot.func if isinstance(slot, functools.partial) else slot
    return getattr(made, "needs", Needs())


def require_whole(source: Source) -> None:
    """Raise UserError where values are missing, which frames and convolutions cannot read."""
    if getattr(source, "has_gaps", False):
        asked = f"windows of {source.name!r} have missing values, which this recipe cannot read"
        raise UserError(f"{asked}; fill them, as with --reading.missing interpolate")
