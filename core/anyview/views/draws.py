"""Random numbers of one step: equal for a sample on whichever rank it lies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from numbers and words; equal parts give equal seeds on every machine.

    >>> derive_seed(0, "views", 7) == derive_seed(0, "views", 7) != derive_seed(0, "views", 8)
    True
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(slots=True)
class Draws:
    """Draws per-sample numbers for the global batch and hands out this rank's rows.

    generator: the step's generator, in the same state on every rank: draw from it directly what all samples share.
    start, rows, total: this rank holds rows start .. start + rows of a global batch of `total`.

    >>> whole = Draws.seeded(3, total=4).uniform(2)
    >>> half = Draws.seeded(3, start=2, rows=2, total=4).uniform(2)
    >>> torch.equal(whole[2:], half)
    True
    """

    generator: torch.Generator
    start: int
    rows: int
    total: int

    @classmethod
    def seeded(cls, seed: int, *, total: int, start: int = 0, rows: int | None = None, device: str | torch.device = "cpu") -> Draws:
        """Draws from a fresh generator; `rows` defaults to the whole batch."""
        return cls(torch.Generator(device).manual_seed(seed), start, total if rows is None else rows, total)

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self.generator.device

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from [0, 1), of shape (rows, ...)."""
        return self._own(torch.rand(self.total, *shape, generator=self.generator, device=self.device))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, of shape (rows, ...)."""
        return self._own(torch.randn(self.total, *shape, generator=self.generator, device=self.device))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers from 0 .. high - 1, of shape (rows, ...)."""
        return self._own(torch.randint(high, (self.total, *shape), generator=self.generator, device=self.device))

    def bernoulli(self, probability: float, *shape: int) -> Tensor:
        """Booleans of shape (rows, ...), True with the given probability."""
        return self.uniform(*shape) < probability

    def permutation(self, length: int) -> Tensor:
        """(length,) a random order, shared by all ranks."""
        return torch.randperm(length, generator=self.generator, device=self.device)

    def shared_uniform(self, *shape: int) -> Tensor:
        """Numbers from [0, 1) that all samples and ranks share."""
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def shared_gumbel(self, *shape: int) -> Tensor:
        """Gumbel noise that all samples and ranks share: the largest of logits with it is drawn by their softmax."""
        return gumbel(self.shared_uniform(*shape))

    def _own(self, numbers: Tensor) -> Tensor:
        return numbers[self.start : self.start + self.rows]


def gumbel(numbers: Tensor) -> Tensor:
    """Gumbel noise from uniform numbers in [0, 1), of their shape; finite where a number is 0.

    >>> gumbel(torch.tensor([0.0, 0.5])).isfinite().tolist()
    [True, True]
    """
    return -(-numbers.clamp(min=1e-12).log()).clamp(min=1e-12).log()
