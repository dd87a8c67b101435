"""Out-of-distribution detection: do rows tell samples of another kind from those of the training part.

Mahalanobis distance (Lee et al., 2018, arXiv 1807.03888; shrunk by Ledoit and Wolf; relative form Ren et al., 2021, arXiv 2106.09022) and
distance to the k-th neighbour (Sun, Ming, Zhu, Li. Out-of-Distribution Detection with Deep Nearest Neighbors. 2022, arXiv 2204.06507).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from anyview.errors import UserError
from anyview.evaluation.embedding import require_finite
from anyview.evaluation.limits import Limits
from anyview.evaluation.mahalanobis import mahalanobis_scores
from anyview.evaluation.neighbourhoods import CHUNK
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData
from anyview.evaluation.rows import float64, unit
from anyview.views.draws import derive_seed

DETECTORS = ("mahalanobis", "knn")


@dataclass(frozen=True, slots=True)
class Task:
    """What detectors are fitted to, rows `train` (N, D) with `labels` (N,), and tell apart: test rows `inside` (n, D), and others."""

    train: np.ndarray
    labels: np.ndarray
    inside: np.ndarray
    outside: dict[str, np.ndarray]


def record(data: ProtocolData, seed: int, *, against: Any, left_out: int | None, **_others: Any) -> dict[str, Any]:
    """The classes that were left out, where no other data was named."""
    if against is not None:
        return {}
    return {"left_out": [data.names[label] for label in left_out_classes(data, seed, left_out)]}


def constant(data: ProtocolData, seed: int, *, against: Any, left_out: int | None, **_others: Any) -> Scores:
    """The scores of one and the same score for every sample."""
    task = make_task(data, seed, against, left_out)
    by_set = {name: judge(np.zeros(len(task.inside)), np.zeros(len(rows))) for name, rows in task.outside.items()}
    return {name: value for detector in DETECTORS for name, value in _together(detector, by_set).items()}


@protocol(
    headline="mahalanobis_auroc",
    facts=("shrinkage", "k"),
    needs="source",
    labels="used",
    majority=constant,
    record=record,
    limits={"k": Limits(at_least=1), "left_out": Limits(at_least=1), "clusters": Limits(at_least=1)},
)
def ood(
    data: ProtocolData,
    seed: int,
    *,
    against: Any = None,
    left_out: int | None = None,
    relative: bool = False,
    k: int | None = None,
    clusters: int = 1,
) -> Scores:
    """How well two scores that were fitted to the training part tell samples of another kind from test samples of the same kind.

    against: other data, by name or path, several with commas: all its samples are of another kind. None: classes of the same data are
    left out of training and test part, and their test samples are of another kind. left_out: how many, drawn with `seed`; None = a fifth
    of the classes, at least one. relative: take the squared distance to one Gaussian of all training rows off the Mahalanobis
    distance. k: the neighbour whose distance counts; None = 50, or a tenth of the training part where that is less. clusters: of
    k-means, in the place of classes where the data has no labels. Nothing is chosen on samples of another kind.

    Mahalanobis: smallest distance to a class mean, one shrunk covariance for all classes. kNN: distance of unit rows.
    Returns, for both, AUROC, AUPR and FPR95, with samples of another kind as positives: AUPR is the average precision, FPR95 (smaller is
    better) the share of samples of the same kind that are taken for others where 95 % of the others are found. Of several other data sets
    the mean, and each.
    """
    task = make_task(data, seed, against, left_out)
    train, labels = float64(task.train), _classes(task, clusters, seed, relative)
    used = min(len(train), k or max(1, min(50, len(train) // 10)))
    found: dict[str, dict[str, Scores]] = {detector: {} for detector in DETECTORS}
    shrinkage = 0.0
    for name, outside in task.outside.items():
        rows = float64(np.concatenate([task.inside, outside]))
        distances, shrinkage = mahalanobis_scores(train, labels, rows, relative=relative)
        for detector, scores in zip(DETECTORS, (distances, neighbour_distances(train, rows, used)), strict=True):
            found[detector][name] = judge(*np.split(scores.numpy(), [len(task.inside)]))
    together = {name: value for detector in DETECTORS for name, value in _together(detector, found[detector]).items()}
    return {**together, "shrinkage": shrinkage, "k": float(used)}


def make_task(data: ProtocolData, seed: int, against: Any, left_out: int | None) -> Task:
    """What detectors are fitted to, and what they have to tell apart."""
    (train, labels), (test, _) = data.part("train"), data.part("test")
    if against is not None:
        outside = {source.name: data.embed(source) for source in data.open(against)}
        for name, rows in outside.items():
            require_finite(rows, f"rows of {name!r}")
        return Task(train, labels, test, outside)
    other = left_out_classes(data, seed, left_out)
    test_labels = data.labels[data.split.test.numpy()]
    kept, strange = ~np.isin(labels, other), np.isin(test_labels, other)
    return Task(train[kept], labels[kept], test[~strange], {"left_out": test[strange]})


def left_out_classes(data: ProtocolData, seed: int, count: int | None) -> np.ndarray:
    """The classes that count as another kind, sorted; every other class of the training part stays."""
    if not data.classes:
        raise UserError(f"the data {data.source.name!r} has no classes to leave out; name other data with --ood.against NAME")
    test = np.unique(data.labels[data.split.test.numpy()])
    known = np.intersect1d(test, np.unique(data.labels[data.split.train.numpy()]))
    wanted = max(1, round(data.classes / 5)) if count is None else count
    if wanted >= len(known):
        raise UserError(
            f"the protocol ood was to leave out {wanted} classes, and training and test part share {len(known)}; leave out fewer, "
            "or name other data with --ood.against NAME"
        )
    return np.sort(np.random.default_rng(derive_seed(seed, "left out")).permutation(known)[:wanted])


def neighbour_distances(train: Tensor, rows: Tensor, k: int) -> Tensor:
    """Distances (n,) of rows (n, D) to the k-th nearest of train (N, D), all at unit length."""
    bank = unit(train)
    parts = unit(rows).split(max(1, CHUNK // len(bank)))
    cosine = torch.cat([(part @ bank.T).topk(k, 1).values[:, -1] for part in parts])
    return (2 - 2 * cosine).clamp_min(0).sqrt()


def judge(inside: np.ndarray, outside: np.ndarray) -> Scores:
    """AUROC, AUPR and FPR95 of scores (n,) and (m,) that should be larger for what is outside.

    >>> judge(np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0]))
    {'auroc': 1.0, 'aupr': 1.0, 'fpr95': 0.0}
    """
    truth, scores = np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside])
    false_positives, true_positives, _ = roc_curve(truth, scores, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "aupr": float(average_precision_score(truth, scores)),
        "fpr95": float(false_positives[np.searchsorted(true_positives, 0.95)]),
    }


def _classes(task: Task, clusters: int, seed: int, relative: bool) -> Tensor:
    """Labels (N,) of the training rows; without classes those of k-means."""
    labels = task.labels
    if (labels < 0).all():
        labels = KMeans(clusters, n_init=10, random_state=seed).fit_predict(task.train) if clusters > 1 else np.zeros_like(labels)
    if relative and len(np.unique(labels)) < 2:
        raise UserError("the relative form compares classes with all samples, and there is one class; leave it out, or set --ood.clusters")
    return torch.from_numpy(labels.astype(np.int64))


def _together(detector: str, by_set: dict[str, Scores]) -> Scores:
    """Means over the other data sets and, where there are several, the scores of each."""
    measures = next(iter(by_set.values()))
    means = {f"{detector}_{measure}": float(np.mean([scores[measure] for scores in by_set.values()])) for measure in measures}
    each = {f"{detector}_{measure}_on_{name}": value for name, scores in by_set.items() for measure, value in scores.items()}
    return {**means, **each} if len(by_set) > 1 else means
