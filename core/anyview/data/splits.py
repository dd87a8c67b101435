"""Train, validation and test rows; drawn by seed, by class, and never across a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts, each (n,), int64; `name` says where they come from ("public", "random 60/20/20, seed 3")."""

    train: Tensor
    validation: Tensor
    test: Tensor
    name: str = "given"

    @classmethod
    def from_masks(cls, train: Tensor, validation: Tensor, test: Tensor, name: str = "public") -> Split:
        """From three boolean masks over the rows, each (N,)."""
        return cls(train.nonzero().flatten(), validation.nonzero().flatten(), test.nonzero().flatten(), name=name)


def stratified_split(
    labels: Tensor, seed: int, *, shares: tuple[float, float, float] = (0.6, 0.2, 0.2), groups: Tensor | None = None
) -> Split:
    """A random split with the given shares, the same in every class; with `groups` whole groups are dealt out instead.

    labels: (N,) classes, or (N, L) yes/no answers (then not stratified). groups: (N,) subject, patient or trial ids.

    >>> split = stratified_split(torch.arange(100) % 2, seed=0)
    >>> len(split.train), len(split.validation), len(split.test)
    (60, 20, 20)
    """
    random = np.random.default_rng(seed)
    if groups is not None:
        keys = groups.numpy()
        pools = [np.unique(keys)]
    elif labels.ndim == 1 and not labels.is_floating_point():
        keys = np.arange(len(labels))
        pools = [np.flatnonzero(labels.numpy() == label) for label in labels.unique().numpy()]
    else:
        keys = np.arange(len(labels))
        pools = [keys]
    parts: list[list[np.ndarray]] = [[], [], []]
    for pool in pools:
        shuffled = random.permutation(pool)
        cuts = np.round(np.cumsum(shares)[:2] / sum(shares) * len(pool)).astype(int)
        for part, piece in zip(parts, np.split(shuffled, cuts), strict=True):
            part.append(piece)
    rows = tuple(torch.from_numpy(np.flatnonzero(np.isin(keys, np.concatenate(part)))) for part in parts)
    kind = "by group" if groups is not None else "stratified" if len(pools) > 1 else "random"
    share = "/".join(f"{100 * s:g}" for s in shares)
    return Split(rows[0], rows[1], rows[2], name=f"{kind} {share}, seed {seed}")
