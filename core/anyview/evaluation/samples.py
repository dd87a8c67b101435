"""Batches of chosen samples of a source, as its encoder reads them clean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyview.data.source import Source
from anyview.evaluation.embedding import BATCH_SIZE
from anyview.views.view import View


@dataclass(frozen=True, slots=True)
class Shown:
    """A view, which of its rows count (positions), and the sample number of each."""

    view: View
    positions: Tensor
    samples: Tensor


class CleanSamples:
    """A source's untouched views, in memory, dealt out in batches of the samples that are asked for.

    Views whose data is a tensor, or a dictionary of tensors, with one entry per sample, and all of one shape, are put together anew for
    every batch. Others (one graph; padded clips) are shown as the source gave them, one view a batch, and only the rows that were asked
    for count.
    """

    def __init__(self, source: Source, batch_size: int = BATCH_SIZE) -> None:
        self.views = list(source.clean(batch_size))
        self.starts = np.cumsum([0, *(_length(view, source, self.views) for view in self.views)])
        self.whole = _joined(self.views, len(source)) if source.divisible else None

    def batches(self, samples: np.ndarray, batch_size: int, random: np.random.Generator | None = None) -> Iterator[Shown]:
        """Every one of the samples (n,) once, in batches that differ by at most one; in a new order where there is a generator."""
        if self.whole is None:
            yield from self._given(samples, random)
            return
        order = samples if random is None else random.permutation(samples)
        for part in np.array_split(order, self.steps(order, batch_size)):
            rows = torch.from_numpy(part)
            yield Shown(_taken(self.whole, rows), torch.arange(len(rows)), rows)

    def steps(self, samples: np.ndarray, batch_size: int) -> int:
        """How many batches the samples (n,) make."""
        if self.whole is not None:
            return -(-len(samples) // batch_size)
        return len(np.unique(np.searchsorted(self.starts, samples, side="right")))

    def _given(self, samples: np.ndarray, random: np.random.Generator | None) -> Iterator[Shown]:
        order = np.arange(len(self.views)) if random is None else random.permutation(len(self.views))
        for number in order:
            inside = samples[(samples >= self.starts[number]) & (samples < self.starts[number + 1])]
            if len(inside):
                yield Shown(self.views[number], torch.from_numpy(inside - self.starts[number]), torch.from_numpy(inside))


def _length(view: View, source: Source, views: list[View]) -> int:
    """How many samples a view shows."""
    if view.index is not None:
        return len(view.index)
    if len(views) == 1:
        return len(source)
    raise ValueError(f"the clean views of {source.name!r} do not say which samples they show; give them an index")


def _joined(views: list[View], samples: int) -> View | None:
    """One view of all samples; None where the views cannot be put together."""
    first = views[0]
    if any(view.stream != first.stream or view.mask is not None or view.params is not None for view in views):
        return None
    data = _joined_data([view.data for view in views], samples)
    groups = None if first.groups is None else _joined_data([view.groups for view in views], samples)
    if data is None or (groups is None and first.groups is not None):
        return None
    return View(data, stream=first.stream, role=first.role, groups=groups)


def _joined_data(parts: list[Any], samples: int) -> Any:
    if all(isinstance(part, Tensor) for part in parts):
        same = len({part.shape[1:] for part in parts}) == 1 and sum(len(part) for part in parts) == samples
        return torch.cat(parts) if same else None
    if all(isinstance(part, dict) and part.keys() == parts[0].keys() for part in parts):
        joined = {name: _joined_data([part[name] for part in parts], samples) for name in parts[0]}
        return None if any(value is None for value in joined.values()) else joined
    return None


def _taken(view: View, rows: Tensor) -> View:
    def take(data: Any) -> Any:
        return {name: take(value) for name, value in data.items()} if isinstance(data, dict) else data[rows]

    groups = None if view.groups is None else take(view.groups)
    return View(take(view.data), stream=view.stream, role=view.role, index=rows, groups=groups)
