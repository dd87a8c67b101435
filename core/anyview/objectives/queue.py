"""Rows of earlier steps: a ring of unit rows that later steps compare with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anyview.distributed import gather_rows


class Queue(nn.Module):
    """The last `size` unit rows that were pushed, from all ranks, the same on each; random unit rows until there are enough.

    rows: (size, dim) buffer. filled: how many are real, so a method may wait for a full queue. Rows are overwritten oldest first; a batch
    that does not divide the size wraps around, and of one that is larger the last `size` rows stay.

    >>> queue = Queue(3, dim=2)
    >>> queue.push(torch.tensor([[2.0, 0.0], [0.0, 5.0]]))
    >>> queue.rows[:2].tolist(), int(queue.filled)
    ([[1.0, 0.0], [0.0, 1.0]], 2)
    """

    rows: Tensor
    position: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @property
    def full(self) -> bool:
        """Whether every row is one that was pushed."""
        return int(self.filled) == len(self.rows)

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Take in this rank's rows, (M, dim), after those of lower ranks."""
        size = len(self.rows)
        incoming = normalize(gather_rows(rows.detach()).to(self.rows), dim=1)
        places = (self.position + torch.arange(len(incoming), device=self.rows.device)) % size
        self.rows[places[-size:]] = incoming[-size:]
        self.position.copy_((self.position + len(incoming)) % size)
        self.filled.copy_((self.filled + len(incoming)).clamp(max=size))
