"""Views of sequences of items: what comes next at each place, hidden items, and sequences that are cropped, masked or put out of order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.errors import UserError, unknown
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import Mask, View, ViewSet
from anyview_recommenders.histories import PAD

Operation = Literal["crop", "mask", "reorder"]


class NextItems(ViewMaker):
    """A view of each sequence of a batch without its last item; its target (b, L) is the item after each place, 0 where there is none."""

    gives = Gives(views=0, roles=("sequence",), targets=True, data="sequence")

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        shown, after = batch.data["sequence"][:, :-1], batch.data["sequence"][:, 1:]
        return ViewSet([View({"sequence": shown}, role="sequence", target=after.masked_fill(shown == PAD, PAD), index=batch.index)])


class Cloze(ViewMaker):
    """A view of each sequence in which a share of the items is hidden; its target (b, L) holds those items, and 0 elsewhere.

    items: I. share: of the items that are hidden, one at least. last: the share of sequences in which the last item alone is hidden, as it
    is when a next one is asked for. Of hidden items 80 % show a mask token, 10 % any item, 10 % what stood there.
    Raises UserError for shares outside (0, 1) and [0, 1].

    Sun et al. BERT4Rec. CIKM 2019, arXiv 1904.06690.
    """

    gives = Gives(views=0, roles=("sequence",), masks=True, targets=True, data="sequence")

    def __init__(self, items: int, share: float = 0.2, last: float = 0.2) -> None:
        if not 0 < share < 1 or not 0 <= last <= 1:
            raise UserError(f"a share of items is hidden above 0 and below 1, of sequences 0 to 1; share is {share:g}, last {last:g}")
        self.items, self.share, self.last = items, share, last

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        sequence = batch.data["sequence"][:, 1:]
        valid, length = sequence != PAD, sequence.shape[1]
        order = draws.uniform(length).masked_fill(~valid, 2.0)
        hidden = (order < self.share) | (order == order.amin(1, keepdim=True))
        at_end = torch.arange(length, device=sequence.device) == length - 1
        hidden = torch.where(draws.bernoulli(self.last, 1), at_end, hidden) & valid
        fate, others = draws.uniform(length), 1 + draws.integers(self.items, length)
        shown = torch.where(hidden & (fate >= 0.8) & (fate < 0.9), others, sequence)
        mask = Mask(hidden, token=hidden & (fate < 0.8))
        view = View({"sequence": shown}, role="sequence", mask=mask, target=sequence.masked_fill(~hidden, PAD), index=batch.index)
        return ViewSet([view])


class Augmented(ViewMaker):
    """Two views of each sequence, each cropped, masked or put out of order; never the same way twice where there are two ways.

    Beside them stands the sequence as it is, in a view of role "clean".

    crop: share of the items that a crop keeps, a block of them. mask: share of the items that show a mask token. reorder: share of the
    items that are shuffled, a block of them. Shares are rounded down; a crop keeps an item. A sequence of one item stays what it is.
    operations: of which each sequence draws two. Raises UserError for shares outside [0, 1], unknown operations and none.

    Xie et al. Contrastive Learning for Sequential Recommendation. ICDE 2022, arXiv 2010.14395 (CL4SRec).
    """

    gives = Gives(views=2, roles=("view", "clean"), masks=True, data="sequence")

    def __init__(
        self, *, crop: float = 0.6, mask: float = 0.3, reorder: float = 0.6, operations: Sequence[Operation] = get_args(Operation)
    ) -> None:
        self.shares = {"crop": crop, "mask": mask, "reorder": reorder}
        for name, share in self.shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"the share of a sequence that {name} is about lies between 0 and 1, and it is {share:g}; try 0.6")
        for name in operations:
            if name not in self.shares:
                raise unknown("operation on sequences", name, self.shares, look=", ".join(self.shares))
        if not operations:
            raise UserError(f"views of a sequence need an operation, and none was given; give some of {', '.join(self.shares)}")
        self.operations = tuple(dict.fromkeys(operations))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        sequence = batch.data["sequence"][:, 1:]
        ranks = draws.uniform(len(self.operations)).argsort(1)
        views = [self._view(sequence, ranks[:, number % len(self.operations)], batch, draws) for number in range(2)]
        return ViewSet([*views, View({"sequence": sequence}, role="clean", index=batch.index)])

    def _view(self, sequence: Tensor, chosen: Tensor, batch: Batch, draws: Draws) -> View:
        """The view of sequences (b, L) after the operation of number chosen (b,) on each."""
        place, noise = draws.uniform(), draws.uniform(sequence.shape[1])
        shown, hidden = sequence, torch.zeros_like(sequence, dtype=torch.bool)
        for number, name in enumerate(self.operations):
            own = (chosen == number)[:, None]
            if name == "mask":
                hidden = own & masked(sequence, self.shares[name], noise)
            else:
                moved = (
                    cropped(sequence, self.shares[name], place) if name == "crop" else reordered(sequence, self.shares[name], place, noise)
                )
                shown = torch.where(own, moved, shown)
        return View({"sequence": shown}, mask=Mask(hidden), index=batch.index)


def lengths(sequence: Tensor) -> Tensor:
    """(b,) how many items sequences (b, L) have."""
    return (sequence != PAD).sum(1)


def block(sequence: Tensor, share: float, place: Tensor) -> tuple[Tensor, Tensor]:
    """Where a block of a share of the items begins and ends, (b,) each, counted in places of sequences (b, L); place: (b,) in [0, 1).

    It has at least one item; a sequence of one item is a block of its own.
    """
    count = lengths(sequence)
    size = _part(share, count).clamp_min(1).minimum(count)
    begin = sequence.shape[1] - count + (place.double() * (count - size + 1)).long()
    return begin, begin + size


def cropped(sequence: Tensor, share: float, place: Tensor) -> Tensor:
    """A block of each sequence (b, L), moved to the right end; place: (b,) in [0, 1), where it lies.

    >>> cropped(torch.tensor([[0, 4, 5, 6, 7]]), 0.5, torch.tensor([0.5])).tolist()
    [[0, 0, 0, 5, 6]]
    """
    begin, end = block(sequence, share, place)
    length = sequence.shape[1]
    places = end[:, None] - torch.arange(length, 0, -1, device=sequence.device)
    return sequence.gather(1, places.clamp_min(0)).masked_fill(places < begin[:, None], PAD)


def masked(sequence: Tensor, share: float, noise: Tensor) -> Tensor:
    """(b, L) bool, a share of the items of each sequence (b, L), those of least noise (b, L) in [0, 1); none of a single item.

    >>> masked(torch.tensor([[0, 4, 5, 6, 7]]), 0.5, torch.tensor([[0.0, 0.9, 0.2, 0.8, 0.1]])).int().tolist()
    [[0, 0, 1, 0, 1]]
    """
    count = lengths(sequence)
    size = _part(share, count).masked_fill(count < 2, 0)
    rank = noise.masked_fill(sequence == PAD, 2.0).argsort(dim=1, stable=True).argsort(1)
    return rank < size[:, None]


def reordered(sequence: Tensor, share: float, place: Tensor, noise: Tensor) -> Tensor:
    """Each sequence (b, L) with a block of it in the order of the noise (b, L) in [0, 1); place: (b,) in [0, 1), where it lies.

    >>> reordered(torch.tensor([[0, 4, 5, 6, 7]]), 0.75, torch.tensor([0.9]), torch.tensor([[0.0, 0.0, 0.9, 0.5, 0.1]])).tolist()
    [[0, 4, 7, 6, 5]]
    """
    begin, end = block(sequence, share, place)
    places = torch.arange(sequence.shape[1], device=sequence.device)
    inside = (places >= begin[:, None]) & (places < end[:, None])
    order = torch.where(inside, begin[:, None] + noise.double(), places.double())
    return sequence.gather(1, order.argsort(dim=1, stable=True))


def _part(share: float, count: Tensor) -> Tensor:
    """The share of counts, rounded down; what is whole but for rounding is whole."""
    return (share * count.double() + 1e-9).floor().long()
