"""Views of windows: coefficients in frames, without any random choice, and pairs of augmented windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
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
