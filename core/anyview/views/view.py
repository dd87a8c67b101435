"""What an encoder is shown: views, the masks on them, and how one follows from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True)
class Mask:
    """Which tokens or nodes of a view are hidden.

    hidden: bool, True = hidden; (B, N) for tokens of a batch, (M,) for the nodes of one graph or the rows of a table.
    token: bool of the same shape: the hidden places that show a mask token. The others show what the view's data holds
    there (noise, or what stood there before). None: every hidden place shows the token.
    drop: whether an encoder that can leaves hidden tokens out, instead of showing a token in their place.
    visible: how many tokens every sample keeps, where the maker knows; without it they are counted, and the host waits for the device.

    Encoders that drop hidden tokens read `kept` and `restore`; encoders that cannot, replace by a token where `token` says.
    Both orders follow from `hidden` alone, so a mask that is stored, sliced or sent keeps one truth.

    >>> mask = Mask(torch.tensor([[True, False, False, True]]))
    >>> mask.kept.tolist(), mask.restore.tolist()
    ([[1, 2]], [[2, 0, 1, 3]])
    """

    hidden: Tensor
    token: Tensor | None = None
    drop: bool = False
    visible: int | None = None

    @property
    def replaced(self) -> Tensor:
        """The places that show a mask token, bool, shape of `hidden`."""
        return self.hidden if self.token is None else self.token

    @property
    def kept(self) -> Tensor:
        """Indices of the visible tokens, (B, K) in order of position; every sample must hide equally many."""
        if self.visible is not None:
            return self._order[..., : self.visible]
        visible = (~self.hidden).sum(-1).reshape(-1)
        if (visible != visible[0]).any():
            raise ValueError(f"samples keep different numbers of tokens: {visible.unique().tolist()}; cut the masks to one length")
        return self._order[..., : int(visible[0])]

    def at_hidden(self, values: Tensor) -> Tensor:
        """What values (B, N, ...) hold at the hidden tokens of a mask (B, N), sample by sample in order of position: (M, ...).

        >>> Mask(torch.tensor([[True, False, True]])).at_hidden(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
        [1.0, 3.0]
        """
        if self.visible is None:
            return values[self.hidden]
        places = self._order[:, self.visible :]
        return values[torch.arange(len(values), device=values.device)[:, None], places].flatten(0, 1)

    @property
    def restore(self) -> Tensor:
        """Where each position stands in [kept tokens, hidden tokens], (B, N): the inverse of that order."""
        return self._order.argsort(-1)

    @property
    def _order(self) -> Tensor:
        return self.hidden.to(torch.int8).argsort(dim=-1, stable=True)


@dataclass(slots=True)
class View:
    """One way of seeing the samples of a batch.

    data: tensor, graph, dictionary of tensors: whatever the encoder of this stream reads.
    stream: which encoder reads it: "time", "fourier", "image", "volume", "user", "item".
    role: what an objective takes it for: "view"; "global" and "local" crops; "clean", untouched, for a teacher, in the order of the
    masked views; "context", with all else hidden; "target", whose mask says which tokens are to be predicted.
    mask: hidden tokens or nodes; None where nothing is hidden.
    target: what stood there before: features, codes, spectrum; read by objectives that rebuild.
    params: parameters of the transformation that made it, each (B, P). "box" (B, 2C) is where it lies in the sample: start and extent
    along each of C axes, in shares of the sample, an extent below 0 where the axis is turned round; without it a view shows the whole.
    index: (B,) sample ids, stable across epochs; per-sample state is keyed by them.
    groups: ids of what a sample belongs to (subject, volume, slice position, trial, partition), each (B,).
    """

    data: Any
    stream: str = "default"
    role: str = "view"
    mask: Mask | None = None
    target: Any = None
    params: dict[str, Tensor] | None = None
    index: Tensor | None = None
    groups: dict[str, Tensor] | None = None


@dataclass(slots=True)
class Relation:
    """How view `target` follows from view `source`, both positions in a ViewSet: directed, one or more forms of the same fact.

    vector: (B, P), a relative quaternion or an action. matrix: (B, d, d), a relative rotation or rigid motion.
    matches: (B, K, 2) pairs of token positions (source, target), -1 where there is none. label: (B,) a bin, order or answer.
    """

    source: int
    target: int
    vector: Tensor | None = None
    matrix: Tensor | None = None
    matches: Tensor | None = None
    label: Tensor | None = None


@dataclass(slots=True)
class ViewSet:
    """All views of one batch.

    relations: directed, between positions in `views`. labels: (B,) or (B, L) where a labelled half takes part.
    extras: views that are no view of this batch's samples: a candidate pool, a labelled half.
    """

    views: list[View]
    relations: Sequence[Relation] = ()
    labels: Any = None
    extras: dict[str, View] = field(default_factory=dict)

    def role(self, role: str) -> list[View]:
        """The views that an objective takes for `role`, in order."""
        return [view for view in self.views if view.role == role]

    @property
    def seen_whole(self) -> list[View]:
        """The views of role "global", or of role "view" where there are none: what a teacher may be shown."""
        return self.role("global") or self.role("view")
