"""Logistic regression on standardised rows, its strength of regularisation chosen on validation rows."""

from __future__ import annotations

import copy
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from anyview.evaluation.limits import Limits
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData

STRENGTHS = tuple(10.0**power for power in range(5, -7, -1))
"""L2 strengths from strong to weak, 12 values: strength / 2 times the squared weights, beside the sum of the losses (1 / C)."""

Labelled = tuple[np.ndarray, np.ndarray]


@protocol(headline="accuracy", facts=("strength",), classifies=True, limits={"max_iter": Limits(at_least=1)})
def logistic(data: ProtocolData, seed: int, *, max_iter: int = 1000) -> Scores:
    """Multinomial logistic regression (L-BFGS) on rows standardised by the training part; test scores of one model, once.

    The L2 strength is the one of 10^-6 .. 10^5 with the best validation accuracy (ties: the stronger). Without a validation part it is
    chosen on a fifth of the training part, drawn with `seed` by class, or in whole groups where the data has them, and the model is then
    fitted to all of the training part; where even that leaves nothing to choose on, it is 1. max_iter: L-BFGS steps per fit.
    """
    model, strength = fit_logistic(data, seed, max_iter)
    test = data.part("test")[0]
    return {**data.scores(model.predict(test), probabilities(model, test, data.classes)), "strength": strength}


def probabilities(model: Pipeline, rows: np.ndarray, classes: int) -> np.ndarray:
    """(n, C) of rows (n, D); 0 for classes that the model was not shown."""
    found = np.zeros((len(rows), classes))
    found[:, model.classes_] = model.predict_proba(rows)
    return found


def fit_logistic(data: ProtocolData, seed: int, max_iter: int) -> tuple[Pipeline, float]:
    """The model and its strength, see `logistic`; fitted to the training part alone."""
    inner = data.with_validation(seed)
    train, validation = inner.part("train"), inner.part("validation")
    if not len(validation[1]):
        return _fit(_model(max_iter), 1.0, train), 1.0
    model, strength = choose(train, validation, max_iter)
    return (model if inner is data else _fit(_model(max_iter), strength, data.part("train"))), strength


def choose(train: Labelled, validation: Labelled, max_iter: int) -> tuple[Pipeline, float]:
    """The model and strength with the best validation accuracy; each fit starts where the stronger one before it ended."""
    model, best, best_strength, best_score = _model(max_iter), None, 0.0, -1.0
    for strength in STRENGTHS:
        score = _fit(model, strength, train).score(*validation)
        if score > best_score:
            best, best_strength, best_score = copy.deepcopy(model), strength, score
    return best, best_strength


def _model(max_iter: int) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=max_iter, warm_start=True))


def _fit(model: Pipeline, strength: float, train: Labelled) -> Pipeline:
    model.set_params(logisticregression__C=1 / strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest strengths have no finite optimum on separable rows
        return model.fit(*train)
