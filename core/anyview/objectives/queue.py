"""Rows of earlier steps: a ring of unit rows that later steps compare with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anyview.distributed import gather_rows
from anyview.errors import UserError
from anyview.objectives.contrast import blocks, unit
from anyview.objectives.gram import full, full_products


class Queue(nn.Module):
    """The last `size` unit rows that were pushed, from all ranks, the same on each; random unit rows until there are enough.

    rows: (size, dim) buffer. filled: how many are real, so a method may wait for a full queue. Rows are overwritten oldest first; a batch
    that does not divide the size wraps around, and of one that is larger the last `size` rows stay.
    notes: names of buffers (size,) of whole numbers that are pushed with the rows (which sample, which class), -1 where there is none.
    Raises UserError for a size below 1.

    >>> queue = Queue(3, dim=2, notes=["sample"])
    >>> queue.push(torch.tensor([[2.0, 0.0], [0.0, 5.0]]), sample=torch.tensor([7, 8]))
    >>> queue.rows[:2].tolist(), queue.note("sample").tolist(), int(queue.filled)
    ([[1.0, 0.0], [0.0, 1.0]], [7, 8, -1], 2)
    """

    rows: Tensor
    position: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int, notes: Sequence[str] = ()) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"a queue of {size} rows was asked for; give it at least one")
        self.register_buffer("rows", unit(torch.randn(size, dim)))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.notes = tuple(notes)
        for name in self.notes:
            self.register_buffer(f"note_{name}", torch.full((size,), -1))

    @property
    def full(self) -> bool:
        """Whether every row is one that was pushed."""
        return int(self.filled) == len(self.rows)

    def resized(self, size: int) -> Queue:
        """A new queue of another size, in which nothing has been pushed yet."""
        return Queue(size, self.rows.shape[1], self.notes).to(self.rows.device)

    def note(self, name: str) -> Tensor:
        """The numbers (size,) that were pushed with the rows under this name."""
        return self.get_buffer(f"note_{name}")

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """(M,) the places in the queue of the rows that are nearest to `rows` (M, dim) by cosine."""
        with full_products(rows.device):
            theirs = full(self.rows)
            ours = rows.to(theirs)  # on any scale: that of a query does not change which key is nearest
            return torch.cat([(ours[own] @ theirs.T).argmax(1) for own in blocks(len(ours), len(theirs))])

    @torch.no_grad()
    def push(self, rows: Tensor, **notes: Tensor | None) -> None:
        """Take in this rank's rows, (M, dim), after those of lower ranks, with their notes, (M,) each; a note left out is -1."""
        size = len(self.rows)
        incoming = unit(gather_rows(rows.detach())).to(self.rows)
        places = (self.position + torch.arange(len(incoming), device=self.rows.device)) % size
        places, kept = places[-size:], slice(max(0, len(incoming) - size), None)
        self.rows[places] = incoming[kept]
        for name in dict.fromkeys((*self.notes, *notes)):
            note = notes.get(name)
            self.note(name)[places] = -1 if note is None else gather_rows(note)[kept]
        self.position.copy_((self.position + len(incoming)) % size)
        self.filled.copy_((self.filled + len(incoming)).clamp(max=size))
