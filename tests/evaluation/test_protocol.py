"""The frame: controls, spread, warnings, JSON and table; and no protocol that learns anything from test labels."""

from __future__ import annotations

import io
import json
import statistics
from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console

from anyview.data.arrays import ArraySource
from anyview.data.splits import Split, stratified_split
from anyview.errors import UserError
from anyview.evaluation.answers import of_classes
from anyview.evaluation.cluster import cluster
from anyview.evaluation.knn import knn
from anyview.evaluation.label_fraction import label_fraction
from anyview.evaluation.linear import linear
from anyview.evaluation.logistic import logistic
from anyview.evaluation.protocol import MAJORITY, RANDOM, RAW, TRAINED, Result, Scores, declaration, evaluate_rows, protocol, table
from anyview.evaluation.protocol_data import ProtocolData, any_split
from tests.evaluation.sources import clusters, subjects, unlabelled

PROTOCOLS = [linear, logistic, knn, cluster, label_fraction]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(300, 6))


def result_of(data: ProtocolData, protocol=linear, seeds=(0, 1, 2), **options) -> Result:
    labels = torch.from_numpy(data.labels)
    rows = {TRAINED: data.rows, RANDOM: noise, RAW: noise(99)}
    return evaluate_rows(rows, labels, lambda seed: stratified_split(labels, seed), protocol, seeds, options)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_score_stands_beside_its_controls(blobs, protocol):
    result = result_of(blobs(separation=8.0), protocol)
    assert list(result.values) == [TRAINED, RANDOM, RAW, MAJORITY]
    for encoder in result.values:
        assert len(result.values[encoder][result.headline]) == 3
    assert result.mean() > 0.8
    assert result.mean() > result.mean(RANDOM) + 0.3
    assert result.mean(MAJORITY) <= 0.25
    assert result.warnings == []


def test_controls_are_made_anew_for_every_seed(blobs):
    asked = []
    data = blobs()
    rows = {TRAINED: data.rows, RANDOM: lambda seed: asked.append(seed) or noise(seed)}
    evaluate_rows(rows, data.labels, lambda _: data.split, knn, [4, 7])
    assert asked == [4, 7]


def test_a_result_without_controls_says_so(blobs):
    data = blobs()
    warnings = evaluate_rows({TRAINED: data.rows}, data.labels, lambda _: data.split, knn, [0]).warnings
    assert warnings == ["the scores stand without these controls: random encoder, raw features"]


@pytest.mark.parametrize("protocol", [linear, logistic, knn, label_fraction])
@pytest.mark.parametrize("validation", [True, False])
def test_permuted_test_labels_change_no_prediction_and_no_choice(blobs, monkeypatch, protocol, validation):
    data = blobs(separation=1.5)
    split = data.split if validation else Split(data.split.train, data.split.validation[:0], data.split.test)
    seen: list[np.ndarray] = []

    def compare(_: ProtocolData, measured: object, *answers: np.ndarray | None) -> object:
        seen.extend(answer for answer in answers if answer is not None)
        return {} if measured is of_classes else 0.0

    monkeypatch.setattr(ProtocolData, "compare", compare)
    permuted = data.labels.copy()
    test = split.test.numpy()
    permuted[test] = np.random.default_rng(0).permutation(permuted[test])
    assert (permuted != data.labels).any()
    facts = [protocol(ProtocolData(data.rows, labels, split, 4), 0) for labels in (data.labels, permuted)]
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert first
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert facts[0] == facts[1]


def test_permuted_labels_change_no_cluster(blobs, monkeypatch):
    data = blobs(separation=1.5)
    seen: list[np.ndarray] = []
    monkeypatch.setattr("anyview.evaluation.cluster.agreement", lambda _, found: seen.append(found) or {"nmi": 0.0})
    for labels in (data.labels, np.random.default_rng(0).permutation(data.labels)):
        cluster(ProtocolData(data.rows, labels, data.split, 4), 0)
    np.testing.assert_array_equal(*seen)


def test_mean_and_spread_are_over_seeds(blobs):
    result = result_of(blobs(separation=2.0), knn)
    values = result.values[TRAINED]["accuracy"]
    assert len(set(values)) > 1
    assert result.mean() == pytest.approx(np.mean(values))
    assert result.standard_deviation() == pytest.approx(np.std(values, ddof=1))
    assert result.cell(TRAINED, "accuracy") == f"{100 * np.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def test_a_single_seed_has_no_spread(blobs):
    result = result_of(blobs(), knn, seeds=[0])
    assert "±" not in result.cell(TRAINED, "accuracy")
    assert result.to_dict()["results"][TRAINED]["accuracy"]["standard_deviation"] is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dictionary_goes_through_json(blobs, protocol):
    result = result_of(blobs(), protocol, seeds=range(2))
    told = result.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["protocol"] == protocol.__name__
    assert told["headline"] == declaration(protocol).headline
    assert told["seeds"] == [0, 1]
    assert told["split"] == "stratified 60/20/20, one per seed"
    assert told["sizes"] == {"train": 180, "validation": 60, "test": 60}
    assert told["results"][TRAINED][told["headline"]]["values"] == result.values[TRAINED][told["headline"]]


def test_options_are_told_as_they_applied(blobs):
    assert result_of(blobs(), linear, seeds=[0], epochs=5).options == {"lr": 0.01, "weight_decay": 1e-4, "epochs": 5}
    assert result_of(blobs(), knn, seeds=[0]).settings() == "k 20, temperature 0.1, weighted True"


def test_unknown_options_are_refused(blobs):
    with pytest.raises(UserError, match=r"linear has no option 'epoch'; it takes lr, weight_decay, epochs"):
        result_of(blobs(), linear, epoch=5)


def test_several_answers_have_their_own_headline(blobs):
    data = blobs()
    answers = np.stack([data.labels % 2, data.labels // 2], axis=1)
    result = evaluate_rows({TRAINED: data.rows}, answers, lambda _: data.split, linear, [0])
    assert result.headline == "micro_f1"
    assert set(result.values[MAJORITY]) == {"micro_f1"}


def test_classes_that_training_lacks_are_a_warning(blobs):
    data = blobs()
    train = data.split.train[torch.from_numpy(data.labels)[data.split.train] != 2]
    split = Split(train, data.split.validation, data.split.test)
    result = evaluate_rows({TRAINED: data.rows, RANDOM: noise, RAW: noise(1)}, data.labels + 10, lambda _: split, knn, [0, 1])
    assert result.warnings == [
        "the test part has samples of class 12, which the training part lacks, and no probe can know them (seeds 0, 1)",
    ]


def test_rows_that_are_not_finite_are_counted(blobs):
    data = blobs()
    rows = noise(0)
    rows[:7] = np.nan
    with pytest.raises(UserError, match="7 of 300 rows of the random encoder hold NaN or infinity"):
        evaluate_rows({TRAINED: data.rows, RANDOM: rows}, data.labels, lambda _: data.split, knn, [0])


def test_rows_and_labels_must_be_equally_many(blobs):
    data = blobs()
    with pytest.raises(UserError, match="there are 300 labels, and 299 rows of the trained encoder"):
        evaluate_rows({TRAINED: data.rows[1:]}, data.labels, lambda _: data.split, knn, [0])


def test_table_shows_scores_beside_controls_with_settings_and_warnings(blobs):
    data = blobs(separation=8.0)
    lonely = evaluate_rows({TRAINED: data.rows}, data.labels, lambda _: data.split, knn, [0], {"k": 3})
    results = [result_of(data, linear, epochs=50), lonely]
    console = Console(width=200, file=io.StringIO())
    console.print(table(results))
    text = console.file.getvalue()
    for phrase in (
        TRAINED,
        RANDOM,
        RAW,
        MAJORITY,
        "accuracy best validation",
        "k 3, temperature 0.1",
        "stratified 60/20/20",
        "without these controls",
    ):
        assert phrase in text
    assert results[0].cell(RANDOM, "accuracy") in text
    assert "best epoch" not in text


def test_protocols_that_need_more_are_given_where_rows_come_from():
    source, seen = clusters(), []

    @protocol(needs="source")
    def look(data: ProtocolData, seed: int) -> Scores:
        np.testing.assert_array_equal(data.embed(data.source), data.rows)
        seen.append((data.source is source, data.origin.encoder is not None, data.names))
        return {"accuracy": 1.0}

    result = evaluate_rows(subjects(source), source.labels, source.split, look, [0])
    assert seen == [(True, True, ("0", "1", "2", "3"))] * 2 + [(True, False, ("0", "1", "2", "3"))]
    assert result.warnings == []


def test_raw_features_are_left_out_where_an_encoder_is_needed():
    source = clusters()

    @protocol(needs="encoder")
    def train(data: ProtocolData, seed: int) -> Scores:
        return {"accuracy": float(sum(parameter.numel() for parameter in data.origin.encoder().parameters()) > 0)}

    result = evaluate_rows(subjects(source), source.labels, source.split, train, [0])
    assert list(result.values) == [TRAINED, RANDOM, MAJORITY]
    assert result.warnings == []
    assert result.cell(RAW, "accuracy") == ""
    whole = evaluate_rows(subjects(source), source.labels, source.split, knn, [0])
    assert [column.header for column in table([result, whole]).columns][2:] == [TRAINED, RANDOM, RAW, MAJORITY]


def test_rows_alone_are_refused_where_more_is_needed():
    @protocol(needs="source")
    def look(data: ProtocolData, seed: int) -> Scores:
        return {"accuracy": 1.0}

    source = clusters()
    with pytest.raises(UserError, match="look needs the source of its rows, and rows alone were given for the trained encoder"):
        evaluate_rows({TRAINED: source.features()}, source.labels, source.split, look, [0])
    data = ProtocolData(source.features(), source.labels.numpy(), source.split(0), 4)
    with pytest.raises(UserError, match="rows alone were given"):
        data.embed(source)


def test_labels_may_be_missing_or_unused():
    seen = []

    @protocol(labels="used")
    def use(data: ProtocolData, seed: int) -> Scores:
        seen.append((data.classes, sorted(set(data.labels.tolist())), len(data.split.train)))
        return {"accuracy": 1.0}

    @protocol(labels="unused")
    def ignore(data: ProtocolData, seed: int) -> Scores:
        seen.append((data.classes, sorted(set(data.labels.tolist())), len(data.split.train)))
        return {"accuracy": 1.0}

    labelled, bare = clusters(), unlabelled(clusters())
    for source in (labelled, bare):
        for each in (use, ignore):
            result = evaluate_rows({TRAINED: source.features()}, source.labels, partial(any_split, source), each, [0])
            assert ("accuracy" in result.values[MAJORITY]) is (each is use and source is labelled)
    assert seen == [(4, [0, 1, 2, 3], 180), (0, [-1], 0), (0, [-1], 180), (0, [-1], 0)]


def test_records_are_kept_once_per_seed():
    asked = []

    def record(data: ProtocolData, seed: int, *, size: int) -> dict[str, list[int]]:
        asked.append(seed)
        return {"chosen": list(range(size + seed))} if seed else {}

    @protocol(record=record)
    def choose(data: ProtocolData, seed: int, *, size: int = 2) -> Scores:
        return {"accuracy": 1.0}

    source = clusters()
    result = evaluate_rows(subjects(source), source.labels, source.split, choose, [0, 1])
    assert asked == [0, 1]
    assert result.to_dict()["records"] == {"1": {"chosen": [0, 1, 2]}}


def test_the_constant_answer_is_asked_with_seed_and_options():
    def constant(data: ProtocolData, seed: int, *, size: int) -> Scores:
        return {"accuracy": seed + size}

    @protocol(majority=constant)
    def choose(data: ProtocolData, seed: int, *, size: int = 2) -> Scores:
        return {"accuracy": 1.0}

    source = clusters()
    result = evaluate_rows({TRAINED: source.features()}, source.labels, source.split, choose, [0, 1], {"size": 5})
    assert result.values[MAJORITY]["accuracy"] == [5, 6]


class Log(ArraySource):
    """Rows whose split counts something else than rows: more of it than there are rows."""

    def split(self, seed: int) -> Split:
        parts = torch.arange(1000).split([900, 40, 60])
        return Split(*parts, name="by the log")


def test_answers_may_be_the_sources_own_with_a_split_of_what_it_counts():
    @protocol(headline="recall", needs="source", labels="source", majority=lambda *_: {"recall": 0.1}, constant="popularity")
    def rank(data: ProtocolData, seed: int) -> Scores:
        return {"recall": len(data.split.test) / len(data.split.train)}

    source = Log(clusters().x, name="log")
    result = evaluate_rows(subjects(source), None, lambda seed: any_split(source, seed), rank, [0, 1])
    assert result.sizes == {"train": 900, "validation": 40, "test": 60}
    assert result.split == "by the log"
    assert list(result.values) == [TRAINED, RANDOM, RAW, "popularity"]
    assert result.mean() == 60 / 900
    assert result.warnings == []
