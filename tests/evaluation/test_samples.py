"""Batches of chosen samples: each once, clean, from sources that can be cut up and from those that cannot."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.evaluation.samples import CleanSamples
from anyview.views.view import View


def source(samples: int = 23) -> ArraySource:
    return ArraySource(torch.arange(samples).float()[:, None].repeat(1, 2), groups=np.arange(samples) // 2, name="numbers")


class Named(ArraySource):
    """Views of dictionaries."""

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        for view in super().clean(batch_size):
            yield View({"x": view.data, "length": torch.ones(len(view.data))}, index=view.index)


class Padded(ArraySource):
    """Views whose width differs from batch to batch."""

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        for number, view in enumerate(super().clean(batch_size)):
            yield View(torch.cat([view.data, torch.zeros(len(view.data), number)], 1), index=view.index)


class OneGraph(ArraySource):
    """One view, whole."""

    divisible = False

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        return [View(self.x)]


CHOSEN = np.array([3, 4, 9, 17, 18, 19, 22])


def of_kind(kind: type[ArraySource]) -> ArraySource:
    return source() if kind is ArraySource else kind(source().x)


@pytest.mark.parametrize("kind", [ArraySource, Named, Padded, OneGraph])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_chosen_sample_comes_once_with_its_own_row(kind, shuffled):
    samples = CleanSamples(of_kind(kind), batch_size=5)
    random = np.random.default_rng(0) if shuffled else None
    seen = []
    for shown in samples.batches(CHOSEN, 3, random):
        data = shown.view.data["x"] if kind is Named else shown.view.data
        torch.testing.assert_close(data[shown.positions][:, 0], shown.samples.float())
        seen += shown.samples.tolist()
    assert sorted(seen) == CHOSEN.tolist()
    if kind in (ArraySource, Named):
        assert (seen != CHOSEN.tolist()) is shuffled
    assert samples.steps(CHOSEN, 3) == len(list(samples.batches(CHOSEN, 3)))


def test_batches_hold_the_chosen_samples_alone_where_they_can():
    samples = CleanSamples(source())
    shown = list(samples.batches(CHOSEN, 3))
    assert [len(one.view.data) for one in shown] == [3, 2, 2]
    assert all(torch.equal(one.view.index, one.samples) for one in shown)
    assert all(torch.equal(one.view.groups["group"], one.samples // 2) for one in shown)


def test_a_graph_is_shown_whole():
    graph = of_kind(OneGraph)
    (shown,) = CleanSamples(graph).batches(CHOSEN, 3)
    assert shown.view.data is graph.x
    assert shown.positions.tolist() == CHOSEN.tolist()


def test_views_that_do_not_say_what_they_show_are_refused():
    class Nameless(ArraySource):
        def clean(self, batch_size: int = 1024) -> Iterable[View]:
            yield from [View(self.x[:5]), View(self.x[5:])]

    with pytest.raises(ValueError, match="do not say which samples"):
        CleanSamples(of_kind(Nameless))
