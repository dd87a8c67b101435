"""Metapaths: users related through items or their categories, and items through users or categories, by random walks along the way.

A walk goes from a node to a neighbour of each kind in turn, each as likely as the others, so that pairs with many ways between them are
drawn most. Nothing of the size of all pairs is made, which for categories would be that of the square of users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.sparse import csr_array, csr_matrix

from anyview_recommenders.ones import of_ones

Matrix: TypeAlias = csr_matrix | csr_array


def walked(path: Sequence[Matrix], neighbours: int, random: np.random.Generator) -> csr_array:
    """Who is met at the end of a metapath, (N, N) CSR of ones, symmetric, without oneself.

    path: matrices whose entries are steps, (N, A), (A, B) ... (Z, N). neighbours: walks that start at each node, so of these ends, each
    counted once, a node has no more; it also has those whose walks end at it.

    >>> used = csr_array(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    >>> walked([used, used.T.tocsr()], 9, np.random.default_rng(0)).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    count = path[0].shape[0]
    start = np.repeat(np.arange(count), neighbours)
    end = start
    for matrix in path:
        start, end = _stepped(start, end, matrix, random)
    apart = start != end
    links = csr_array((np.ones(int(apart.sum())), (start[apart], end[apart])), shape=(count, count))
    return of_ones(csr_array(links + links.T))


def with_oneself(links: Matrix) -> csr_array:
    """Links (N, N) as ones, and one of each node with itself.

    >>> with_oneself(csr_array(np.array([[0.0, 2.0], [0.0, 0.0]]))).toarray().tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    return of_ones(csr_array(links) + sparse.eye_array(links.shape[0], format="csr"))


def _stepped(start: np.ndarray, place: np.ndarray, matrix: Matrix, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where walks that are at a place began, and where they go next; those that cannot go on are left out."""
    counts = np.diff(matrix.indptr)[place]
    start, place, counts = (part[counts > 0] for part in (start, place, counts))
    entry = matrix.indptr[place] + (random.random(len(place)) * counts).astype(np.int64)
    return start, matrix.indices[entry].astype(np.int64)
