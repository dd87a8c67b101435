"""Robustness: a probe fitted to clean rows meets shifted ones.

Hendrycks, Dietterich. Benchmarking Neural Network Robustness to Common Corruptions and Perturbations. 2019, arXiv 1903.12261.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anyview.errors import UserError
from anyview.evaluation.embedding import require_finite
from anyview.evaluation.limits import Limits, numbers
from anyview.evaluation.logistic import fit_logistic
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData, majority_on_test

SEVERITY = Limits(at_least=1, at_most=5)


def constant(data: ProtocolData, _seed: int, *, shifts: str | None, **_others: Any) -> Scores:
    """The scores of the best constant answer, which no shift changes."""
    best = majority_on_test(data)["accuracy"]
    return _scores(best, {name: [best] for name in names(data, shifts)})


@protocol(headline="corrupted_accuracy", needs="source", facts=("strength",), majority=constant, limits={"max_iter": Limits(at_least=1)})
def corruption(data: ProtocolData, seed: int, *, shifts: str | None = None, severities: str = "1,2,3,4,5", max_iter: int = 1000) -> Scores:
    """Accuracy on shifted test samples of `logistic`, fitted to clean rows and chosen on clean ones.

    shifts: names of those that the data has, with commas; None = all. severities: 1 to 5, with commas. seed: of the shifts, too.
    max_iter: L-BFGS steps per fit.
    Returns the accuracy on clean samples, the mean over the severities of every shift, the mean over all shifts (corrupted accuracy), and
    how much that lies below the clean accuracy, as a share of it (relative drop).
    """
    levels = [_whole(level) for level in numbers("corruption", "severities", severities, SEVERITY)]
    chosen = names(data, shifts)
    model, strength = fit_logistic(data, seed, max_iter)
    clean = data.score(model.predict(data.part("test")[0]))
    test = data.split.test.numpy()
    found = {name: [data.score(model.predict(shifted(data, name, level, seed)[test])) for level in levels] for name in chosen}
    return {**_scores(clean, found), "strength": strength}


def names(data: ProtocolData, shifts: str | None) -> list[str]:
    """The shifts that are asked for; raises UserError for those that the data does not have."""
    known = data.source.corruptions
    if not known:
        raise UserError(f"the protocol corruption needs shifts, and the data {data.source.name!r} brings none; choose other data")
    asked = list(known) if shifts is None else [name.strip() for name in shifts.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise UserError(f"the data {data.source.name!r} has no shift {name!r}; it has {', '.join(known)}")
    return asked


def shifted(data: ProtocolData, name: str, severity: int, seed: int) -> np.ndarray:
    """Rows (N, D) of the whole source, shifted."""
    rows = data.embed(data.source.corrupted(name, severity, seed))
    if len(rows) != len(data.rows):
        raise UserError(f"the shift {name!r} turned {len(data.rows)} samples into {len(rows)}; a shift keeps every sample in its place")
    require_finite(rows, f"rows of the shift {name!r}")
    return rows


def _scores(clean: float, found: dict[str, list[float]]) -> dict[str, Any]:
    by_shift = {f"accuracy_{name}": float(np.mean(values)) for name, values in found.items()}
    corrupted = float(np.mean(list(by_shift.values())))
    drop = (clean - corrupted) / clean if clean else 0.0
    return {"clean_accuracy": clean, "corrupted_accuracy": corrupted, "relative_drop": drop, **by_shift}


def _whole(level: float) -> int:
    if level != int(level):
        raise UserError(f"the protocol corruption takes severities 1, 2, 3, 4 and 5, and was given {level:g}")
    return int(level)
