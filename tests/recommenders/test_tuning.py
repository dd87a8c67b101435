"""Tuning recommenders: by the validation part alone, and training on all of it afterwards."""

from __future__ import annotations

from pathlib import Path

import yaml

import anyview
from anyview_recommenders.datasets import open_interactions, prepare
from anyview_recommenders.generated import generate
from anyview_recommenders.raw import Raw
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.splits import split

QUICK = {"dim": 8, "layers": 1, "epochs": 3, "look_every": 1}


def test_the_best_configuration_trains_on_the_validation_part_too(tmp_path: Path) -> None:
    found = anyview.tune("recommenders/lightgcn", tmp_path / "out", data="generated", trials=1, retrain=True, **QUICK)
    looks = [line["validation recall@20"] for line in found.load().folder.metrics() if "validation recall@20" in line]
    assert found.best.score == max(looks)
    assert found.best.passes == 1 + looks.index(max(looks))
    parameters = yaml.safe_load(found.config.read_text())["parameters"]
    assert (parameters["reading"], parameters["epochs"]) == ({"validation": 0}, found.best.passes)


def test_nothing_held_out_is_all_training() -> None:
    kept, whole = open_interactions("generated"), open_interactions("generated", validation=0)
    assert isinstance(kept, InteractionSource)
    assert isinstance(whole, InteractionSource)
    assert len(whole.parts.train) == len(kept.parts.train) + len(kept.parts.validation)
    assert (whole.parts.test.matrix() != kept.parts.test.matrix()).nnz == 0


def test_a_validation_part_that_data_brings_joins_its_training_part() -> None:
    parts = split(generate(50, 40), "temporal")
    raw = Raw(parts.train, "given", parts.validation, parts.test)
    assert len(prepare(raw, "log", {}).parts.validation) == len(parts.validation)
    joined = prepare(raw, "log", {"validation": 0}).parts
    assert not len(joined.validation)
    assert (joined.train.matrix() != parts.train.matrix() + parts.validation.matrix()).nnz == 0
    assert (joined.test.matrix() != parts.test.matrix()).nnz == 0
