"""Clustering: k-means with as many clusters as classes, held against the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.preprocessing import normalize

from anyview.evaluation.limits import Limits
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData


def one_cluster(data: ProtocolData, _seed: int = 0, **_options: Any) -> Scores:
    """The scores of putting every row into one cluster."""
    labels = data.labels[data.labels >= 0]
    return agreement(labels, np.zeros_like(labels))


@protocol(headline="nmi", majority=one_cluster, limits={"restarts": Limits(at_least=1)})
def cluster(data: ProtocolData, seed: int, *, restarts: int = 10) -> Scores:
    """k-means on unit rows, all labelled rows of all parts; nothing is fitted to labels, so no part is held out.

    seed: of k-means++. restarts: the run of the smallest inertia of that many counts.
    Returns NMI (arithmetic mean, the V-measure), adjusted Rand index and accuracy under the best matching of clusters to classes.
    """
    labelled = data.labels >= 0
    found = clusters(data.rows[labelled], data.classes, seed, restarts)
    return agreement(data.labels[labelled], found)


def clusters(rows: np.ndarray, count: int, seed: int, restarts: int = 10) -> np.ndarray:
    """Cluster numbers (N,) of rows (N, D), taken to unit length."""
    return KMeans(count, n_init=restarts, random_state=seed).fit_predict(normalize(rows))


def agreement(labels: np.ndarray, found: np.ndarray) -> Scores:
    """NMI, ARI and matched accuracy of clusters (N,) against labels (N,).

    >>> agreement(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    {'nmi': 1.0, 'ari': 1.0, 'accuracy': 1.0}
    """
    return {
        "nmi": float(normalized_mutual_info_score(labels, found, average_method="arithmetic")),
        "ari": float(adjusted_rand_score(labels, found)),
        "accuracy": matched_accuracy(labels, found),
    }


def matched_accuracy(labels: np.ndarray, found: np.ndarray) -> float:
    """Share of rows that lie in the cluster of their class, clusters given to classes one to one in the best way (Hungarian algorithm)."""
    counts = contingency_matrix(labels, found)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))
