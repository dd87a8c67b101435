"""Ranges: how they are typed, what they draw, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest

from anyview.errors import UserError
from anyview.ranges import Choices, Integers, LogUniform, Range, Uniform, parsed


def drawn(range: Range, count: int = 400) -> list[object]:
    random = np.random.default_rng(0)
    return [range.draw(random) for _ in np.arange(count)]


@pytest.mark.parametrize("range", [Uniform(-1.0, 3.0), LogUniform(1e-4, 0.12345), Uniform(0.98765, 0.98769)])
def test_numbers_stay_between_the_ends_and_can_be_typed(range: Uniform) -> None:
    values = drawn(range)
    assert all(range.low <= value <= range.high for value in values)
    assert all(float(f"{value:.3g}") == value or value in range.ends for value in values)


def test_logarithms_are_equally_likely() -> None:
    values = np.log10(np.array(drawn(LogUniform(1e-4, 1.0), 2000)))
    assert np.histogram(values, bins=4, range=(-4, 0))[0].min() > 440
    assert np.histogram(np.log2(np.array(drawn(Integers(1, 15, log=True), 2000)) + 0.0), bins=4, range=(0, 4))[0].min() > 400


def test_whole_numbers_and_choices_reach_all_of_their_values() -> None:
    assert set(drawn(Integers(2, 5))) == {2, 3, 4, 5}
    assert set(drawn(Integers(1, 3, log=True))) == {1, 2, 3}
    assert set(drawn(Choices("a", None, 2))) == {"a", None, 2}
    assert all(type(value) is int for value in drawn(Integers(2, 5)))


@pytest.mark.parametrize(
    ("text", "whole", "like", "expected"),
    [
        ("1e-4..1e-2", False, None, LogUniform(1e-4, 1e-2)),
        ("0.1..0.5", False, None, Uniform(0.1, 0.5)),
        ("0..1", False, None, Uniform(0, 1)),
        ("-1..1", False, None, Uniform(-1, 1)),
        ("linear:0.01..1", False, LogUniform(1, 2), Uniform(0.01, 1)),
        ("log:0.1..0.2", False, Uniform(0, 1), LogUniform(0.1, 0.2)),
        ("0.1..0.2", False, LogUniform(1e-3, 1), LogUniform(0.1, 0.2)),
        ("0.01..1", False, Uniform(0, 1), Uniform(0.01, 1)),
        ("8..512", True, None, Integers(8, 512)),
        ("8..512", True, Integers(1, 9, log=True), Integers(8, 512, log=True)),
        ("1e1..1e2", True, None, Integers(10, 100)),
        ("edge, node", False, None, Choices("edge", "node")),
    ],
)
def test_typed_ranges(text: str, whole: bool, like: Range | None, expected: Range) -> None:
    found = parsed(text, whole=whole, like=like)
    assert found == expected
    assert parsed(str(found), whole=whole) == found


@pytest.mark.parametrize(
    ("text", "whole", "sentence"),
    [
        ("1..1", False, "from a number to a larger one"),
        ("2..1", True, "from a number to a larger one"),
        ("0..inf", False, "from a number to a larger one"),
        ("nan..1", False, "from a number to a larger one"),
        ("log:0..1", False, "begins above 0"),
        ("log:0..3", True, "begins above 0"),
        ("0.5..2", True, "a range of whole numbers was given as '0.5..2'"),
        ("a..b", False, "a range of numbers was given as 'a..b'"),
        ("0.1", False, "is written as 1e-4..1e-2"),
        ("", False, "is written as 1e-4..1e-2"),
        ("a,a", False, "two values or more that differ"),
    ],
)
def test_what_is_no_range_is_refused(text: str, whole: bool, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parsed(text, whole=whole)


def test_one_choice_is_none() -> None:
    with pytest.raises(UserError, match="two values or more that differ, and there are 'a'"):
        Choices("a")
