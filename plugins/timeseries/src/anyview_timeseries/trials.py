"""Batches that know of trials: two windows of one trial, and beside them queries and candidates that never share a trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from anyview.data.source import Batch, Epoch, Source
from anyview.errors import UserError
from anyview.views.draws import derive_seed
from anyview.views.view import View
from anyview_timeseries.series import SeriesSource


class TrialPairs(Source):
    """Windows of a source, drawn for methods that pair by time and mine across trials.

    A batch holds windows (B, C, T); its extras are "partner" (B, C, T), a window of the same trial at most `lookahead` windows away, and,
    where `candidates` is not 0, "queries" (B, C, T) and "candidates" (L, C, T), which share no trial with each other. Every batch carries
    its index and, as the group "trial", its trials. Pairs are drawn uniformly from all ordered pairs of windows that are near enough, a
    window and itself among them. For queries and candidates each step divides the trials anew: n/2 + a draw from N(n/10, 1) of the n
    trials give queries, the others candidates, each without repetition as long as there are enough.

    source: windows with trials; those of a trial follow each other in time. lookahead: the largest distance of a pair, in windows.
    candidates: L, over all ranks. group: what a trial is called; by default "trial" where the source has it, else what its splits keep
    apart. passes: an epoch is floor(N / B) steps, times this; N counts training windows. Raises UserError where there are no trials or
    only one, and for numbers that are out of range.

    >>> windows = SeriesSource(torch.randn(20, 3, 1), groups={"trial": [0] * 8 + [1] * 12})
    >>> pairs = TrialPairs(windows, lookahead=2, candidates=6)
    >>> batch = next(pairs.batches(Epoch(batch_size=5)))
    >>> bool(((batch.index - batch.extras["partner"].index).abs() <= 2).all()), len(batch.extras["candidates"].data)
    (True, 6)
    """

    groups: Tensor

    def __init__(
        self, source: SeriesSource, *, lookahead: int = 5, candidates: int = 512, group: str | None = None, passes: int = 1
    ) -> None:
        if lookahead < 0 or candidates < 0 or passes < 1:
            found = f"lookahead {lookahead}, candidates {candidates}, passes {passes}"
            raise UserError(f"pairs of one trial need a lookahead and candidates of 0 or more and 1 pass or more, found {found}")
        self.source, self.lookahead, self.candidates, self.passes = source, lookahead, candidates, passes
        self.name, self.shape, self.labels, self.ids = source.name, source.shape, source.labels, source.ids
        self.groups = trials_of(source, group)
        by_trial = self.groups[source.train_rows].argsort(stable=True)
        self.rows = source.train_rows[by_trial]
        sizes = self.groups[self.rows].unique_consecutive(return_counts=True)[1]
        self.count, self.owner = len(sizes), torch.arange(len(sizes)).repeat_interleave(sizes)
        if self.count < 2 and candidates:
            raise UserError(f"candidates come from other trials, and the training windows of {self.name!r} are of one; give two or more")
        place = torch.arange(len(self.rows)) - (sizes.cumsum(0) - sizes)[self.owner]
        self.before = place.clamp(max=lookahead)
        pairs = self.before + 1 + (sizes[self.owner] - 1 - place).clamp(max=lookahead)
        self.ends = pairs.cumsum(0)  # of each window's pairs, in a list of all pairs
        self.starts = self.ends - pairs

    def __len__(self) -> int:
        return len(self.source)

    def steps(self, batch_size: int | None) -> int:
        return self.passes * (len(self.rows) // self._total(batch_size))

    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        total, steps = self._total(epoch.batch_size), self.steps(epoch.batch_size)
        if min(total, self.candidates or total) < epoch.ranks:
            asked = f"a batch of {total} windows and {self.candidates} candidates cannot be shared by {epoch.ranks} ranks"
            raise UserError(f"{asked}; make it larger or use fewer devices")
        random = torch.Generator().manual_seed(derive_seed(epoch.seed, "pairs", epoch.number))
        first, partner = self._pairs(steps, total, random)
        drawn = {"partner": partner, **(self._apart(steps, total, random) if self.candidates else {})}
        for step in range(epoch.skip, steps):
            batch = self._batch(first[step], epoch)
            batch.extras = {name: self._batch(rows[step], epoch) for name, rows in drawn.items()}
            yield batch

    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        return self.source.clean(batch_size)

    def features(self) -> np.ndarray:
        return self.source.features()

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def _total(self, batch_size: int | None) -> int:
        return min(batch_size or len(self.rows), len(self.rows))

    def _pairs(self, steps: int, total: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Both rows of each pair, (steps, total) each: a number from the list of all pairs says window and distance."""
        numbers = torch.randint(int(self.ends[-1]), (steps, total), generator=random)
        first = torch.searchsorted(self.ends, numbers, right=True)
        partner = first + numbers - self.starts[first] - self.before[first]
        return self.rows[first], self.rows[partner]

    def _apart(self, steps: int, total: int, random: torch.Generator) -> dict[str, Tensor]:
        """Rows of queries (steps, total) and of candidates (steps, L), of different trials in each step."""
        sizes = (0.6 * self.count + torch.randn(steps, 1, generator=random)).int().clamp(1, self.count - 1)
        rank = torch.rand(steps, self.count, generator=random).argsort(1).argsort(1)
        ours = (rank < sizes)[:, self.owner]
        chosen = {"queries": (ours, total), "candidates": (~ours, self.candidates)}
        return {name: self.rows[_among(allowed, size, random)] for name, (allowed, size) in chosen.items()}

    def _batch(self, rows: Tensor, epoch: Epoch) -> Batch:
        own = epoch.own(len(rows))
        index = rows[own]
        groups = {"trial": self.groups[index]}
        return Batch(self.source.take(index), len(index), own.start, len(rows), index=index, groups=groups)


def trials_of(source: SeriesSource, group: str | None = None) -> Tensor:
    """(N,) the trial of each window; see `TrialPairs`. Raises UserError where the source has no such group."""
    name = group or ("trial" if "trial" in source.members else source.kept_apart)
    if name is None or name not in source.members:
        found = ", ".join(source.members) or "none"
        asked = f"windows of one {name or 'trial'} were to be paired, and the group ids of {source.name!r} are: {found}"
        raise UserError(f"{asked}; give data whose windows say which trial they are of, or choose one of its groups with --group")
    return source.members[name]


def _among(allowed: Tensor, count: int, random: torch.Generator) -> Tensor:
    """For each row of `allowed`, (S, N) bool, `count` of its True places in random order, from the first again where they are fewer."""
    order = (torch.rand(allowed.shape, generator=random) + 2.0 * ~allowed).argsort(1)
    return order.gather(1, torch.arange(count) % allowed.sum(1, keepdim=True))
