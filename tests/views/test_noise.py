from __future__ import annotations

import pytest
import torch

from anyview.testing import check_view_maker, tiny_batch
from anyview.views.draws import Draws
from anyview.views.noise import Noise, NoisePair


@pytest.mark.parametrize("tokens", [False, True])
def test_noise_pair_keeps_the_contract(tokens: bool) -> None:
    check_view_maker(NoisePair(0.2, least=0.1), tiny_batch(tokens=tokens))


def test_standard_deviation_is_the_one_asked_for() -> None:
    noisy = Noise(0.25)(torch.ones(5000, 4), Draws.seeded(0, total=5000))
    assert abs(float(noisy.std()) - 0.25) < 0.01
    assert abs(float(noisy.mean()) - 1) < 0.01


def test_recorded_deviation_is_the_sample_s_own() -> None:
    data, params = Noise(2.0, least=0.5).record(torch.zeros(50, 4000), Draws.seeded(0, total=50))
    std = params["std"]
    assert std.shape == (50, 1)
    assert 0.5 <= float(std.min()) < float(std.max()) <= 2.0
    torch.testing.assert_close(data.std(1, keepdim=True), std, rtol=0.06, atol=0)


def test_noise_keeps_the_data_s_type() -> None:
    assert Noise(0.1)(torch.zeros(3, 2, dtype=torch.float64), Draws.seeded(0, total=3)).dtype == torch.float64
