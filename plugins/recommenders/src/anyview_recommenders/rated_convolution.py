"""Convolution over a log whose items are taken apart by how they were rated, and whose messages say when that was.

Huang, Xu, Xu, Dai, Xia, Lu, Bo, Xing, Lai, Ye. Knowledge-aware Coupled Graph Neural Network for Social Recommendation. AAAI 2021.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csr_array, csr_matrix
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize

from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.views.view import View
from anyview_recommenders.metapaths import with_oneself
from anyview_recommenders.sparse_product import SparseMatrix, degree_normalised

SLOPE = 0.4
LONGEST = 10_000.0
"""The slowest wave of a moment's code, in steps for a radian."""


def levels_of(ratings: np.ndarray, most: int) -> np.ndarray:
    """The level (n,) int64 of each rating (n,), from 0: one for each distinct rating, or `most` equal steps from the least to the largest.

    Raises UserError for fewer than one level.

    >>> levels_of(np.array([1.0, 5.0, 1.0]), 5).tolist(), levels_of(np.array([0.0, 1.0, 6.0, 9.0]), 3).tolist()
    ([0, 1, 0], [0, 0, 2, 2])
    """
    if most < 1:
        raise UserError(f"ratings are told apart by at least 1 level, and levels is {most}; try 5")
    distinct, level = np.unique(ratings, return_inverse=True)
    if len(distinct) <= most:
        return level.astype(np.int64)
    steps = np.floor(most * (ratings - distinct[0]) / (distinct[-1] - distinct[0])).astype(np.int64)
    return np.minimum(steps, most - 1)


def moments_of(times: np.ndarray, hours: float) -> np.ndarray:
    """The moment (n,) int64 of each time (n,) in seconds: how many spans of so many hours have passed since the first.

    Raises UserError for a span that is not above 0.

    >>> moments_of(np.array([7200.0, 0.0, 3599.0]), 1).tolist()
    [2, 0, 0]
    """
    if hours <= 0:
        raise UserError(f"moments are spans of time, and hours is {hours:g}; give a number above 0, such as 360")
    return np.floor((times - times.min(initial=np.inf)) / (3600 * hours)).astype(np.int64)


def moment_code(moments: Tensor, dim: int) -> Tensor:
    """Sines and cosines of moments (B,): (B, dim), in waves of 1 to 10,000 moments for a radian, in geometric steps; dim is even.

    >>> moment_code(torch.tensor([0]), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    rates = LONGEST ** (-torch.arange(dim // 2, dtype=torch.get_default_dtype()) / (dim // 2))
    angles = moments[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class MessagesOfMoments(nn.Module):
    """What nodes hear of when things were: a linear map of each moment's code, summed over a node's messages, over the root of its degree.

    linked: (N, N) CSR of ones, each node with itself. ends: (2, n) the nodes of interactions. moments: (n,) int64 of them. dim: D.
    """

    code: Tensor

    def __init__(self, linked: csr_array, ends: np.ndarray, moments: np.ndarray, dim: int) -> None:
        super().__init__()
        distinct, place = np.unique(moments, return_inverse=True)
        counts = csr_array((np.ones(2 * len(place)), (ends.ravel(), np.tile(place, 2))), shape=(linked.shape[0], len(distinct)))
        self.counts = SparseMatrix(csr_array(sparse.diags_array(1 / np.sqrt(linked.sum(1))) @ counts))
        self.linear = nn.Linear(2 * dim, dim)
        self.register_buffer("code", moment_code(torch.from_numpy(distinct), 2 * dim), persistent=False)

    def forward(self) -> Tensor:
        """(N, D)."""
        heard: Tensor = self.counts(self.linear(self.code))
        return heard


class RatedConvolution(Encoder):
    """An embedding of each user, and one of each item at each of C levels of ratings, spread over who rated what, how and when.

    matrix: (U, I) CSR of the training interactions, n of them. levels: (n,) int64 of its entries, 0 .. C - 1, all 0 by default. moments:
    (n,) int64, or None where times are not known. dim: D; rows have (1 + L) D. layers: L. deviation: of the normal distribution that
    embeddings start from.

    A layer of a node is LeakyReLU(d^-1/2 sum (W x' / d'^1/2 + t)) over its neighbours x' and itself, d being degrees: W is one map for
    users and another for items, t a linear map of the code of the moment, which a node has not with itself. Embeddings and layers, these
    brought to length 1, stand side by side, and an item is the mean of its levels.

    Views and encoding as in LightGraphConvolution; `layers` are the embeddings alone.

    >>> RatedConvolution(csr_matrix(np.eye(2, 3)), dim=4)(View({"nodes": torch.tensor([0, 4, 1])})).rows.shape
    torch.Size([3, 12])
    """

    def __init__(
        self,
        matrix: csr_matrix,
        dim: int = 64,
        *,
        levels: np.ndarray | None = None,
        moments: np.ndarray | None = None,
        layers: int = 2,
        deviation: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = (1 + layers) * dim
        self.users, self.items = matrix.shape
        self.levels = 1 if levels is None else int(levels.max(initial=0)) + 1
        user, item = (ends.astype(np.int64) for ends in matrix.nonzero())
        rated = self.users + item * self.levels + (0 if levels is None else levels)
        count = self.users + self.items * self.levels
        ways = csr_array((np.ones(len(user)), (user, rated)), shape=(count, count))
        linked = with_oneself(ways + ways.T)
        self.graph = SparseMatrix(degree_normalised(linked))
        self.embedding = nn.Parameter(deviation * torch.randn(count, dim))
        self.weights = nn.Parameter(nn.init.xavier_uniform_(torch.empty(layers, 2, dim, dim)))
        self.moments = None if moments is None else MessagesOfMoments(linked, np.stack([user, rated]), moments, dim)

    def forward(self, view: View) -> Encoding:
        nodes = view.data["nodes"]
        rows: Tensor = self.embedding
        layers = [rows]
        told = 0.0 if self.moments is None else self.moments()
        for of_users, of_items in self.weights:
            users, items = rows[: self.users], rows[self.users :]
            rows = leaky_relu(self.graph(torch.cat([users @ of_users, items @ of_items])) + told, SLOPE)
            layers.append(normalize(rows))
        whole = self.joined(torch.cat(layers, 1)).index_select(0, nodes)
        return Encoding(whole, layers=[self.joined(self.embedding).index_select(0, nodes)] if self.training else None)

    def joined(self, rows: Tensor) -> Tensor:
        """Rows of users and items (U + I, D), of those of users and of items at each level (U + I C, D)."""
        return torch.cat([rows[: self.users], rows[self.users :].unflatten(0, (self.items, self.levels)).mean(1)])
