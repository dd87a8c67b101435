"""Whether users have items, for whole tables of users and items at once."""

from __future__ import annotations

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn


class Owned(nn.Module):
    """The training interactions, asked for by users and items.

    matrix: (U, I) CSR.

    >>> owned = Owned(csr_matrix(np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])))
    >>> owned(torch.tensor([1, 0]), torch.tensor([2, 1, 2])).tolist()
    [[False, False, False], [True, False, True]]
    """

    starts: Tensor
    items: Tensor

    def __init__(self, matrix: csr_matrix) -> None:
        super().__init__()
        self.register_buffer("starts", torch.from_numpy(matrix.indptr).long(), persistent=False)
        self.register_buffer("items", torch.from_numpy(matrix.indices).long(), persistent=False)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(m, n) bool: whether user m has item n; users (m,), items (n,) positions, repeated or not."""
        each_user, own_user = users.unique(return_inverse=True)
        each_item, own_item = items.unique(return_inverse=True)
        begins = self.starts[each_user]
        counts = self.starts[each_user + 1] - begins
        owner = torch.arange(len(each_user), device=users.device).repeat_interleave(counts)
        theirs = self.items[torch.arange(len(owner), device=users.device) - (counts.cumsum(0) - counts - begins)[owner]]
        place = torch.searchsorted(each_item, theirs).clamp_(max=len(each_item) - 1)
        there = each_item[place] == theirs
        found = torch.zeros(len(each_user), len(each_item), dtype=torch.bool, device=users.device)
        found[owner[there], place[there]] = True
        return found.index_select(0, own_user).index_select(1, own_item)
