"""How far few labels go: a logistic probe on small, fixed, stratified parts of the training labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from anyview.evaluation.limits import Limits, numbers
from anyview.evaluation.logistic import logistic
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData, majority_on_test
from anyview.views.draws import derive_seed

PERCENT = Limits(above=0, at_most=100)


def subsets(data: ProtocolData, seed: int, *, percent: str, **_others: Any) -> dict[str, Any]:
    """The samples of every part below 100 percent, by number: the same for every encoder, and each part holds the smaller ones."""
    asked = [share for share in numbers("label_fraction", "percent", percent, PERCENT) if share < 100]
    return {f"{share:g}%": fraction(data, share / 100, seed).tolist() for share in asked}


def constant(data: ProtocolData, _seed: int, *, percent: str, **_others: Any) -> Scores:
    """The scores of the best constant answer, which no number of labels changes."""
    best = majority_on_test(data)["accuracy"]
    asked = numbers("label_fraction", "percent", percent, PERCENT)
    return {"accuracy": best, **{f"accuracy_{share:g}%": best for share in asked}}


@protocol(headline="accuracy", majority=constant, record=subsets, limits={"max_iter": Limits(at_least=1)})
def label_fraction(data: ProtocolData, seed: int, *, percent: str = "1,10,100", max_iter: int = 1000) -> Scores:
    """Test accuracy of `logistic` fitted to parts of the training labels, and its mean over the parts.

    percent: sizes of the parts, with commas. Each is drawn by class with `seed`, at least one sample of every class that the training part
    has; parts are nested, the same for every encoder, and below 100 kept in the result by sample number. The strength of
    regularisation is chosen on the whole validation part, as in `logistic`. max_iter: L-BFGS steps per fit.
    """
    asked = numbers("label_fraction", "percent", percent, PERCENT)
    parts = {f"accuracy_{share:g}%": data.restricted(fraction(data, share / 100, seed)) for share in asked}
    found = {name: logistic(part, seed, max_iter=max_iter)["accuracy"] for name, part in parts.items()}
    return {"accuracy": float(np.mean(list(found.values()))), **found}


def fraction(data: ProtocolData, share: float, seed: int) -> np.ndarray:
    """Sample numbers (n,), sorted, of a share of the training part, the same share of every class and at least one sample."""
    train = data.split.train.numpy()
    labels = data.labels[train]
    random = np.random.default_rng(derive_seed(seed, "label fraction"))
    chosen = []
    for label in np.unique(labels):
        of_class = random.permutation(train[labels == label])
        chosen.append(of_class[: max(1, round(share * len(of_class)))])
    return np.sort(np.concatenate(chosen))
