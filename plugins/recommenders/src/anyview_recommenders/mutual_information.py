"""How much features of items say about each other, and which of them are hidden together because they say the same.

Yao, Yi, Cheng, Yu, Chen, Menon, Hong, Chi, Tjoa, Kang, Ettinger. Self-supervised Learning for Large-scale Item Recommendations. CIKM 2021,
arXiv 2007.12865.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from anyview.errors import UserError
from anyview_recommenders.features import Feature


def mutual_information(features: Sequence[Feature]) -> np.ndarray:
    """(k, k) float64, in nats, for all pairs of k features of the same items: the sum of P(a, b) ln(P(a, b) / (P(a) P(b))).

    P counts occurrences: an item with several values of one feature or both counts once for each pair of them; what is not known is a value
    too. Of a feature with one value an item, with itself, it is the entropy.

    >>> coin = Feature("coin", "category", np.arange(5), np.array([1, 2, 1, 2]), size=3)
    >>> other = Feature("other", "category", np.arange(5), np.array([1, 1, 2, 2]), size=3)
    >>> mutual_information([coin, other]).round(4).tolist()
    [[0.6931, 0.0], [0.0, 0.6931]]
    """
    matrices = [feature.matrix() for feature in features]
    found = np.zeros((len(matrices), len(matrices)))
    for row, first in enumerate(matrices):
        for column, second in enumerate(matrices[: row + 1]):
            found[row, column] = found[column, row] = _of_counts(csr_matrix(first.T @ second))
    return found


def correlated_sets(information: np.ndarray) -> np.ndarray:
    """(k, k) bool: in row s, what is hidden with the seed feature s: itself and the half of k, rounded down, that it says most about.

    information: (k, k); of features that are equally informative the first are taken. Raises UserError for fewer than three features, where
    one of two complementary views would show nothing.

    >>> correlated_sets(np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]])).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 1, 1]]
    """
    count = check_enough(len(information))
    others = np.where(np.eye(count, dtype=bool), np.inf, information)
    order = np.argsort(-others, axis=1, kind="stable")
    sets = np.zeros((count, count), dtype=bool)
    np.put_along_axis(sets, order[:, : 1 + count // 2], values=True, axis=1)
    return sets


def check_enough(count: int) -> int:
    """The number of features itself; raises UserError for fewer than three."""
    if count < 3:
        raise UserError(
            f"two views that hide complementary features need three of them, and items have {count}; give a table with "
            "--reading.item_features, or train with --self-supervision none"
        )
    return count


def _of_counts(joint: csr_matrix) -> float:
    """Mutual information from how often two values occur together, a matrix of counts."""
    total = joint.sum()
    if not total:
        return 0.0
    pairs = joint.tocoo()
    rows, columns = (np.asarray(joint.sum(axis)).ravel() for axis in (1, 0))
    together = pairs.data / total
    apart = rows[pairs.row] / total * (columns[pairs.col] / total)
    return max(0.0, float((together * np.log(together / apart)).sum()))
