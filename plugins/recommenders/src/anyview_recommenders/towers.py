"""Two towers: users and items encoded from their features, so that an item that nobody has used yet has a row too.

Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang, Ettinger. Self-supervised Learning for Large-scale Item Recommendations. CIKM 2021,
arXiv 2007.12865. Hashed tables: Weinberger, Dasgupta, Langford, Smola, Attenberg. Feature Hashing for Large Scale Multitask Learning.
ICML 2009, arXiv 0902.2206.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from anyview.encoders.encoder import Encoder, Encoding
from anyview.encoders.heads import mlp
from anyview.errors import UserError
from anyview.objectives.contrast import unit
from anyview.views.view import View
from anyview_recommenders.features import Feature, SideFeatures

NODES = 2**16
"""Nodes that are encoded at once."""
NOTHING = 0
"""The row of the table that stands for no value: never trained, and part of no mean."""


class Tower(nn.Module):
    """From the features of users, or of items, to rows: a mean embedding of each feature's values, side by side, through an MLP.

    features: k of them. rows_of: for each, the row of the embedding table that each of its codes has, (size,). width: of embeddings.
    hidden, dim: widths of the MLP's two layers.
    """

    rows: Tensor
    owner: Tensor
    several: Tensor
    begins: Tensor

    def __init__(self, features: Sequence[Feature], rows_of: Sequence[np.ndarray], width: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.rows_of, self.longest = rows_of, [feature.longest for feature in features]
        lengths = torch.tensor(self.longest)
        owner = torch.arange(len(features)).repeat_interleave(lengths)
        buffers = {
            "rows": torch.from_numpy(self.padded(features)),
            "owner": owner,
            "several": torch.tensor([feature.several for feature in features])[owner],
            "begins": lengths.cumsum(0) - lengths,
        }
        for name, buffer in buffers.items():  # a run keeps the features themselves, so they are no weights
            self.register_buffer(name, buffer, persistent=False)
        self.network = mlp(len(features) * width, hidden, dim, norm=False)

    def forward(self, table: Tensor, things: Tensor, hidden: Tensor | None, left_out: Tensor | None, *, sparse: bool) -> Tensor:
        """Rows (M, dim) of the users or items `things` (M,), before they have one length.

        table: (R, width). hidden: (k,) or (M, k) bool, features in whose place zeros stand. left_out: (M, S) bool, values that take no
        part, of the S that all bags together may hold. A bag without any value gives zeros.
        """
        rows = self.rows.index_select(0, things)
        if hidden is not None:
            rows = rows.masked_fill(hidden[..., self.owner], NOTHING)
        if left_out is not None:
            rows = rows.masked_fill(left_out, NOTHING)
        return self.encode(table, rows, sparse=sparse)

    def padded(self, features: Sequence[Feature]) -> np.ndarray:
        """(n, S) int64, the rows of the table that n users or items show, whose features have the codes of the tower's own."""
        return padded_rows(features, self.rows_of, self.longest)

    def encode(self, table: Tensor, rows: Tensor, *, sparse: bool = False) -> Tensor:
        """Rows (M, dim) of what shows the rows (M, S) of the table."""
        encoded: Tensor = self.network(self._means(table, rows, sparse=sparse))
        return encoded

    def _means(self, table: Tensor, rows: Tensor, *, sparse: bool) -> Tensor:
        """(M, k width): of each bag the mean of its embeddings; rows: (M, S) of the table."""
        shown = (rows != NOTHING).to(table.dtype)
        counts = shown.new_zeros(len(rows), len(self.begins)).index_add_(1, self.owner, shown)
        weights = shown / counts.clamp(min=1.0).index_select(1, self.owner)
        offsets = torch.arange(len(rows), device=rows.device)[:, None] * rows.shape[1] + self.begins
        found = embedding_bag(
            rows.flatten(),
            table,
            offsets.flatten(),
            mode="sum",
            per_sample_weights=weights.flatten(),
            padding_idx=NOTHING,
            sparse=sparse,
        )
        return found.view(len(rows), -1)


class TwoTowers(Encoder):
    """A tower of users and one of items over one table of embeddings; rows have length 1, so that products are cosines.

    side: features of users and items. dim: D. width: of embeddings. hidden: of the towers' inner layer. deviation: of the normal
    distribution that embeddings start from. hash_size: features with more values share so many rows, values by a hash of their code; 0 is a
    row for each. share_table: one table of hash_size rows for all features. sparse: whether gradients of the table are sparse (needs an
    optimiser that takes them). An item in a user's history has the embedding of its id.

    It reads views of three kinds: data with "nodes" (M,), users 0 .. U - 1, items U .. U + I - 1; with "users" (M,) and perhaps "without"
    (M,), an item for each that is left out of the history; with "items" (M,) and perhaps "hidden" (k,) or (M, k) bool, features that are
    not shown, and "dropped" (M, S) bool, values that are not shown of features with several. Raises UserError for a table without a size.
    """

    def __init__(
        self,
        side: SideFeatures,
        dim: int = 128,
        *,
        width: int = 32,
        hidden: int = 1024,
        deviation: float = 0.1,
        hash_size: int = 0,
        share_table: bool = False,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.sparse, self.users, self.items = dim, sparse, len(side.users[0]), len(side.items[0])
        of_users, of_items, size = table_rows(side, hash_size, share_table=share_table)
        self.table = nn.Parameter(deviation * torch.randn(size, width))
        self.of_users = Tower(side.users, of_users, width, hidden, dim)
        self.of_items = Tower(side.items, of_items, width, hidden, dim)
        history = [feature.kind == "history" for feature in side.users]
        self.register_buffer("history", torch.tensor(history)[self.of_users.owner], persistent=False)
        self.register_buffer("row_of_item", torch.from_numpy(of_items[0][1:]), persistent=False)

    def forward(self, view: View) -> Encoding:
        data = view.data
        if "nodes" in data:
            return Encoding(torch.cat([self._nodes(part) for part in data["nodes"].split(NODES)]))
        if "users" in data:
            return Encoding(self._users(data["users"], data.get("without")))
        return Encoding(self._items(data["items"], data.get("hidden"), data.get("dropped")))

    def of_new_items(self, features: Sequence[Feature]) -> Tensor:
        """Rows (R, D) of items outside of the catalogue, from their features; see `feature_tables.codes_of`."""
        return unit(self.of_items.encode(self.table, torch.from_numpy(self.of_items.padded(features)).to(self.table.device)))

    def _nodes(self, nodes: Tensor) -> Tensor:
        are_users = nodes < self.users
        rows = torch.cat([self._users(nodes[are_users]), self._items(nodes[~are_users] - self.users)])
        order = torch.cat([are_users.nonzero(), (~are_users).nonzero()]).flatten()
        return rows.index_select(0, order.argsort())

    def _users(self, users: Tensor, without: Tensor | None = None) -> Tensor:
        left_out = None
        if without is not None:
            own = self.get_buffer("row_of_item").index_select(0, without)
            left_out = (self.of_users.rows.index_select(0, users) == own[:, None]) & self.get_buffer("history")
        return unit(self.of_users(self.table, users, None, left_out, sparse=self.sparse))

    def _items(self, items: Tensor, hidden: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        left_out = None if dropped is None else dropped & self.of_items.several
        return unit(self.of_items(self.table, items, hidden, left_out, sparse=self.sparse))


def padded_rows(features: Sequence[Feature], rows_of: Sequence[np.ndarray], longest: Sequence[int]) -> np.ndarray:
    """(n, S) int64: for n users or items the rows of the table that their values have, feature by feature, NOTHING after short bags.

    longest: of each feature, how many values a bag may have.

    >>> words = Feature("words", "list", np.array([0, 2, 2, 3]), np.array([1, 2, 0]), size=3)
    >>> padded_rows([words], [np.array([5, 6, 7])], [2]).tolist()
    [[6, 7], [0, 0], [5, 0]]
    """
    parts = []
    for feature, own, length in zip(features, rows_of, longest, strict=True):
        counts = np.diff(feature.starts)
        owners = np.repeat(np.arange(len(feature)), counts)
        padded = np.full((len(feature), length), NOTHING, dtype=np.int64)
        padded[owners, np.arange(len(owners)) - feature.starts[owners]] = own[feature.codes]
        parts.append(padded)
    return np.concatenate(parts, axis=1)


def table_rows(side: SideFeatures, hash_size: int = 0, *, share_table: bool = False) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """The row of one table that each code has, (size,) for each feature of users and of items, and how many rows the table has.

    hash_size, share_table: as in `TwoTowers`. Row 0 is nobody's. Raises UserError for a shared table without a size.
    """
    if hash_size < 0 or (share_table and not hash_size):
        raise UserError(f"a table that is shared or hashed needs a size, and hash_size is {hash_size}; give one such as 100000")
    end = 1 + hash_size if share_table else 1
    found: list[list[np.ndarray]] = []
    for number, features in enumerate((side.items, side.users)):
        rows: list[np.ndarray] = []
        for place, feature in enumerate(features):
            if feature.kind == "history":
                rows.append(found[0][0])  # an item there is the item itself
                continue
            hashed = share_table or 0 < hash_size < feature.size
            size = hash_size if hashed else feature.size
            own = hashes(feature.size, 1000 * number + place, size) if hashed else np.arange(feature.size)
            rows.append(own + (1 if share_table else end))
            end += 0 if share_table else size
        found.append(rows)
    return found[1], found[0], end


def hashes(count: int, salt: int, size: int) -> np.ndarray:
    """(count,) int64 below `size` that look random and follow from the numbers 0 .. count - 1 and the salt alone (splitmix64).

    >>> hashes(4, salt=0, size=1000).tolist() == hashes(5, salt=0, size=1000)[:4].tolist() != hashes(4, salt=1, size=1000).tolist()
    True
    """
    mixed = np.arange(count, dtype=np.uint64) + np.uint64(salt << 40) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(size)).astype(np.int64)
