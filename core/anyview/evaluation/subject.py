"""What is scored: an encoder or a control, which gives rows by seed and can be shown other data."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from anyview.data.source import Source
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.evaluation.embedding import embed

OTHER_SOURCES = 8
"""Rows of so many other sources are kept, so that protocols and seeds share them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from, for protocols that ask for more than rows.

    source: the data that the rows are of. embed: rows (n, D) of another source, made in the same way. open: data by name or path, as the
    run's modality reads it. encoder: makes an encoder that the protocol may train, None where there is none. device: where it runs.
    """

    source: Source
    embed: Callable[[Source], np.ndarray]
    open: Callable[[Any], Source]
    encoder: Callable[[], Encoder] | None
    device: torch.device


def only_sources(data: Any) -> Source:
    """Opens nothing: takes a source as it is, and raises UserError for anything else."""
    if not isinstance(data, Source):
        raise UserError(f"the data {data!r} was asked for by name, and nothing here can open it; give a source")
    return data


class Subject(ABC):
    """An encoder or a control on one source: a function from a seed to rows (N, D), which knows where they come from.

    source: the data that is evaluated. open: opens other data by name or path. trainable: whether there is an encoder.
    """

    trainable = True

    def __init__(self, source: Source, *, open: Callable[[Any], Source] = only_sources, device: str | torch.device = "cpu") -> None:
        self.source, self.open, self.device = source, open, torch.device(device)
        self._own: dict[int, np.ndarray] = {}
        self._others: dict[tuple[int, int], tuple[Source, np.ndarray]] = {}  # the source is kept, so that its id is not given to another

    def __call__(self, seed: int) -> np.ndarray:
        """Rows of the source; made once per seed and kept."""
        seed = self.key(seed)
        if seed not in self._own:
            self._own[seed] = self.make(self.source, seed)
        return self._own[seed]

    def origin(self, seed: int) -> Origin:
        """Where the rows of a seed come from."""
        encoder = partial(self.encoder, seed) if self.trainable else None
        return Origin(self.source, partial(self._rows_of, seed), self.open, encoder, self.device)

    def key(self, seed: int) -> int:
        """The seed that decides the rows; one and the same where no seed does."""
        return seed

    @abstractmethod
    def make(self, source: Source, seed: int) -> np.ndarray:
        """Rows of a source."""

    def encoder(self, seed: int) -> Encoder:
        """An encoder of its own for a protocol that trains it."""
        raise NotImplementedError(f"{type(self).__name__} has no encoder")

    def _rows_of(self, seed: int, source: Source) -> np.ndarray:
        if source is self.source:
            return self(seed)
        key = (id(source), self.key(seed))
        if key not in self._others:
            while len(self._others) >= OTHER_SOURCES:
                self._others.pop(next(iter(self._others)))
            self._others[key] = (source, self.make(source, self.key(seed)))
        return self._others[key][1]


class TrainedEncoder(Subject):
    """One encoder, the same for every seed.

    >>> from anyview.data.arrays import ArraySource
    >>> from anyview.encoders.mlp import MLP
    >>> TrainedEncoder(MLP(4, dim=3), ArraySource(np.eye(4)))(0).shape
    (4, 3)
    """

    def __init__(self, encoder: Encoder, source: Source, **options: Any) -> None:
        super().__init__(source, **options)
        self._encoder = encoder

    def key(self, seed: int) -> int:
        return 0

    def make(self, source: Source, seed: int) -> np.ndarray:
        return embed(self._encoder, source, device=self.device)

    def encoder(self, seed: int) -> Encoder:
        return copy.deepcopy(self._encoder)


class UntrainedEncoder(Subject):
    """Untrained encoders, one per seed: the control that shows what the architecture gives away.

    build: makes the encoder of the run, newly initialised from torch's global generator, which is seeded for it and put back afterwards.
    """

    def __init__(self, build: Callable[[], Encoder], source: Source, **options: Any) -> None:
        super().__init__(source, **options)
        self._build = build

    def make(self, source: Source, seed: int) -> np.ndarray:
        return embed(self.encoder(seed), source, device=self.device)

    def encoder(self, seed: int) -> Encoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._build()


class RawFeatures(Subject):
    """The source's own features: the control that shows what the encoder adds.

    control: a name among the source's `controls`, whose features are taken instead.

    >>> from anyview.data.arrays import ArraySource
    >>> RawFeatures(ArraySource(np.eye(4)))(0).shape
    (4, 4)
    """

    trainable = False

    def __init__(self, source: Source, *, control: str | None = None, **options: Any) -> None:
        super().__init__(source, **options)
        self._control = control

    def key(self, seed: int) -> int:
        return 0

    def make(self, source: Source, seed: int) -> np.ndarray:
        rows = self._features(source)
        if source is not self.source and rows.shape[1] != self(seed).shape[1]:
            kind = self._control or "raw features"
            found = f"{source.name!r} has {rows.shape[1]} {kind} and {self.source.name!r} {self(seed).shape[1]}"
            raise UserError(f"{found}, and they are scored together; choose data of equal size")
        return rows

    def _features(self, source: Source) -> np.ndarray:
        if self._control is None:
            return source.features()
        controls = source.controls()
        if self._control not in controls:
            raise UserError(f"{source.name!r} has no {self._control}, which {self.source.name!r} has; choose data of the same kind")
        return controls[self._control]()
