"""Controls and baselines that a source or a protocol brings, and protocols of numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from anyview.data.arrays import ArraySource
from anyview.errors import UserError
from anyview.evaluation.knn import knn
from anyview.evaluation.linear import linear
from anyview.evaluation.protocol import RAW, TRAINED, Scores, evaluate_rows, protocol, table
from anyview.evaluation.protocol_data import ProtocolData, any_split, mean_of_train
from anyview.evaluation.subject import RawFeatures


class Squares(ArraySource):
    """Brings its squares as a control, and the class of the nearest training row as a baseline."""

    def controls(self) -> dict[str, Any]:
        return {"squares": lambda: self.features() ** 2}

    def baselines(self) -> dict[str, Any]:
        def nearest(train: torch.Tensor, labels: np.ndarray, _seed: int) -> np.ndarray:
            return labels[torch.cdist(self.x, self.x[train]).argmin(1).numpy()]

        def lacking(*_: Any) -> np.ndarray:
            raise UserError("it needs a package; install it")

        return {"nearest row": nearest, "rocket": lacking}


@pytest.fixture
def source() -> Squares:
    x = np.random.default_rng(0).normal(size=(200, 3))
    return Squares(x, (np.abs(x[:, 0]) > 0.7).astype(int), name="rings")


def columns(source: Squares) -> dict[str, Any]:
    return {TRAINED: source.features(), RAW: RawFeatures(source), "squares": RawFeatures(source, control="squares")}


def test_controls_are_probed_and_baselines_answer_themselves(source: Squares) -> None:
    result = evaluate_rows(columns(source), source.labels, source.split, linear, [0, 1], baselines=source.baselines())
    assert list(result.values) == [TRAINED, RAW, "squares", "nearest row", "majority class"]
    assert result.mean("squares") > result.mean(RAW)
    assert result.mean("nearest row") > result.mean("majority class")
    assert {"macro_f1", "kappa"} <= set(result.values["nearest row"])
    assert "the baseline rocket is left out: it needs a package; install it" in result.warnings


def test_some_baselines_may_be_asked_for_or_none(source: Squares) -> None:
    def found(names: list[str]) -> set[str]:
        probed = evaluate_rows(columns(source), source.labels, source.split, linear, [0], baselines=source.baselines(), beside=names)
        assert not any("rocket" in told for told in probed.warnings)
        return set(probed.values) - {TRAINED, RAW, "squares", "majority class"}

    assert found([]) == set()
    assert found(["nearest row"]) == {"nearest row"}
    with pytest.raises(UserError, match="the protocol linear has no baseline 'rocker' on this data; choose from nearest row, rocket"):
        found(["rocker"])


def test_baselines_stand_only_beside_probes(source: Squares) -> None:
    @protocol(headline="accuracy")
    def other(data: ProtocolData, seed: int) -> Scores:
        return {"accuracy": 0.5}

    assert "nearest row" not in evaluate_rows(columns(source), source.labels, source.split, other, [0], baselines=source.baselines()).values
    assert "nearest row" in evaluate_rows(columns(source), source.labels, source.split, knn, [0], baselines=source.baselines()).values


def test_a_control_of_data_of_another_kind_is_refused(source: Squares) -> None:
    subject = RawFeatures(source, control="squares")
    with pytest.raises(UserError, match="'plain' has no squares, which 'rings' has; choose data of the same kind"):
        subject.origin(0).embed(ArraySource(np.zeros((4, 3)), name="plain"))


def half(data: ProtocolData, _seed: int, **_options: Any) -> Scores:
    return data.errors(np.full(len(data.split.test), 0.5))


@protocol(
    headline="mae",
    labels="numbers",
    majority=mean_of_train,
    constant="mean predictor",
    baselines={"half": half},
    units={"mae": "m", "correlation": ""},
)
def least_squares(data: ProtocolData, seed: int) -> Scores:
    """A plain regression."""
    rows, numbers = data.part("train")
    return data.errors(data.part("test")[0] @ np.linalg.lstsq(rows, numbers, rcond=None)[0])


def test_numbers_are_predicted_and_told_in_their_unit(source: Squares) -> None:
    numbers = source.x @ torch.tensor([1.0, -2.0, 3.0])
    numbers[:5] = float("nan")
    source.labels = numbers
    result = evaluate_rows(columns(source), numbers, lambda seed: any_split(source, seed), least_squares, [0])
    assert list(result.values) == [TRAINED, RAW, "squares", "half", "mean predictor"]
    assert result.mean() < 1e-4 < result.mean("half")
    assert result.sizes["train"] + result.sizes["validation"] + result.sizes["test"] == 195
    assert result.cell("mean predictor", "mae") == f"{result.mean('mean predictor'):.2f}"
    out = io.StringIO()
    Console(file=out, width=160).print(table([result]))
    assert "mae, m" in out.getvalue()
    assert "correlation, no unit" in out.getvalue()
    assert result.to_dict()["units"] == {"mae": "m", "correlation": ""}


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (None, "needs labels, and the data has none"),
        (torch.zeros(200, 2), r"predicts one finite number per sample, and the labels are an array of \(200, 2\)"),
        (torch.full((200,), 7.0), "needs labels that differ"),
        (torch.full((200,), float("inf")), "one finite number"),
    ],
)
def test_labels_that_are_no_numbers_are_refused(source: Squares, labels: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        evaluate_rows(columns(source), labels, source.split, least_squares, [0])


def test_whole_numbers_below_0_are_unlabelled(source: Squares) -> None:
    labels = torch.arange(200) - 50
    result = evaluate_rows(columns(source), labels, lambda seed: any_split(source, seed), least_squares, [0])
    assert sum(result.sizes.values()) == 150


def test_runs_show_the_controls_of_their_data(tmp_path: Any) -> None:
    import anyview

    x = np.random.default_rng(0).normal(size=(64, 3))
    source = Squares(x, (x[:, 0] > 0).astype(int), name="rings")
    run = anyview.pretrain("core/pair", tmp_path / "run", data=source, epochs=1, hidden=8, dim=4, batch_size=32)
    (result,) = run.evaluate(["logistic"], seeds=1)
    assert list(result.values)[3:] == ["squares", "nearest row", "majority class"]
