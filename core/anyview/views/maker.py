"""View makers: from a batch to the views that an objective asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from anyview.data.source import Batch
from anyview.views.draws import Draws
from anyview.views.view import ViewSet


@dataclass(frozen=True, slots=True)
class Gives:
    """What a view maker gives, held against what an objective needs.

    views: how many views of role "view" or "global" (see `ViewSet.seen_whole`). roles: the roles that views carry. masks, targets,
    relations, labels: whether views or set have them; targets are tensors.
    groups: the group ids that views carry. extras: names of further views beside the batch's own. data: what the views' data is, "tensor"
    or a plugin's own word ("graph").
    """

    views: int = 1
    roles: tuple[str, ...] = ("view",)
    masks: bool = False
    targets: bool = False
    relations: bool = False
    labels: bool = False
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    data: str = "tensor"


class ViewMaker:
    """Makes the views of a batch, on the batch's device, from the step's draws alone.

    A maker keeps no state: the same batch and the same draws give the same views. `gives` is held against an objective's
    `needs` before anything runs.
    """

    gives: Gives = Gives()

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        """The batch's views."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


Transform = Callable[[Tensor, Draws], Tensor]
"""Changes a tensor (B, ...) into another of as many samples, with the step's draws; view makers are put together from these."""
