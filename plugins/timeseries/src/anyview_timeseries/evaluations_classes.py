"""Protocols of classes that series were published with: TS2Vec's support vector machine, and the direction of a reach."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

from anyview.evaluation.limits import Limits
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData

STRENGTHS = (*(10.0**power for power in range(-4, 5)), np.inf)
FOLDS = 5
FEW_PER_CLASS, FEW = 5, 50
MOST = 10_000


@protocol(headline="accuracy", facts=("strength",), classifies=True, limits={"most": Limits(at_least=2)})
def rbf_svm(data: ProtocolData, seed: int, *, most: int = MOST) -> Scores:
    """A support vector machine with a Gaussian kernel on rows as they are: the protocol of TS2Vec (Yue et al., 2022, arXiv 2106.10466).

    Its width is scikit-learn's "scale"; its C the one of .0001 to 10000 and infinity with the best accuracy in 5 folds of the training
    part, drawn by class with `seed`, or infinity where the part has fewer than 5 samples a class or 50 in all. The validation part is not
    used. most: training rows, drawn with the seed where there are more, because the cost grows with their square. AUROCs are of the
    machine's decision values. Returns the strength 1 / C that was used beside the scores.
    """
    rows, labels = data.part("train")
    if len(rows) > most:
        chosen = np.random.default_rng(seed).permutation(len(rows))[:most]
        rows, labels = rows[chosen], labels[chosen]
    machine, c = fit_svm(rows, labels, seed)
    test = data.part("test")[0]
    return {**data.scores(machine.predict(test), _decisions(machine, test, data.classes)), "strength": 1 / c}


def fit_svm(rows: np.ndarray, labels: np.ndarray, seed: int) -> tuple[SVC, float]:
    """The machine of rows (n, D) and labels (n,), and its C; see `rbf_svm`."""
    machine = SVC(C=np.inf, gamma="scale", max_iter=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(rows) / len(np.unique(labels)) < FEW_PER_CLASS or len(rows) < FEW or np.bincount(labels).max() < FOLDS:
            return machine.fit(rows, labels), math.inf
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        warnings.filterwarnings("ignore", message="The least populated class")
        search = GridSearchCV(machine, {"C": STRENGTHS}, cv=folds).fit(rows, labels)
    return search.best_estimator_, float(search.best_params_["C"])


def _decisions(machine: SVC, rows: np.ndarray, classes: int) -> np.ndarray:
    """(n, C) decision values, higher the likelier; the lowest for classes that the machine was not shown."""
    values = machine.decision_function(rows)
    values = np.stack([-values, values], 1) if values.ndim == 1 else values
    found = np.full((len(rows), classes), values.min() - 1)
    found[:, machine.classes_] = values
    return found


def one_direction(data: ProtocolData, _seed: int = 0, **_options: object) -> Scores:
    """The best constant direction: the largest class, and the largest with its neighbours' within the wider tolerance."""
    return data.compare(_best_direction, data.classes)


def _best_direction(truth: np.ndarray, classes: int) -> Scores:
    each = [angular_scores(truth, 2 * math.pi * label / classes * np.ones(len(truth)), classes) for label in range(classes)]
    return {name: max(scores[name] for scores in each) for name in ("accuracy", "delta_accuracy")}


@protocol(
    headline="accuracy",
    majority=one_direction,
    constant="one direction",
    limits={"lr": Limits(above=0), "weight_decay": Limits(at_least=0), "epochs": Limits(at_least=1), "batch_size": Limits(at_least=1)},
)
def reach_angle(
    data: ProtocolData, seed: int, *, lr: float = 0.01, weight_decay: float = 1e-5, epochs: int = 100, batch_size: int = 256
) -> Scores:
    """Direction of a reach, whose classes stand evenly round a circle, by a linear layer to its cosine and sine.

    The protocol of MYOW (Azabou et al., 2021, arXiv 2102.10106): mean squared error, Adam, the last epoch, training rows not augmented.
    accuracy: share of test samples whose angle is less than half the distance of two directions away (pi / 8 of eight); delta_accuracy:
    less than three quarters of it (3 pi / 16). seed: of weights and order.
    """
    rows, labels = data.part("train")
    angles = torch.from_numpy(2 * np.pi * labels / data.classes)
    targets = torch.stack([angles.cos(), angles.sin()], 1).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(rows.shape[1], 2)
        optimizer = torch.optim.Adam(layer.parameters(), lr=lr, weight_decay=weight_decay)
        x = torch.from_numpy(rows)
        for _ in range(epochs):
            for index in torch.randperm(len(x)).split(batch_size):
                optimizer.zero_grad()
                (layer(x[index]) - targets[index]).square().mean().backward()
                optimizer.step()
    with torch.no_grad():
        cosine, sine = layer(torch.from_numpy(data.part("test")[0])).unbind(1)
    found: Scores = data.compare(angular_scores, torch.atan2(sine, cosine).numpy(), data.classes)
    return found


def angular_scores(truth: np.ndarray, angles: np.ndarray, classes: int) -> Scores:
    """Shares of angles (n,), in radians, that lie within half and three quarters of the distance of two classes from the truth (n,).

    >>> angular_scores(np.array([0, 7]), np.array([0.1, -1.3]), 8)
    {'accuracy': 0.5, 'delta_accuracy': 1.0}
    """
    step = 2 * math.pi / classes
    away = np.abs((angles - step * truth + math.pi) % (2 * math.pi) - math.pi)
    return {"accuracy": float((away < step / 2).mean()), "delta_accuracy": float((away < 0.75 * step).mean())}
