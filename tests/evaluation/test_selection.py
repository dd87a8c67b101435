"""Ranking of runs: known orders, how sure they are, and what is refused or warned of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from anyview.data.arrays import ArraySource
from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.evaluation.selection import differing, select, settings_of
from anyview.evaluation.spectra import participation_ratio, rankme
from anyview.views.noise import Noise
from anyview.views.pair import Pair
from anyview.views.view import View
from tests.evaluation.plain import normal

WIDTH = 8


class Columns(Encoder):
    """Passes on columns, each times a weight."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights, self.dim = torch.tensor(weights), len(weights)

    def forward(self, view: View) -> Encoding:
        return Encoding(view.data[:, : self.dim] * self.weights)


def source(samples: int = 400, seed: int = 0, name: str = "data") -> ArraySource:
    return ArraySource(normal(samples, WIDTH, seed=seed), name=name)


class One:
    """An objective as far as select looks at it."""


class Another(One):
    """Another method of the same family."""


def run(name: str, weights: list[float], data: ArraySource | None = None, method: type = One, **parameters: Any) -> Any:
    """A run as far as select looks at it."""
    task = SimpleNamespace(objective=method())
    return SimpleNamespace(
        folder=SimpleNamespace(path=Path("/runs") / name),
        source=data or source(),
        embedder=Columns(weights),
        fresh_encoder=lambda: Columns([1.0, 1e-3] + [1e-3] * (len(weights) - 2)),
        projected_encoder=lambda: Columns(weights[:2]),
        fresh_projected_encoder=lambda: Columns([1.0, 1e-3]),
        view_maker=Pair(Noise(0.3)),
        recipe=SimpleNamespace(stages=[SimpleNamespace(tasks=[task])]),
        record={"recipe": "core/pair", "seed": 0, "parameters": {"data": "data", **parameters}},
    )


def flat(count: int) -> list[float]:
    """Weights that leave about so many directions."""
    return [1.0] * count + [0.01] * (WIDTH - count)


def test_runs_are_ranked_by_the_metric_of_their_training_rows():
    runs = [run("two", flat(2), lr=0.1), run("eight", flat(8), lr=0.2), run("five", flat(5), lr=0.3)]
    found = select(runs)
    assert [(one.rank, one.run) for one in found.runs] == [(1, "eight"), (2, "five"), (3, "two")]
    assert [one.settings for one in found.runs] == [{"lr": 0.2}, {"lr": 0.3}, {"lr": 0.1}]
    for one, weights in zip(found.runs, (flat(8), flat(5), flat(2)), strict=True):
        assert one.value == pytest.approx(rankme(source().x * torch.tensor(weights)), rel=1e-6)
        assert one.low < one.value < one.high
        assert (one.samples, one.width) == (400, 8)
    assert found.probability == 1.0
    assert found.agreement == 1.0
    assert found.second == "participation_ratio"
    assert "training data" in found.rows
    assert found.warnings == []


def test_runs_are_ranked_by_what_their_projectors_give_where_that_is_asked_for():
    runs = [run("first", [1.0, 0.1] + [1.0] * 6), run("second", [1.0, 0.9] + [0.01] * 6)]
    assert [one.run for one in select(runs).runs] == ["first", "second"]
    found = select(runs, rows="projector")
    assert [one.run for one in found.runs] == ["second", "first"]
    assert found.rows == "projections of the training data, not augmented"
    assert [(one.width, one.untrained < 1.1) for one in found.runs] == [(2, True), (2, True)]
    with pytest.raises(UserError, match=r"'projecter'.*projector"):
        select(runs, rows="projecter")


def test_rows_that_training_was_not_shown_are_left_out():
    x = torch.cat([normal(190, WIDTH), 1e6 * normal(190, 1, seed=1).repeat(1, WIDTH)])
    data = ArraySource(x, name="published")
    data.train_rows = torch.arange(190)
    found = select([run("a", flat(8), data), run("b", flat(4), data)], count=20)
    assert found.runs[0].samples == 190
    assert found.runs[0].value == pytest.approx(rankme(x[:190]), rel=1e-6)


def test_agreement_is_kendalls_tau_with_the_second_metric():
    weights = [[1.0] * 3 + [0.3] * 5, [1.0] * 4 + [0.01] * 4, flat(8), [3.0] + [1.0] * 7]
    found = select([run(str(number), one) for number, one in enumerate(weights)])
    rows = [source().x.double() * torch.tensor(one, dtype=torch.float64) for one in weights]
    expected = kendalltau([rankme(z) for z in rows], [participation_ratio(z) for z in rows]).statistic
    assert expected < 1
    assert found.agreement == pytest.approx(expected)


def test_runs_that_differ_by_nothing_are_not_told_apart():
    same = [run("a", flat(8), source(seed=1)), run("b", flat(8), source(seed=2))]
    found = select(same)
    assert 0.0 < found.probability < 1.0
    assert abs(found.runs[0].value - found.runs[1].value) < found.runs[0].high - found.runs[0].low


@pytest.mark.parametrize("metric", ["rankme", "alpha_req"])
def test_it_is_not_sure_which_of_equal_runs_is_the_best(metric):
    wide = ArraySource(normal(300, 16), name="wide")
    decay = [float(number) ** -0.5 for number in range(1, 17)]
    worse = [float(number) ** -2.0 for number in range(1, 17)]
    found = select([run("a", decay, wide), run("b", decay, wide), run("c", worse, wide)], metric, count=40)
    assert found.probability <= 0.5


def test_halves_are_shared_by_runs_on_equal_data():
    """Values move together on shared halves, so even a small difference is sure."""
    data = source()
    slightly = [1.0] * 7 + [0.9]
    found = select([run("a", flat(8), data), run("b", slightly, source())])
    assert found.runs[0].run == "a"
    assert found.probability > 0.99
    assert found.runs[0].low < found.runs[1].high


def test_the_seed_decides():
    runs = [run("a", flat(8)), run("b", flat(5))]
    assert select(runs, samples=100, seed=3) == select(runs, samples=100, seed=3)
    assert select(runs, samples=100, seed=3).runs[0].value != select(runs, samples=100, seed=4).runs[0].value
    assert select(runs, samples=100).runs[0].samples == 100


@pytest.mark.parametrize("metric", ["entropy_rank", "nesum", "participation_ratio", "clid", "lidar", "self_retrieval", "hubness"])
def test_every_metric_ranks(metric):
    runs = [run("one", flat(3)), run("other", flat(7))]
    found = select(runs, metric, samples=120, views=4, count=20)
    assert sorted(one.rank for one in found.runs) == [1, 2]
    assert np.isfinite([one.value for one in found.runs]).all()
    assert found.metric == metric != found.second
    assert (found.runs[0].untrained is None) is (metric == "clid")


def test_clid_prints_both_parts():
    found = select([run("one", flat(3)), run("other", flat(7)), run("third", flat(5))], "clid", count=20)
    assert all(set(one.parts) == {"cluster_learnability", "intrinsic_dimension"} for one in found.runs)
    assert sum(one.value for one in found.runs) == pytest.approx(0, abs=1e-9)
    dimension = {one.run: one.parts["intrinsic_dimension"] for one in found.runs}
    assert dimension["one"] < dimension["third"] < dimension["other"]


def test_alpha_nearest_to_one_is_the_best():
    data = ArraySource(normal(600, 32), name="wide")
    runs = [run(str(decay), [float(j) ** (-decay / 2) for j in range(1, 33)], data) for decay in (0.2, 1.0, 3.0)]
    found = select(runs, "alpha_req", count=20)
    assert found.runs[0].run == "1.0"
    assert found.best == "the nearest to 1"


def test_lidar_does_not_rank_noise():
    noise, signal, more = run("noise", flat(8)), run("signal", flat(3)), run("more", flat(6))
    noise.view_maker = Pair(lambda x, draws: draws.normal(*x.shape[1:]))
    found = select([noise, signal, more], "lidar", samples=100, views=6, count=20)
    assert [(one.run, one.rank) for one in found.runs] == [("more", 1), ("signal", 2), ("noise", None)]
    assert any("noise is not ranked: its signal ratio is" in warning for warning in found.warnings)
    with pytest.raises(UserError, match=r"lidar says nothing of 1 of 2 runs \(its signal ratio is"):
        select([noise, signal], "lidar", samples=100, views=6, count=20)


def test_a_metric_that_does_not_exist_for_the_rows_is_refused():
    with pytest.raises(UserError, match="alpha_req does not exist for its 400 rows of width 4"):
        select([run("a", [1.0] * 4), run("b", [1.0] * 3 + [0.5])], "alpha_req")


def test_an_encoder_that_did_not_learn_is_told():
    worse = [run("a", [1.0] + [1e-4] * 7), run("b", [1.0] + [2e-4] * 7)]
    found = select(worse)
    assert any("the same encoder before training has rankme" in warning for warning in found.warnings)
    assert found.runs[0].untrained > found.runs[0].value


def test_different_data_objectives_and_few_samples_are_warned_of():
    other = source(seed=5, name="other")
    warnings = select([run("a", flat(8)), run("b", flat(4), other)]).warnings
    assert warnings == ["the runs were trained on different data (data, other), and label-free metrics do not compare data"]
    (warning,) = select([run("a", flat(8)), run("b", flat(4), method=Another)]).warnings
    assert "different methods (Another and One)" in warning
    few = source(samples=79)
    (warning,) = select([run("a", flat(8), few), run("b", flat(4), few)]).warnings
    assert "fewer than 10 samples per column (79 samples of width 8)" in warning


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": "rankm"}, "did you mean 'rankme'"),
        ({"second": "rankme"}, "both are rankme"),
        ({"samples": 7}, "--samples takes at least 8"),
        ({"views": 1}, "--views takes at least 2"),
        ({"count": 2}, "--halves takes at least 20"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(UserError, match=words):
        select([run("a", flat(8)), run("b", flat(4))], **options)


def test_one_run_and_the_same_run_twice_are_refused():
    with pytest.raises(UserError, match="compares runs by one metric, and 1 was given"):
        select([run("a", flat(8))])
    with pytest.raises(UserError, match="'/runs/a' was named twice"):
        select([run("a", flat(8)), run("a", flat(8))])
    with pytest.raises(UserError, match="has 6 samples"):
        select([run("a", flat(8), source(6)), run("b", flat(8), source(6))])


def test_runs_of_one_name_are_told_apart_by_their_path():
    found = select([run("one/run", flat(8)), run("two/run", flat(4))])
    assert [one.run for one in found.runs] == ["one/run", "two/run"]


def test_settings_of_slots_have_their_options():
    slot = {"name": "core/vicreg", "covariance": 2.0}
    made = settings_of(run("a", flat(2), objective=slot, lr=0.1))
    assert made["objective"] == "core/vicreg"
    assert made["objective.covariance"] == 2.0
    other = settings_of(run("b", flat(2), objective="core/byol", lr=0.1))
    assert differing([made, other]) == [{"objective": "core/vicreg", "objective.covariance": 2.0}, {"objective": "core/byol"}]
    graph = {"recipe": "graphs/graphmae", "seed": 0, "lr": 0.2, "heads": 4}
    assert differing([made, graph]) == [{"recipe": "core/pair", "lr": 0.1}, {"recipe": "graphs/graphmae", "lr": 0.2}]
