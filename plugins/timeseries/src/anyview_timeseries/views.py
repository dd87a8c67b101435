"""Views of windows: coefficients in frames, without any random choice, and pairs of augmented windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import unknown
from anyview.views.draws import Draws
from anyview.views.maker import Gives, Transform, ViewMaker
from anyview.views.pair import Chain, Pair
from anyview.views.view import View, ViewSet
from anyview_timeseries.augmentations import Crop, Jitter, MagnitudeWarp, Permute, Scale, TimeWarp
from anyview_timeseries.frames.frame import Frame
from anyview_timeseries.frames.table import make_frames


class Frames(ViewMaker):
    """The window itself, as the stream "time", and its coefficients in each frame, as the stream of the frame's name.

    frames: names, or frames by names of one's own. cache: keep the coefficients of every sample, which takes their memory but makes
    them once; a sample whose window has changed is made again.

    Data is windows (B, C, T); nothing is drawn.

    >>> views = Frames(["fourier", "morlet"])(Batch(torch.randn(4, 1, 50), 4), Draws.seeded(0, total=4)).views
    >>> [(view.stream, tuple(view.data.shape)) for view in views]
    [('time', (4, 1, 50)), ('fourier', (4, 2, 26)), ('morlet', (4, 1, 48, 50))]
    """

    gives = Gives(views=2)

    def __init__(self, frames: Mapping[str, Frame] | Sequence[str] = ("fourier", "morlet"), *, cache: bool = False) -> None:
        self.frames = dict(frames) if isinstance(frames, Mapping) else make_frames(frames)
        self.gives = Gives(views=1 + len(self.frames))
        self.caches = {name: Cache(frame) for name, frame in self.frames.items()} if cache else {}

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        made = {"time": batch.data, **{name: self._shown(name, batch) for name in self.frames}}
        views = [View(data, stream=name, index=batch.index, groups=batch.groups) for name, data in made.items()]
        return ViewSet(views, labels=batch.labels)

    def _shown(self, name: str, batch: Batch) -> Tensor:
        if name in self.caches and batch.index is not None:
            return self.caches[name](batch.data, batch.index)
        return self.frames[name].show(batch.data)


class Cache:
    """What a frame shows of each sample, made once: `cache(windows, index)` for windows (B, C, T) of the samples index (B,).

    The windows are kept too, and a sample whose window is another than before is made again.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.windows = self.shown = torch.empty(0)
        self.known = torch.empty(0, dtype=torch.bool)

    def __call__(self, windows: Tensor, index: Tensor) -> Tensor:
        if self.windows.shape[1:] != windows.shape[1:] or self.windows.device != windows.device or self.windows.dtype != windows.dtype:
            self.__init__(self.frame)  # type: ignore[misc]
            self.known = self.known.to(windows.device)
            self.windows = windows.new_empty(0, *windows.shape[1:])
        if len(self.known) <= int(index.max()):
            self._grow(int(index.max()) + 1, windows)
        new = ~self.known[index] | (self.windows[index] != windows).flatten(1).any(1)
        if new.any():
            self.shown[index[new]] = self.frame.show(windows[new])
            self.windows[index[new]], self.known[index[new]] = windows[new], True
        return self.shown[index]

    def _grow(self, samples: int, windows: Tensor) -> None:
        """Make room for so many samples, and for as many again, so that it is seldom made."""
        added = 2 * samples - len(self.known)
        if not self.shown.numel():
            self.shown = self.frame.show(windows[:1])[:0]
        self.shown, self.windows, self.known = (
            torch.cat([kept, kept.new_zeros(added, *kept.shape[1:])]) for kept in (self.shown, self.windows, self.known)
        )


AugmentationName = Literal["weak", "strong", "motion", "crops"]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to a window, as a row of the table below; see the transforms of each name, which 0 (segments: 1) leaves out.

    scale, time_warp, magnitude_warp: largest factor. crop: least share of a window that a view shows.
    """

    crop: float = 0.0
    time_warp: float = 0.0
    segments: int = 1
    magnitude_warp: float = 0.0
    scale: float = 1.5
    jitter: float = 0.3

    def transform(self, size: int | None) -> Chain:
        """The transform that makes a view of windows (B, C, T)."""
        steps: list[Transform] = []
        if self.time_warp:
            steps.append(TimeWarp(self.time_warp))
        if self.segments > 1:
            steps.append(Permute(self.segments))
        if self.crop or size is not None:
            steps.append(Crop(size, least=self.crop or 1.0))
        if self.magnitude_warp:
            steps.append(MagnitudeWarp(self.magnitude_warp))
        if self.scale:
            steps.append(Scale(self.scale))
        if self.jitter:
            steps.append(Jitter(self.jitter))
        return Chain(*steps)


AUGMENTATIONS: dict[str, Augmentation] = {
    "weak": Augmentation(),
    "strong": Augmentation(segments=5, jitter=0.8),
    "motion": Augmentation(crop=0.5, time_warp=1.3, magnitude_warp=1.3, jitter=0.2),
    "crops": Augmentation(crop=0.3, scale=0.0, jitter=0.0),
}
"""Augmentations by name: "weak" scales and jitters; "strong" also permutes pieces of the window; "motion" shows a stretch of it, at another
speed and strength; "crops" shows a stretch and changes nothing else."""


def augmentation_row(name: str, **changes: Any) -> Augmentation:
    """A row of the table, with changes; None changes nothing. Raises UserError for a name that is not in it.

    >>> augmentation_row("weak", jitter=0.1).jitter
    0.1
    """
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS, look="docs/timeseries.md")
    return replace(AUGMENTATIONS[name], **{key: value for key, value in changes.items() if value is not None})


class AugmentedPair(Pair):
    """Two augmented views of every window, as the stream "time", by an augmentation of the table.

    augmentation: the first view's. second: the second's, by default the same. size: steps of a view; None: those of the window. changes: to
    both rows of the table, by the names of Augmentation.

    Data is windows (B, C, T); views record what was drawn, "box" among it where they show a stretch.

    >>> views = AugmentedPair("motion")(Batch(torch.randn(4, 2, 50), 4), Draws.seeded(0, total=4)).views
    >>> [tuple(view.data.shape) for view in views], sorted(views[0].params)
    ([(4, 2, 50), (4, 2, 50)], ['box', 'jitter', 'magnitude_warp', 'scale', 'time_warp'])
    """

    def __init__(
        self, augmentation: AugmentationName = "motion", *, second: AugmentationName | None = None, size: int | None = None, **changes: Any
    ) -> None:
        rows = [augmentation_row(name, **changes) for name in (augmentation, second or augmentation)]
        super().__init__(*(row.transform(size) for row in rows))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = super().__call__(batch, draws)
        return replace(views, views=[replace(view, stream="time") for view in views.views])
