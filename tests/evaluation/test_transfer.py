"""Transfer: the probes' own scores on other data, and nothing of the run's own labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.errors import UserError
from anyview.evaluation import transfer as transfer_module
from anyview.evaluation.protocol import MAJORITY, RANDOM, RAW, TRAINED, evaluate_rows
from anyview.evaluation.protocol_data import ProtocolData, any_split
from anyview.evaluation.subject import RawFeatures
from anyview.evaluation.transfer import PROBES, transfer
from tests.evaluation.sources import clusters, result_of, subjects, unlabelled

OTHER = {"easy": clusters(separation=8.0, centres=1, name="easy"), "hard": clusters(separation=1.0, centres=2, classes=3, name="hard")}


def open_by_name(name: str | ArraySource) -> ArraySource:
    if isinstance(name, ArraySource):
        return name
    if name not in OTHER:
        raise UserError(f"there is no data {name!r}")
    return OTHER[name]


@pytest.mark.parametrize(("probe", "names"), [("knn", "easy,hard"), ("logistic", "hard"), ("linear", "hard")])
def test_scores_are_those_of_the_probe_on_the_other_data(probe, names):
    source = unlabelled(clusters())
    seeds = [0, 1] if probe == "knn" else [0]
    result = result_of(source, transfer, seeds=seeds, open=open_by_name, to=names, probe=probe)
    columns = subjects(source, open_by_name)
    for name in names.split(","):
        other = OTHER[name]
        rows = {encoder: (lambda seed, made=made, other=other: made.origin(seed).embed(other)) for encoder, made in columns.items()}
        alone = evaluate_rows(rows, other.labels, other.split, PROBES[probe], seeds)
        for encoder in (TRAINED, RANDOM, RAW, MAJORITY):
            assert result.values[encoder][f"accuracy_on_{name}"] == alone.values[encoder]["accuracy"]
    each = [result.mean(RAW, f"accuracy_on_{name}") for name in names.split(",")]
    assert result.mean(RAW) == pytest.approx(np.mean(each))
    assert result.split == "of the other data"
    assert result.to_dict()["options"]["to"] == names


def test_own_labels_are_not_looked_at():
    source, other = clusters(), clusters()
    other.labels = other.labels.flip(0)
    results = [
        result_of(one, transfer, open=open_by_name, seeds=[0], to="easy", probe="knn") for one in (source, other, unlabelled(clusters()))
    ]
    assert results[0].values == results[1].values == results[2].values


def test_mistakes_are_one_sentence():
    source = clusters()
    for options, words in (
        ({}, r"none was named; add --transfer\.to NAME"),
        ({"to": "none"}, "there is no data 'none'"),
        ({"to": "easy,none"}, "there is no data 'none'"),
        ({"to": unlabelled(source)}, "needs labels, and the data 'clusters without labels' has none"),
        ({"to": "easy", "probe": "liner"}, "takes the probe logistic, linear, knn, and was given 'liner'"),
    ):
        with pytest.raises(UserError, match=words):
            result_of(source, transfer, open=open_by_name, **options)
    with pytest.raises(UserError, match="needs the source of its rows"):
        evaluate_rows({TRAINED: source.features()}, source.labels, lambda seed: any_split(source, seed), transfer, [0], {"to": "easy"})


def test_the_other_datas_groups_are_kept_together(monkeypatch):
    """Its rows are held out by its own groups, not by those of the data that the run was trained on."""
    seen = []
    monkeypatch.setitem(transfer_module.PROBES, "logistic", lambda data, _seed: seen.append(data) or {"accuracy": 0.0})
    other = clusters(samples=40, name="other")
    other.groups = torch.arange(40) // 4
    data = ProtocolData(np.zeros((30, 12)), np.zeros(30), clusters(samples=30).split(0), 4, RawFeatures(clusters(samples=30)).origin(0))
    transfer(data, 0, to=other)
    assert seen[0].source is other
