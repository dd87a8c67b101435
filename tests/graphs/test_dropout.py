from __future__ import annotations

import pytest
import torch

from anyview.errors import UserError
from anyview_graphs.dropout import check_rate, dropped, keep_mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_kept_and_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    keep, scale = keep_mask((1001, 997), rate, torch.zeros(1, dtype=dtype))
    assert keep.dtype == dtype
    assert set(keep.unique().tolist()) == {0.0, 1.0}
    assert abs(float(keep.mean()) - (1 - rate)) < 5 * (rate * (1 - rate) / keep.numel()) ** 0.5
    assert abs(scale * (1 - rate) - 1) < 2e-4


def test_draws_are_independent_of_their_neighbours() -> None:
    torch.manual_seed(0)
    keep, _ = keep_mask((400_000,), 0.5, torch.zeros(1))
    for lag in (1, 2, 3, 4):
        together = float((keep[lag:] * keep[:-lag]).mean())
        assert abs(together - 0.25) < 0.005


def test_rows_and_gradient_see_one_mask() -> None:
    x = torch.ones(50, 7, requires_grad=True)
    out = dropped(x, 0.4)
    out.sum().backward()
    assert torch.equal(out, x.grad)
    assert dropped(x, 0.0) is x


def test_one_seed_gives_one_mask() -> None:
    torch.manual_seed(3)
    first = keep_mask((9,), 0.5, torch.zeros(1))[0]
    torch.manual_seed(3)
    assert torch.equal(first, keep_mask((9,), 0.5, torch.zeros(1))[0])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_rates_outside_the_range_are_refused(rate: float) -> None:
    with pytest.raises(UserError, match="input_dropout"):
        check_rate("input_dropout", rate)
