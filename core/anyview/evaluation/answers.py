"""How good predictions are: of classes beyond accuracy, and of numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def of_classes(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None = None) -> dict[str, float]:
    """Macro F1, weighted F1 and Cohen's kappa of predicted classes (n,), and two AUROCs where there are probabilities (n, C).

    truth: (n,) classes 0 .. C - 1. F1 is averaged over the classes that are in the truth or predicted, equally or by their share of the
    truth. kappa is 0 where truth and prediction are one and the same class throughout. probabilities: or scores that are higher the
    likelier the class; see `auroc_one_versus_rest` and `auroc_one_versus_one`.

    >>> of_classes(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    {'macro_f1': 0.733..., 'weighted_f1': 0.733..., 'kappa': 0.5}
    """
    from sklearn.metrics import cohen_kappa_score, f1_score  # a second to import, which recipes that bring protocols do without

    kappa = cohen_kappa_score(truth, predicted) if len(np.union1d(truth, predicted)) > 1 else 0.0
    found = {
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(truth, predicted, average="weighted", zero_division=0)),
        "kappa": float(kappa),
    }
    if probabilities is not None and len(np.unique(truth)) > 1:
        found |= {
            "auroc_one_versus_rest": auroc_one_versus_rest(truth, probabilities),
            "auroc_one_versus_one": auroc_one_versus_one(truth, probabilities),
        }
    return found


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a positive's score is above a negative's, ties counting half; scores (p,) and (q,).

    >>> auroc(np.array([0.9, 0.4]), np.array([0.1, 0.4]))
    0.875
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def auroc_one_versus_rest(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes in truth (n,), two at least, of each one's AUROC against all others by its column of probabilities (n, C)."""
    columns = [(probabilities[:, label], truth == label) for label in np.unique(truth)]
    return float(np.mean([auroc(scores[own], scores[~own]) for scores, own in columns]))


def auroc_one_versus_one(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over pairs of the classes in truth (n,), of two at least, of their AUROC; it ignores how large classes are.

    A pair's AUROC is the mean of those by either class's column of probabilities (n, C), among samples of the two (Hand and Till, 2001).
    """
    rows = {label: probabilities[truth == label] for label in np.unique(truth)}
    pairs = combinations(rows, 2)
    return float(np.mean([(auroc(rows[a][:, a], rows[b][:, a]) + auroc(rows[b][:, b], rows[a][:, b])) / 2 for a, b in pairs]))


def of_numbers(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Mean absolute error, root mean squared error, mean absolute percentage error (0 to 1) and correlation of predicted numbers (n,).

    The percentage error leaves out samples whose truth is 0, and is absent where all are; the correlation is 0 where a side is constant.

    >>> of_numbers(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    {'mae': 1.0, 'rmse': 1.0, 'correlation': 0.0, 'mape': 0.666...}
    """
    truth, predicted = truth.astype(np.float64), predicted.astype(np.float64)
    error = predicted - truth
    varies = np.ptp(truth) > 0 and np.ptp(predicted) > 0
    found = {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "correlation": float(np.corrcoef(truth, predicted)[0, 1]) if varies else 0.0,
    }
    there = truth != 0
    return {**found, "mape": float(np.abs(error[there] / truth[there]).mean())} if there.any() else found
