"""Transfer: the encoder's rows of other data, probed there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from anyview.data.source import Source
from anyview.errors import UserError
from anyview.evaluation.embedding import require_finite
from anyview.evaluation.knn import knn
from anyview.evaluation.linear import linear
from anyview.evaluation.logistic import logistic
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData, labelled, majority_on_test, prepare_labels

Probe = Literal["logistic", "linear", "knn"]
PROBES: dict[str, Callable[..., Scores]] = {"logistic": logistic, "linear": linear, "knn": knn}


def constant(data: ProtocolData, seed: int, *, to: Any, **_others: Any) -> Scores:
    """The scores of the best constant answer on each of the data sets."""
    return _together({name: majority_on_test(other)["accuracy"] for name, other in targets(data, seed, to)})


@protocol(headline="accuracy", needs="source", labels="unused", majority=constant)
def transfer(data: ProtocolData, seed: int, *, to: Any = None, probe: Probe = "logistic") -> Scores:
    """Test accuracy of a probe on rows of other data sets, each with its own labels and split, and the mean over them.

    to: data that the encoder can read, by name or path, several with commas. probe: the protocol that is run on each, with its defaults;
    `seed` decides its split where that is drawn. Labels of the run's own data are not looked at.
    """
    if probe not in PROBES:
        raise UserError(f"the protocol transfer takes the probe {', '.join(PROBES)}, and was given {probe!r}")
    return _together({name: PROBES[probe](other, seed)["accuracy"] for name, other in targets(data, seed, to)})


def targets(data: ProtocolData, seed: int, to: Any) -> Iterator[tuple[str, ProtocolData]]:
    """Name and protocol data of every other data set."""
    if to is None:
        raise UserError("the protocol transfer probes other data, and none was named; add --transfer.to NAME")
    for other in data.open(to):
        yield other.name, _of(data, other, seed)


def _of(data: ProtocolData, other: Source, seed: int) -> ProtocolData:
    if other.labels is None:
        raise UserError(f"the protocol transfer needs labels, and the data {other.name!r} has none; choose data with labels")
    labels = prepare_labels(other.labels, "transfer", several=False)
    rows = data.embed(other)
    require_finite(rows, f"rows of {other.name!r}")
    split = labelled(other.split(seed), labels)
    origin = replace(data.asked_origin, source=other)
    return ProtocolData(rows, labels.values, split, len(labels.names), origin, tuple(map(str, labels.names)))


def _together(found: dict[str, float]) -> Scores:
    return {"accuracy": float(np.mean(list(found.values()))), **{f"accuracy_on_{name}": value for name, value in found.items()}}
