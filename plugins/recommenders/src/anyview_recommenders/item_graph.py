"""Graphs of items: which stood near each other in sequences, which the same users have; products with them, edges left out or not."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from anyview_recommenders.baselines.item_knn import item_knn
from anyview_recommenders.histories import Histories
from anyview_recommenders.sparse_product import SparsePattern


class ItemGraph(nn.Module):
    """A weighted graph of I items, and what its normalised matrix makes of rows; none of it is a weight, and nothing is saved.

    matrix: (I, I) SciPy sparse matrix of weights that are not negative, an item's own among them. both: normalised by both ends,
    D^-1/2 A D^-1/2 with D the sums of rows, else by rows alone, D^-1 A. weights: (T,) those of the entries, in the pattern's order.

    >>> graph = ItemGraph(sparse.csr_array(np.array([[1.0, 3.0], [0.0, 1.0]])), both=False)
    >>> graph(torch.tensor([[4.0], [8.0]])).tolist()
    [[7.0], [8.0]]
    """

    weights: Tensor

    def __init__(self, matrix: sparse.csr_matrix | sparse.csr_array, *, both: bool = True) -> None:
        super().__init__()
        own = sparse.csr_array(matrix).sorted_indices()
        self.both, self.pattern = both, SparsePattern(own)
        self.register_buffer("weights", torch.from_numpy(own.data).to(torch.get_default_dtype()), persistent=False)

    def __len__(self) -> int:
        return int(self.pattern.shape[0])

    @property
    def loops(self) -> Tensor:
        """(T,) bool, which entries are from an item to itself."""
        return self.pattern.rows == self.pattern.columns

    def forward(self, rows: Tensor, weights: Tensor | None = None) -> Tensor:
        """The normalised matrix times rows (I, D), with gradient to them: (I, D); weights: (T,) in the place of its own."""
        product: Tensor = self.pattern(self.entries(weights), rows)
        return product

    def layers(self, rows: Tensor, depth: int, weights: Tensor | None = None) -> list[Tensor]:
        """The rows (I, D), and what each of `depth` products in turn makes of them: depth + 1 tensors (I, D)."""
        entries, found = self.entries(weights), [rows]
        for _ in range(depth):
            found.append(self.pattern(entries, found[-1]))
        return found

    def entries(self, weights: Tensor | None = None) -> Tensor:
        """(T,) of the normalised matrix; rows whose weights are all 0 are 0."""
        weights = self.weights if weights is None else weights
        sums = self.pattern.sums(weights)
        if not self.both:
            return weights / sums.clamp(min=1e-12).index_select(0, self.pattern.rows)
        scale = torch.where(sums > 0, sums, 1.0).rsqrt()
        return weights * scale.index_select(0, self.pattern.rows) * scale.index_select(0, self.pattern.columns)

    def numbers(self, one: Tensor, other: Tensor) -> Tensor:
        """(n,) which entry is from items one (n,) to items other (n,); every pair must have one."""
        keys = self.pattern.rows * len(self) + self.pattern.columns
        return torch.searchsorted(keys, one * len(self) + other)

    def dropped(self, rate: float, generator: torch.Generator) -> Tensor:
        """(T,) weights of which a random share `rate` is 0; loops stay. Where items are normalised by both ends, edges go both ways."""
        keep = torch.rand(len(self.pattern), generator=generator, device=generator.device) >= rate
        if self.both:
            numbers = torch.arange(len(keep), device=keep.device)
            keep = keep[torch.minimum(numbers, self.pattern.order)]  # that of the first of the two ways
        return self.weights * (keep | self.loops)


def near_in_sequences(histories: Histories, items: int, distance: int = 1) -> sparse.csr_array:
    """How often two items stood at most `distance` places apart in a history, both ways: (I, I), symmetric.

    >>> histories = Histories(torch.tensor([0, 3, 5]), torch.tensor([0, 1, 2, 1, 0]), torch.zeros(5), length=4)
    >>> near_in_sequences(histories, 3).toarray().tolist()
    [[0.0, 2.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    owners, done = histories.owners.numpy(), histories.items.numpy()
    together = [owners[gap:] == owners[:-gap] for gap in range(1, distance + 1)]
    ends = [(done[:-gap][same], done[gap:][same]) for gap, same in enumerate(together, 1)]
    one, other = (np.concatenate(side) for side in zip(*ends, strict=True))
    counts = sparse.coo_array((np.ones(len(one)), (one, other)), shape=(items, items)).tocsr()
    return sparse.csr_array(counts + counts.T)


def with_loops(matrix: sparse.csr_array) -> sparse.csr_array:
    """A matrix (I, I) and 1 from each item to itself."""
    return sparse.csr_array(matrix + sparse.eye_array(matrix.shape[0]))


def similar_items(matrix: sparse.csr_matrix | sparse.csr_array, neighbours: int = 4) -> sparse.csr_array:
    """Cosines of each item's users with those of the items most like it, a row an item: (I, I) of interactions (U, I).

    >>> similar_items(sparse.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1]])), 1).toarray().round(3).tolist()
    [[0.0, 0.816, 0.0], [0.816, 0.0, 0.0], [0.0, 0.577, 0.0]]
    """
    return sparse.csr_array(item_knn(matrix, neighbours=neighbours, shrinkage=0.0).weights.T)
