"""Frames by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anyview.errors import UserError, unknown
from anyview_timeseries.frames.continuous import MexicanHat, Morlet
from anyview_timeseries.frames.frame import Frame
from anyview_timeseries.frames.gabor import Gabor
from anyview_timeseries.frames.orthonormal import Cosine, Fourier, Identity, RandomOrthonormal
from anyview_timeseries.frames.wavelets import Wavelets

FrameOptions = dict[str, dict[str, Any]] | None
"""A recipe's parameter with options of frames, by their names: {"morlet": {"scales": "fit"}}."""

FRAMES: dict[str, Callable[..., Frame]] = {
    "fourier": Fourier,
    "cosine": Cosine,
    "haar": functools.partial(Wavelets, "haar"),
    **{f"db{order}": functools.partial(Wavelets, f"db{order}") for order in range(2, 9)},
    "wavelets": Wavelets,
    "identity": Identity,
    "random": RandomOrthonormal,
    "morlet": Morlet,
    "mexican_hat": MexicanHat,
    "gabor": Gabor,
}


def make_frame(name: str, **options: Any) -> Frame:
    """The frame of a name, with options of its own; raises UserError for a name or an option that there is not.

    >>> make_frame("db4", levels=2).sizes(20)
    [5, 5, 10]
    """
    if name not in FRAMES:
        raise unknown("frame", name, FRAMES, look="docs/timeseries.md")
    known = inspect.signature(FRAMES[name]).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of the frame {name!r}", option, known, look="docs/timeseries.md")
    return FRAMES[name](**options)


def make_frames(names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Frame]:
    """Frames by name; raises UserError where there is none, one twice, or options are for one that there is not.

    options: by the names of frames; those of frames that are not asked for wait until they are, so that presets may hold them.
    """
    options = options or {}
    if not names:
        raise UserError("the views of a window are itself and at least one frame, and none was given; give one such as fourier")
    for name in names:
        if list(names).count(name) > 1:
            raise UserError(f"the frame {name!r} was asked for twice; give each once")
    for name in options:
        if name not in FRAMES:
            raise unknown("frame (with options)", name, FRAMES, look="docs/timeseries.md")
    return {name: make_frame(name, **options.get(name, {})) for name in names}
