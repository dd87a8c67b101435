"""What trials are judged by, and that they never see a test part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData
from anyview.evaluation.subject import RawFeatures
from anyview.evaluation.validation import validation_score
from anyview.recipes.pair import pair
from anyview.tuning import search
from anyview.tuning.judge import ByMetric, ByProtocol, make_judge
from tests.tuning.small_searches import LABELS, SMALL, SOME, Published, rows, told, tuned


def test_a_collapsed_run_is_no_trial_s_success() -> None:
    class Folder:
        def metrics(self) -> list[dict[str, float]]:
            return [{"loss": 1.0, "standard_deviation": 0.9}, {"loss": 1.0, "standard_deviation": 0.01}]

    class Collapsed:
        folder = Folder()

    with pytest.raises(UserError, match="rows have collapsed"):
        ByMetric("rankme").judged(Collapsed())  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["linear", "logistic", "cluster", "finetune", "core/knn"])
def test_labels_of_the_test_part_decide_nothing(tmp_path: Path, by: str) -> None:
    other = LABELS.clone()
    other[240:] = torch.randint(10, (60,))
    options = {"finetune": {"epochs": 1, "lr": "0.001"}} if by == "finetune" else {}
    first = tuned(tmp_path / "first", by=by, trials=2, options=options)
    assert told(first) == told(tuned(tmp_path / "other", by=by, trials=2, options=options, data=rows(other)))
    other = LABELS.clone()
    other[180:240] = torch.randint(10, (60,))
    assert told(first) != told(tuned(tmp_path / "third", by=by, trials=2, options=options, data=rows(other)))  # those of validation do


def test_the_score_is_the_protocol_s_with_the_validation_part_for_the_test_part() -> None:
    seen: list[ProtocolData] = []

    @protocol(headline="accuracy")
    def looks(data: ProtocolData, seed: int) -> Scores:
        seen.append(data)
        return {"accuracy": data.score(data.labels[data.split.test.numpy()])}

    assert validation_score(RawFeatures(rows()), looks) == 1.0
    (data,) = seen
    assert data.split.train.tolist() == list(range(180))
    assert data.split.test.tolist() == list(range(180, 240))
    assert not len(data.split.validation)
    assert (data.labels[240:] == -1).all()


def test_without_a_validation_part_a_share_of_training_takes_its_place() -> None:
    class Two(Published):
        def split(self, seed: int) -> Split:
            whole = super().split(seed)
            return Split(torch.cat([whole.train, whole.validation]), torch.empty(0, dtype=torch.long), whole.test)

    shown: list[ProtocolData] = []

    @protocol()
    def looks(data: ProtocolData, seed: int) -> Scores:
        shown.append(data)
        return {"accuracy": 0.0}

    validation_score(RawFeatures(Two(SOME, LABELS)), looks)
    parts = shown[0].split
    assert len(parts.train) + len(parts.test) == 240
    assert 40 < len(parts.test) < 56
    assert int(parts.test.max()) < 240


def test_smaller_errors_are_better() -> None:
    pytest.importorskip("pandas")
    assert ByProtocol("heart_rate on validation", protocol="timeseries/heart_rate").goodness(2.0) == -2.0
    assert ByProtocol("linear on validation", protocol="core/linear").goodness(2.0) == 2.0
    assert ByMetric("alpha_req").goodness(0.9) > ByMetric("alpha_req").goodness(1.3)
    assert ByMetric("hubness").goodness(1.0) > ByMetric("hubness").goodness(2.0)


def test_a_metric_without_labels_judges_too(tmp_path: Path) -> None:
    found = tuned(tmp_path / "out", by="rankme", data=rows(None))
    assert found.by == "rankme"
    assert found.best.score == max(one.trial.score for one in found.trials if one.trial.score is not None)
    assert 1 <= found.untrained <= 4


def test_a_judge_is_found_by_name() -> None:
    recipe = pair(data=rows(), **SMALL)
    assert make_judge(None, recipe, {}, "cpu").name == "linear on validation"
    assert make_judge("core/knn", recipe, {"knn": {"k": 3}}, "cpu") == ByProtocol("knn on validation", "cpu", "core/knn", {"k": 3})
    assert dataclasses.is_dataclass(make_judge("nesum", recipe, {}, "cpu"))
    assert search.How().trials == 20
