"""Contrast of sequences: the states that two views of one end in find each other among those of the batch."""

from __future__ import annotations

from anyview.distributed import gather_rows
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview_recommenders.losses import view_contrast


class SequenceContrast(Objective):
    """InfoNCE between the last states of two views of each sequence, by their products, among both views of the whole batch.

    dim: width of the encoder's rows. temperature: what products are divided by. Views that carry a group "target" are no negatives of
    those with the same one. Raises UserError for a temperature that is not above 0.
    """

    needs = Needs(views=2, couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"products are divided by a temperature above 0, and it is {temperature:g}; try 1")
        self.temperature = temperature

    def forward(self, step: Step) -> Losses:
        first, second = step.seen_whole[:2]
        a, b = (gather_rows(step.encode(view).rows) for view in (first, second))
        groups = None if first.groups is None else gather_rows(first.groups["target"])
        return Losses(contrast=view_contrast(a, b, self.temperature, groups))
