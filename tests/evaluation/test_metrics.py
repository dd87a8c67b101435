"""Metrics by name: the same numbers as the functions they stand for, whole and on parts, and what they cost is paid when asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from anyview.errors import UserError
from anyview.evaluation import spectra
from anyview.evaluation.alpha_req import alpha_req
from anyview.evaluation.augmented import AugmentedRows
from anyview.evaluation.clid import clid, cluster_learnability, intrinsic_dimension
from anyview.evaluation.lidar import lidar
from anyview.evaluation.metrics import METRICS, OF_ROWS, OF_VIEWS, few, find_metric, more_label_free
from anyview.evaluation.neighbourhoods import hubness, self_retrieval
from anyview.evaluation.sphere import measured_alignment
from tests.evaluation.plain import normal, views_of

PART = np.arange(0, 120, 2)


def rows() -> torch.Tensor:
    return normal(120, 16) * torch.linspace(0, -2, 16, dtype=torch.float64).exp() + 0.2


def views() -> AugmentedRows:
    flat, index = views_of(2 * normal(60, 8), 5)
    return AugmentedRows(flat.view(60, 5, 8).float(), index.view(60, 5)[:, 0])


PLAIN = {
    "rankme": spectra.rankme,
    "entropy_rank": spectra.entropy_rank,
    "participation_ratio": spectra.participation_ratio,
    "nesum": spectra.stable_rank,
    "alpha_req": lambda z: alpha_req(z).alpha,
    "hubness": hubness,
}


@pytest.mark.parametrize("name", PLAIN)
def test_metrics_of_rows_are_the_functions(name):
    value = METRICS[name].prepare(rows().numpy(), 0)
    assert value(None) == pytest.approx((PLAIN[name](rows()),), rel=1e-6)
    assert value(PART) == pytest.approx((PLAIN[name](rows()[PART]),), rel=1e-6)


def test_metrics_of_views_are_the_functions():
    made = views()
    some = AugmentedRows(made.rows[:20], made.index[:20])
    for shown, part in ((made, None), (some, np.arange(20))):
        found = lidar(*shown.flat)
        assert METRICS["lidar"].prepare(made, 0)(part) == pytest.approx((found.lidar, found.signal_ratio, found.relative_delta))
        retrieval = self_retrieval(shown.rows[:, 0], shown.rows[:, 1])
        assert METRICS["self_retrieval"].prepare(made, 0)(part) == pytest.approx((retrieval,))


def test_clid_has_both_parts_and_halves_without_twins():
    z = torch.cat([rows(), rows()[:10]])
    value = METRICS["clid"].prepare(z, 3)
    learnability, dimension = value(None)
    assert learnability == pytest.approx(cluster_learnability(z, seed=3))
    assert dimension == pytest.approx(intrinsic_dimension(z).dimension, rel=1e-6)
    alone = np.arange(60)
    assert value(alone)[1] == pytest.approx(intrinsic_dimension(z[:60]).dimension, rel=1e-6)
    np.testing.assert_allclose(METRICS["clid"].combine(np.array([[0.1, 0.2], [3.0, 1.0]])), clid([0.1, 0.2], [3.0, 1.0]))


def test_goodness_says_which_way_is_better():
    values = np.array([0.2, 1.1, 5.0])
    best = {name: int(np.argmax(METRICS[name].goodness(values))) for name in METRICS}
    assert {name for name, place in best.items() if place != 2} == {"alpha_req", "hubness"}
    assert (best["alpha_req"], best["hubness"]) == (1, 0)


def test_more_label_free_is_ready_for_json_and_makes_views_only_when_asked():
    def never() -> AugmentedRows:
        raise AssertionError("views were made")

    assert more_label_free((), rows(), never) == {}
    told = more_label_free(tuple(OF_ROWS), rows(), never)
    assert {"uniformity", "uniformity_interval", "hubness", "cluster_learnability", "intrinsic_dimension", "duplicates"} <= set(told)
    told = more_label_free((*OF_ROWS, *OF_VIEWS), rows(), views)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["lidar"] == pytest.approx(lidar(*views().flat).lidar)
    assert told["alignment"] == pytest.approx(measured_alignment(views().rows[:, 0], views().rows[:, 1]).value)
    assert told["lidar_signal_ratio"] > 2


def test_unknown_names_are_one_sentence():
    with pytest.raises(UserError, match="no metric 'lidr'; did you mean 'lidar'"):
        more_label_free(["lidr"], rows(), views)
    with pytest.raises(UserError, match="no metric 'rankm'; did you mean 'rankme'"):
        find_metric("rankm")


def test_neighbours_look_at_some_rows(monkeypatch):
    monkeypatch.setattr("anyview.evaluation.metrics.NEIGHBOUR_ROWS", 50)
    assert few(rows()).shape == (50, 16)
    told = more_label_free(["hubness", "clid"], rows(), views)
    assert (told["hubness_samples"], told["clid_samples"]) == (50, 50)
