"""Spread on the sphere, and alarms that speak once per fall."""

from __future__ import annotations

import math

import pytest
import torch

from anyview.evaluation.collapse import CollapseAlarm, DimensionAlarm, LineAlarm, dead_columns, mean_standard_deviation
from tests.evaluation.plain import normal


@pytest.mark.parametrize("width", [8, 512])
def test_mean_standard_deviation_is_one_for_isotropic_rows_and_zero_for_equal_ones(width):
    assert mean_standard_deviation(normal(5000, width)) == pytest.approx(1, abs=0.01)
    assert mean_standard_deviation(torch.ones(50, width)) == pytest.approx(0, abs=1e-12)
    assert mean_standard_deviation(normal(50, width)) <= 1
    assert math.isnan(mean_standard_deviation(torch.ones(1, width)))


def test_mean_standard_deviation_ignores_the_scale_of_each_row():
    rows = normal(100, 16)
    assert mean_standard_deviation(rows * normal(100, 1).exp()) == pytest.approx(mean_standard_deviation(rows), rel=1e-12)


def test_dead_columns_are_a_share():
    rows = normal(50, 8)
    rows[:, 2:4] = 0.5
    rows[:, 4] *= 1e-5
    assert dead_columns(rows) == 2 / 8


def test_alarm_speaks_once_per_fall():
    alarm = CollapseAlarm()
    said = [alarm.update(c) for c in (0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.04, 0.03, 0.1, 0.9, 0.01)]
    assert [index for index, sentence in enumerate(said) if sentence] == [6, 8, 12]
    assert "narrow" in said[6]
    assert "collapsed" in said[8]
    assert "collapsed" in said[12]
    assert alarm.state == "collapsed"
    alarm.update(0.9)
    assert alarm.state == "healthy"


def test_alarm_sleeps_through_the_warm_up():
    alarm = CollapseAlarm(warmup=2)
    assert [alarm.update(0.0) is None for _ in range(3)] == [True, True, False]


def test_alarm_is_silent_on_a_single_row():
    assert CollapseAlarm().update(math.nan) is None


def test_dimension_alarm_waits_and_speaks_once_per_fall():
    alarm = DimensionAlarm()
    said = [alarm.update(rank, samples=1000, width=100) for rank in (40, 4.9, 4.9, 5.1, 4.9, 4.9, 4.9, 4.9, 60, 1, 1, 1)]
    assert [index for index, sentence in enumerate(said) if sentence] == [6, 11]


def test_dimension_alarm_tells_a_rank_that_wavers_about_the_line_once():
    alarm = DimensionAlarm(patience=1)
    said = [alarm.update(rank, samples=1000, width=100) for rank in (4.9, 5.1, 4.9, 7.4, 4.9, 7.6, 4.9)]
    assert [index for index, sentence in enumerate(said) if sentence] == [0, 6]


def test_dimension_alarm_counts_what_could_be_filled():
    alarm = DimensionAlarm(patience=1)
    assert alarm.update(2.0, samples=30, width=100) is None
    assert "could be 100" in alarm.update(2.0, samples=3000, width=100)


def line(alarm: LineAlarm, steps: range, **changes: float | None) -> list[int]:
    """The steps at which the alarm speaks."""
    given = {"loss": 5.0, "line": 5.04, "lr": 0.1, "epoch": 10.0, **changes}
    return [step for step in steps if alarm.update(step, **given)]


def test_line_alarm_speaks_after_an_epoch_at_the_line():
    alarm = LineAlarm()
    assert line(alarm, range(1, 40)) == [11]
    assert line(alarm, range(40, 41), loss=3.0) == []
    assert line(alarm, range(41, 60)) == [51]


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"line": None}, {"loss": 4.98}, {"loss": math.nan}])
def test_line_alarm_is_silent_away_from_the_line_and_while_nothing_is_learnt(changes):
    assert line(LineAlarm(), range(1, 40), **changes) == []


def test_a_line_of_zero_has_a_neighbourhood():
    assert line(LineAlarm(), range(1, 40), line=0.0, loss=0.005) == [11]
    assert line(LineAlarm(), range(1, 40), line=0.0, loss=-0.5) == []


def test_a_step_away_from_the_line_begins_a_new_epoch():
    alarm = LineAlarm()
    assert line(alarm, range(1, 9)) == []
    alarm.update(9, loss=1.0, line=5.0, lr=0.1, epoch=10)
    assert line(alarm, range(10, 20)) == []
    assert line(alarm, range(20, 21)) == [20]
