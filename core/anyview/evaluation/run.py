"""A run's scores: its frozen encoder, the same encoder untrained and the raw features, by one probe on one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from anyview.evaluation.embedding import embed, fresh_rows
from anyview.evaluation.label_free import label_free
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED, Result, Rows, evaluate_rows
from anyview.plugins import host

if TYPE_CHECKING:
    from anyview.run import Run


def evaluate_run(run: Run, protocols: Sequence[str], *, data: Any, seeds: int, options: Mapping[str, Mapping[str, Any]]) -> list[Result]:
    """Results by protocol, also written to the run's evaluation.json together with the label-free metrics of the rows.

    data: as in Run.open. options: by protocol, over the recipe's own probe settings.
    """
    source = run.open(data)
    rows = embed(run.embedder, source)
    encoders: dict[str, Rows] = {TRAINED: rows, RANDOM: fresh_rows(run.fresh_encoder, source), RAW: source.features()}
    results = []
    for name in protocols:
        component = host().find("evaluations", name)
        chosen = {**run.recipe.probe.get(component.name, {}), **options.get(component.name, {})}
        results.append(evaluate_rows(encoders, source.labels, source.split, component.load(), range(seeds), chosen))
    run.folder.write_evaluation(
        {
            "data": {"name": source.name, "fingerprint": source.fingerprint()},
            "protocols": {result.protocol: result.to_dict() for result in results},
            "label_free": label_free(torch.from_numpy(rows)),
        }
    )
    return results
