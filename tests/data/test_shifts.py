"""Shifts of rows: drawn from the seed, stronger with severity, samples in their places."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from anyview.data.arrays import ArraySource
from anyview.data.shifts import NOISE, ROW_SHIFTS, SCALE, noise, scale
from anyview.errors import UserError


def source() -> ArraySource:
    return ArraySource(torch.randn(500, 3, 4) * torch.tensor([1.0, 5.0, 20.0, 0.0]) + 2, torch.arange(500) % 2, name="rows")


def test_noise_is_a_share_of_each_columns_spread() -> None:
    x = source().x
    for severity, share in enumerate(NOISE, start=1):
        added = noise(x, severity, torch.Generator().manual_seed(0)) - x
        assert added.std(0)[:, :3] / x.std(0)[:, :3] == pytest.approx(torch.full((3, 3), share).numpy(), rel=0.15)
        assert added[..., 3].abs().max() == 0


def test_scale_is_one_gain_per_sample() -> None:
    x = source().x
    for severity, largest in enumerate(SCALE, start=1):
        gains = scale(x, severity, torch.Generator().manual_seed(0)) / x
        assert float(gains.flatten(1).std(1).max()) < 1e-4
        assert float(gains.max()) == pytest.approx(largest, rel=0.02)
        assert float(gains.min()) == pytest.approx(1 / largest, rel=0.02)


@pytest.mark.parametrize("name", ROW_SHIFTS)
def test_a_corrupted_source_is_the_same_but_for_its_numbers(name: str) -> None:
    clean = source()
    before = clean.x.clone()
    shifted = clean.corrupted(name, 3, seed=0)
    assert torch.equal(clean.x, before)
    assert clean.name == "rows"
    assert isinstance(shifted, ArraySource)
    assert shifted.labels is clean.labels
    assert shifted.shape == clean.shape
    assert shifted.x.shape == before.shape
    assert shifted.fingerprint() != clean.fingerprint()
    assert torch.equal(shifted.x, clean.corrupted(name, 3, seed=0).x)
    assert not torch.equal(shifted.x, clean.corrupted(name, 3, seed=1).x)


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(UserError, match="'rows' has no shift 'fog'; it has noise, scale"):
        source().corrupted("fog", 1, 0)
    for severity in (0, 6):
        with pytest.raises(UserError, match=f"severities 1 to 5, and {severity} was asked for"):
            source().corrupted("noise", severity, 0)


def inverted(x: torch.Tensor, severity: int, generator: torch.Generator) -> torch.Tensor:
    return -x


def test_a_subclass_brings_its_own_shifts() -> None:
    class Inverted(ArraySource):
        shifts: ClassVar = {"invert": inverted}
        corruptions = ("invert",)

    made = Inverted(torch.ones(4, 2)).corrupted("invert", 1, 0)
    assert isinstance(made, Inverted)
    assert float(made.x.max()) == -1
