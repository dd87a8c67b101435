"""OOD detection: known answers, scores against scikit-learn, what is left out, and that nothing is fitted to other kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from anyview.data.arrays import ArraySource
from anyview.errors import UserError
from anyview.evaluation.mahalanobis import mahalanobis_scores
from anyview.evaluation.ood import judge, left_out_classes, make_task, neighbour_distances, ood
from anyview.evaluation.protocol import MAJORITY, RAW, TRAINED, evaluate_rows
from anyview.evaluation.protocol_data import ProtocolData, any_split
from anyview.evaluation.subject import RawFeatures
from tests.evaluation.sources import clusters, result_of, unlabelled


def far(name: str = "far", samples: int = 60) -> ArraySource:
    return ArraySource(np.random.default_rng(1).normal(8, 1, size=(samples, 12)), name=name)


def raw_data(source: ArraySource, seed: int = 0) -> ProtocolData:
    """A protocol's data on raw features."""
    labels = np.full(len(source), -1) if source.labels is None else source.labels.numpy()
    classes = 0 if source.labels is None else len(np.unique(labels))
    origin = RawFeatures(source).origin(seed)
    return ProtocolData(source.features(), labels, any_split(source, seed), classes, origin, tuple(map(str, range(classes))))


def test_judge_is_scikit_learns_with_others_as_positives():
    random = np.random.default_rng(0)
    inside, outside = random.normal(0, 1, 200), random.normal(1, 1, 40)
    truth, scores = np.repeat([0, 1], [200, 40]), np.concatenate([inside, outside])
    found = judge(inside, outside)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["aupr"] == pytest.approx(average_precision_score(truth, scores))
    threshold = np.sort(outside)[2]  # 38 of 40 lie at or above the third smallest: 95 %
    assert found["fpr95"] == pytest.approx(np.mean(inside >= threshold))


def test_judge_of_ties_is_chance():
    assert judge(np.zeros(30), np.zeros(10)) == {"auroc": 0.5, "aupr": 0.25, "fpr95": 1.0}


def test_data_that_is_far_away_is_found():
    result = result_of(clusters(), ood, against=far())
    for encoder in (TRAINED, RAW):
        assert result.mean(encoder, "mahalanobis_auroc") > 0.99
    assert result.mean(RAW, "mahalanobis_fpr95") < 0.01
    assert result.mean(MAJORITY, "mahalanobis_auroc") == 0.5
    assert result.mean(MAJORITY, "knn_aupr") == pytest.approx(60 / 120)
    assert result.headline == "mahalanobis_auroc"
    assert result.records == {}
    assert result.to_dict()["options"]["against"] == "far"


def test_data_of_the_same_kind_is_not_told_apart():
    result = result_of(clusters(), ood, against=clusters(seed=3, name="twin"), seeds=range(4))
    for score in ("mahalanobis_auroc", "knn_auroc"):
        assert result.mean(RAW, score) == pytest.approx(0.5, abs=0.1)


def test_scores_are_those_of_the_definitions():
    source, other = clusters(), clusters(centres=4, separation=4, name="other")
    data = raw_data(source)
    found = ood(data, 0, against=other, k=7)
    train, test = data.split.train.numpy(), data.split.test.numpy()
    x, y = source.features(), other.features()
    distances, shrinkage = mahalanobis_scores(
        torch.from_numpy(x[train]).double(), torch.from_numpy(data.labels[train]), torch.from_numpy(np.concatenate([x[test], y])).double()
    )
    expected = judge(*np.split(distances.numpy(), [len(test)]))
    bank = NearestNeighbors(n_neighbors=7).fit(normalize(x[train].astype(np.float64)))
    kth = [bank.kneighbors(normalize(rows.astype(np.float64)))[0][:, -1] for rows in (x[test], y)]
    for name, value in expected.items():
        assert found[f"mahalanobis_{name}"] == pytest.approx(value)
    for name, value in judge(*kth).items():
        assert found[f"knn_{name}"] == pytest.approx(value)
    assert (found["shrinkage"], found["k"]) == (pytest.approx(shrinkage), 7)


def test_neighbour_distances_come_in_chunks_alike(monkeypatch):
    train, rows = torch.randn(50, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    whole = neighbour_distances(train, rows, 3)
    monkeypatch.setattr("anyview.evaluation.ood.CHUNK", 1)
    torch.testing.assert_close(neighbour_distances(train, rows, 3), whole)


@pytest.mark.parametrize(("classes", "left_out", "expected"), [(10, None, 2), (4, None, 1), (2, None, 1), (4, 3, 3)])
def test_classes_are_left_out_of_training_and_test_part(classes, left_out, expected):
    data = raw_data(clusters(classes=classes))
    other = left_out_classes(data, 0, left_out)
    assert len(other) == expected
    task = make_task(data, 0, None, left_out)
    test = data.split.test.numpy()
    assert not set(task.labels) & set(other)
    assert len(task.inside) + len(task.outside["left_out"]) == len(test)
    np.testing.assert_array_equal(task.outside["left_out"], data.rows[test][np.isin(data.labels[test], other)])


def test_left_out_classes_are_the_same_for_every_encoder_and_kept():
    source = clusters(classes=5, separation=6.0)
    result = result_of(source, ood, seeds=range(3))
    assert {seed: len(record["left_out"]) for seed, record in result.records.items()} == {"0": 1, "1": 1, "2": 1}
    assert len({tuple(record["left_out"]) for record in result.records.values()}) > 1
    assert result.mean(RAW, "mahalanobis_auroc") > 0.9


def test_classes_have_the_names_of_the_data():
    source = clusters(classes=4)
    source.labels = source.labels + 7
    (name,) = result_of(source, ood, seeds=[0]).records["0"]["left_out"]
    assert name in {"7", "8", "9", "10"}


def test_other_data_changes_nothing_that_is_fitted():
    data, seen = raw_data(clusters()), []
    original = mahalanobis_scores

    def watched(train, labels, rows, *, relative):
        seen.append((train.clone(), labels.clone()))
        return original(train, labels, rows, relative=relative)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anyview.evaluation.ood.mahalanobis_scores", watched)
        facts = [ood(data, 0, against=other) for other in (far(), clusters(centres=2))]
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])
    assert len({(fact["k"], fact["shrinkage"]) for fact in facts}) == 1


def test_test_labels_decide_nothing_when_other_data_is_given():
    source = clusters()
    data = raw_data(source)
    labels, test = data.labels.copy(), data.split.test.numpy()
    labels[test] = np.random.default_rng(0).permutation(labels[test])
    permuted = ProtocolData(data.rows, labels, data.split, data.classes, data.origin, data.names)
    assert ood(data, 0, against=far()) == ood(permuted, 0, against=far())


def test_several_sets_have_a_mean_and_their_own_scores():
    sets = {"far": far(), "near": clusters(centres=0, seed=9, name="near")}
    opened = []

    def open_by_name(name: str) -> ArraySource:
        if name not in sets:
            raise UserError(f"no data {name}")
        opened.append(name)
        return sets[name]

    result = result_of(clusters(), ood, open=open_by_name, seeds=[0], against="far, near")
    for measure in ("auroc", "aupr", "fpr95"):
        each = [result.mean(RAW, f"mahalanobis_{measure}_on_{name}") for name in sets]
        assert result.mean(RAW, f"mahalanobis_{measure}") == pytest.approx(np.mean(each))
    assert set(opened) == set(sets)
    assert "mahalanobis_auroc_on_far" not in result_of(clusters(), ood, open=open_by_name, seeds=[0], against="far").scores


def test_data_without_labels_has_one_mean_or_those_of_k_means():
    source = unlabelled(clusters(separation=12.0, classes=3))
    between = ArraySource(np.random.default_rng(0).normal(0, 0.3, size=(50, 12)) + source.features().mean(0), name="between")
    one = result_of(source, ood, seeds=[0], against=between)
    three = result_of(source, ood, seeds=[0], against=between, clusters=3)
    assert one.sizes == {"train": 180, "validation": 60, "test": 60}
    assert three.mean(RAW, "mahalanobis_auroc") > 0.95 > 0.5 > one.mean(RAW, "mahalanobis_auroc")
    with pytest.raises(UserError, match=r"has no classes to leave out; name other data with --ood\.against"):
        result_of(source, ood, seeds=[0])
    with pytest.raises(UserError, match="there is one class"):
        result_of(source, ood, seeds=[0], against=between, relative=True)


def test_the_relative_form_helps_where_one_direction_is_far_for_all():
    source = clusters(classes=4, separation=6.0)
    noisy = ArraySource(torch.cat([source.x, 10 * torch.randn(300, 1)], 1), source.labels, name="noisy")
    other = clusters(centres=7, separation=6.0)
    other = ArraySource(torch.cat([other.x, 10 * torch.randn(300, 1)], 1), name="other")
    plain, relative = (result_of(noisy, ood, seeds=[0], against=other, relative=form) for form in (False, True))
    assert plain.mean(RAW) != relative.mean(RAW)
    assert relative.mean(RAW) > 0.9


def test_mistakes_are_one_sentence():
    with pytest.raises(UserError, match="to leave out 4 classes, and training and test part share 4"):
        result_of(clusters(), ood, left_out=4)
    data = raw_data(clusters())
    with pytest.raises(UserError, match="needs the source of its rows, and rows alone were given"):
        evaluate_rows({TRAINED: data.rows}, data.labels, lambda _: data.split, ood, [0])
    broken = far()
    broken.x[3, 2] = torch.nan
    with pytest.raises(UserError, match="1 of 60 rows of 'far' hold NaN"):
        result_of(clusters(), ood, against=broken)
