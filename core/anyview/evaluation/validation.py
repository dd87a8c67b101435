"""A protocol on the validation part: what settings are chosen by. Labels of the test part are hidden before a protocol sees any."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from anyview.data.source import Source
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.protocol import Declaration, Protocol, check_options, declaration
from anyview.evaluation.protocol_data import (
    Labels,
    ProtocolData,
    any_split,
    no_labels,
    prepare_labels,
    prepare_numbers,
    without_unlabelled,
)
from anyview.evaluation.subject import Subject

SEED = 0
"""Of splits that are drawn, and of the probe."""


def validation_score(subject: Subject, protocol: Protocol, options: Mapping[str, Any] | None = None) -> float:
    """A protocol's headline with the validation part in the place of the test part, fitted to the training part.

    Where the split has no validation part, a fifth of the training part is that, drawn by class or in whole groups. Splits that are drawn
    are those of seed 0, so that the test part of that seed stays unseen. Of protocols that score what their source says, those can be asked
    that have an option `part`.
    Raises UserError for protocols of other data, for data without fit labels, and where there is nothing to choose on.
    """
    name, declared = protocol.__name__, declaration(protocol)
    if declared.labels == "unused":
        raise UserError(f"the protocol {name} scores other data, and a validation part is to be scored; choose another, such as linear")
    if declared.labels == "source":
        if "part" not in inspect.signature(protocol).parameters:
            raise UserError(f"the protocol {name} cannot be asked for the validation part; choose another")
        labels, split = no_labels(len(subject.source)), subject.source.split(SEED)
        applied = check_options(protocol, {**(options or {}), "part": "validation"})
    else:
        labels, split = _held_out(subject, _labels(subject.source, name, declared))
        applied = check_options(protocol, options or {})
    rows = np.asarray(subject(SEED), dtype=np.float32)
    data = ProtocolData(rows, labels.values, split, len(labels.names), subject.origin(SEED), tuple(map(str, labels.names)))
    scores = protocol(data, SEED, **applied)
    return float(scores[declared.several if declared.several and data.several else declared.headline])


def _labels(source: Source, name: str, declared: Declaration) -> Labels:
    if declared.labels == "numbers":
        return prepare_numbers(source.labels, name)
    if declared.labels == "used" and source.labels is None:
        return no_labels(len(source))
    return prepare_labels(source.labels, name, several=declared.several is not None)


def _held_out(subject: Subject, labels: Labels) -> tuple[Labels, Split]:
    """Labels without those of the test part, and a split whose test part is the validation part."""
    source = subject.source
    split = any_split(source, SEED)
    values = labels.values.copy()
    values[split.test.numpy()] = np.nan if labels.numeric else 0 if values.ndim == 2 else -1
    split = without_unlabelled(split, values) if labels.given else split
    nothing = np.empty((len(values), 0), dtype=np.float32)
    parts = ProtocolData(nothing, values, split, len(labels.names), subject.origin(SEED)).with_validation(SEED).split
    if not len(parts.validation) or not len(parts.train):
        found = f"the split {split.name!r} of {source.name!r} has no labelled validation part"
        raise UserError(f"{found}, and none can be drawn from its training part; choose by a label-free metric, such as rankme")
    nobody = torch.empty(0, dtype=torch.long)
    return Labels(values, labels.names), Split(parts.train, nobody, parts.validation, name=f"{split.name}, scored on validation")
