"""Views of windows in frames: streams, nothing random, and a cache that never lies."""

from __future__ import annotations

import torch

from anyview.data.source import Batch
from anyview.testing import check_view_maker
from anyview.views.draws import Draws
from anyview.views.view import ViewSet
from anyview_timeseries.frames.continuous import Morlet
from anyview_timeseries.views import Frames


def batch_of(windows: torch.Tensor, index: torch.Tensor | None = None) -> Batch:
    return Batch(windows, len(windows), index=torch.arange(len(windows)) if index is None else index, groups={"subject": windows[:, 0, 0]})


def views_of(maker: Frames, batch: Batch) -> ViewSet:
    return maker(batch, Draws.seeded(0, total=batch.rows))


def test_contract() -> None:
    for cache in (False, True):
        maker = Frames(["fourier", "morlet", "identity", "random", "db4"], cache=cache)
        check_view_maker(maker, batch_of(torch.randn(12, 2, 40)), random=False)
        assert maker.gives.views == 6


def test_streams_are_the_frames_names() -> None:
    views = views_of(Frames({"narrow": Morlet(count=5), "haar": Morlet()}), batch_of(torch.randn(4, 1, 30))).views
    assert [view.stream for view in views] == ["time", "narrow", "haar"]
    assert views[1].data.shape == (4, 1, 5, 30)
    assert all(view.role == "view" and view.groups is not None and view.index is not None for view in views)


def test_a_cache_gives_what_would_be_made() -> None:
    windows = torch.randn(20, 1, 30)
    cached, plain = Frames(cache=True), Frames()
    for index in (torch.arange(5), torch.tensor([3, 19, 4, 7]), torch.randperm(20), torch.arange(12)):
        batch = batch_of(windows[index], index)
        for ours, theirs in zip(views_of(cached, batch).views, views_of(plain, batch).views, strict=True):
            assert torch.equal(ours.data, theirs.data)


def test_a_cache_notices_other_windows_under_the_same_index() -> None:
    cached, plain = Frames(cache=True), Frames()
    for windows in (
        torch.randn(6, 1, 30),
        torch.randn(6, 1, 30),
        torch.randn(6, 2, 30),
        torch.randn(6, 2, 31),
        torch.randn(6, 2, 31).double(),
    ):
        ours, theirs = views_of(cached, batch_of(windows)).views[2].data, views_of(plain, batch_of(windows)).views[2].data
        assert torch.equal(ours, theirs)


def test_a_cache_makes_each_sample_once() -> None:
    class Counting(Morlet):
        made = 0

        def show(self, x: torch.Tensor) -> torch.Tensor:
            Counting.made += len(x)
            return super().show(x)

    maker, windows = Frames({"morlet": Counting()}, cache=True), torch.randn(10, 1, 20)
    for _ in range(3):
        views_of(maker, batch_of(windows))
    assert Counting.made <= 11  # one more to learn the shape
