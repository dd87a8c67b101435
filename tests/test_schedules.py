from __future__ import annotations

import math

import pytest

from anyview.schedules import Constant, Cosine, Ramp, Schedule, as_schedule


def test_constant_after_a_linear_warm_up() -> None:
    assert [Constant(2.0, warmup=4)(step, 10) for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert Constant(2.0)(0, 10) == 2.0


@pytest.mark.parametrize("warmup", [0, 5])
def test_cosine_is_the_formula(warmup: int) -> None:
    schedule, steps = Cosine(0.4, 0.1, warmup), 25
    for step in range(steps + 1):
        plain = 0.1 + 0.3 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
        assert schedule(step, steps) == pytest.approx(0.4 * step / warmup if step < warmup else plain)


def test_cosine_as_momentum_rises() -> None:
    values = [Cosine(0.996, 1.0)(step, 50) for step in range(51)]
    assert values[0] == pytest.approx(0.996)
    assert values[-1] == pytest.approx(1.0)
    assert values == sorted(values)


def test_a_warm_up_as_long_as_the_stage() -> None:
    assert Cosine(1.0, 0.0, warmup=10)(10, 10) == 1.0


def test_ramp() -> None:
    ramp = Ramp(4.0, begin=0.2, end=0.6)
    assert [ramp(step, 10) for step in (0, 2, 4, 6, 10)] == pytest.approx([0.0, 0.0, 2.0, 4.0, 4.0])
    assert [Ramp(4.0, begin=0.5, end=0.5)(step, 10) for step in (4, 5)] == [0.0, 4.0]


@pytest.mark.parametrize("schedule", [Constant(), Cosine(), Ramp()])
def test_a_stage_of_no_steps_is_harmless(schedule: Schedule) -> None:
    assert math.isfinite(schedule(0, 0))


def test_numbers_are_constant_schedules() -> None:
    assert as_schedule(3)(7, 10) == 3.0
    cosine = Cosine()
    assert as_schedule(cosine) is cosine
