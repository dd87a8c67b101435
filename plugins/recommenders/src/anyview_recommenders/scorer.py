"""What a model must offer to recommend and to be ranked: scores of all items, for any users."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Scorer(Protocol):
    """Anything that scores every item of the catalogue for some users."""

    def score(self, users: Tensor) -> Tensor:
        """users: (b,) int64 positions. Returns (b, I) float, higher is better, for all I items; seen items are no concern of it."""
        ...


class DotProduct:
    """The inner products of user and item rows, as an encoder's embedding gives them.

    user_rows: (U, D). item_rows: (I, D).

    >>> users, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    >>> DotProduct(users, items).score(torch.tensor([0])).tolist()
    [[2.0, 0.0]]
    """

    def __init__(self, user_rows: Tensor, item_rows: Tensor) -> None:
        self.user_rows, self.item_rows = user_rows, item_rows

    def score(self, users: Tensor) -> Tensor:
        return self.user_rows[users] @ self.item_rows.T
