"""Motifs of a social network and its purchases: for each pair of users, in how many triangles of a kind they stand together.

Yu, Yin, Li, Wang, Hung, Zhang. Self-Supervised Multi-Channel Hypergraph Convolutional Network for Social Recommendation. WWW 2021,
arXiv 2101.06448. Triangles of users are the seven of Benson, Gleich, Leskovec, Science 2016; three more hold two users and an item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csr_array, csr_matrix


@dataclass(frozen=True, eq=False)
class Channels:
    """What the motifs say of pairs of users, counts (U, U): by trust alone, by trust and a common item, by common items without trust."""

    social: csr_array
    joint: csr_array
    purchase: csr_array

    @property
    def all(self) -> tuple[csr_array, csr_array, csr_array]:
        """The three."""
        return self.social, self.joint, self.purchase


def channels(trust: csr_matrix | csr_array, purchases: csr_matrix | csr_array) -> Channels:
    """The sum of motifs 1 to 7, that of 8 and 9, and motif 10 without entries of 1 and less; its diagonal stays."""
    found = motifs(trust, purchases)
    often = found[9].multiply(found[9] > 1)
    return Channels(*(csr_array(matrix) for matrix in (sum(found[1:7], found[0]), found[7] + found[8], often)))


def motifs(trust: csr_matrix | csr_array, purchases: csr_matrix | csr_array) -> list[csr_array]:
    """Motifs 1 to 10 as counts (U, U) int64, symmetric: how many triangles of that kind two users stand in with a link between them.

    trust: (U, U) of ones, row u has whom user u trusts, nobody themselves. purchases: (U, I) of ones. Of three users a triangle has 1: a
    cycle of one-way links; 2: a cycle with one mutual link; 3: two mutual links; 4: three; 5: one-way links without a cycle; 6: a user who
    trusts both ends of a mutual link; 7: one whom both trust. 8: two who trust each other and share an item; 9: one trusts the other;
    10: neither does. Memory grows with the pairs of users who have a common item.

    >>> friends = csr_array(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
    >>> [int(matrix.sum()) for matrix in motifs(friends, csr_array(np.ones((3, 1))))]
    [0, 0, 0, 6, 0, 0, 0, 6, 0, 3]
    """
    S, Y = (csr_array(matrix, dtype=np.int64) for matrix in (trust, purchases))
    B = csr_array(S.multiply(S.T))
    N = csr_array(S - B)
    c1 = _both(N @ N, N.T)
    c2 = _both(B @ N, N.T) + _both(N @ B, N.T) + _both(N @ N, B)
    c3 = _both(B @ B, N) + _both(B @ N, B) + _both(N @ B, B)
    c5 = _both(N @ N, N) + _both(N @ N.T, N) + _both(N.T @ N, N)
    a4 = _both(B @ B, B)
    a6 = _both(N @ B, N) + _both(B @ N.T, N.T) + _both(N.T @ N, B)
    a7 = _both(N.T @ B, N.T) + _both(B @ N, N) + _both(N @ N.T, B)
    common = csr_array(Y @ Y.T)
    a8, c9 = _both(common, B), _both(common, N)
    a9 = c9 + c9.T
    found = [c1 + c1.T, c2 + c2.T, c3 + c3.T, a4, c5 + c5.T, a6, a7, a8, a9, common - a8 - a9]
    for matrix in found:
        matrix.eliminate_zeros()
    return found


def _both(a: sparse.sparray, b: sparse.sparray) -> csr_array:
    return csr_array(csr_array(a).multiply(csr_array(b)))
