from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anyview.distributed import rank, ranks
from anyview.encoders.norm import BatchNorm
from anyview.testing import run_on_ranks

SHAPES = [(10, 3), (10, 3, 4), (10, 3, 2, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_one_process_is_torch_s_batch_norm(shape: tuple[int, ...]) -> None:
    plain = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](3)
    ours = BatchNorm(3)
    plain.load_state_dict(ours.state_dict())
    for _ in range(3):
        x = torch.randn(shape) * 2 + 1
        assert torch.equal(ours(x), plain(x))
    assert ours.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
    assert torch.equal(ours.eval()(x), plain.eval()(x))


def run_norm(shape: tuple[int, ...], dtype: torch.dtype, affine: bool) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Output and input gradient of this rank's rows, state, and parameter gradients summed over the rows of the batch."""
    random = torch.Generator().manual_seed(0)
    norm = BatchNorm(3, affine=affine).to(dtype)
    if affine:
        nn.init.normal_(norm.weight, generator=random)
        nn.init.normal_(norm.bias, generator=random)
    first = shape[0] * rank() // ranks()
    last = shape[0] * (rank() + 1) // ranks()
    for _ in range(2):
        rows = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) * 3 + 5
        pull = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)
        x = rows[first:last].clone().requires_grad_()
        y = norm(x)
        norm.zero_grad()
        (y.sin() * pull[first:last]).sum().backward()
    assert x.grad is not None
    gradients = {name: p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return y.detach(), x.grad, norm.state_dict(), gradients


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_several_ranks_are_one(shape: tuple[int, ...], count: int, affine: bool) -> None:
    output, gradient, state, parameters = run_norm(shape, torch.float64, affine)
    parts = run_on_ranks(run_norm, count, shape, torch.float64, affine)
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), output, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), gradient, rtol=1e-9, atol=1e-12)
    for part in parts:
        torch.testing.assert_close(part[2], state, rtol=1e-12, atol=1e-12)
    for name, expected in parameters.items():
        torch.testing.assert_close(torch.stack([part[3][name] for part in parts]).sum(0), expected, rtol=1e-10, atol=1e-12)


def test_several_ranks_in_float32() -> None:
    whole, parts = run_norm((64, 3), torch.float32, True), run_on_ranks(run_norm, 2, (64, 3), torch.float32, True)
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), whole[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), whole[1], rtol=1e-5, atol=1e-5)


def one_row_on_the_first_rank() -> list[float]:
    rows = torch.tensor([[1.0], [2.0], [6.0]])
    return BatchNorm(1)(rows[:1] if rank() == 0 else rows[1:]).flatten().tolist()


def test_a_rank_may_hold_one_row() -> None:
    expected = nn.BatchNorm1d(1)(torch.tensor([[1.0], [2.0], [6.0]])).flatten().tolist()
    first, second = run_on_ranks(one_row_on_the_first_rank, 2)
    assert first + second == pytest.approx(expected, abs=1e-6)


def half_precision_on_ranks() -> tuple[torch.dtype, Tensor]:
    x = torch.arange(8.0).view(8, 1)[4 * rank() : 4 * rank() + 4].to(torch.bfloat16)
    norm = BatchNorm(1)
    return norm(x).dtype, norm.running_var


def test_moments_of_half_precision_rows_are_taken_in_full_precision() -> None:
    for dtype, variance in run_on_ranks(half_precision_on_ranks, 2):
        assert dtype == torch.bfloat16
        assert float(variance) == pytest.approx(0.9 + 0.1 * 6.0)


def test_one_row_in_training_is_an_error_and_in_evaluation_is_not() -> None:
    norm = BatchNorm(3)
    with pytest.raises(ValueError, match="more than one row"):
        norm(torch.randn(1, 3))
    assert norm.eval()(torch.randn(1, 3)).shape == (1, 3)
    assert norm.train()(torch.randn(1, 3, 4)).shape == (1, 3, 4)


def test_wrong_width_is_named() -> None:
    with pytest.raises(ValueError, match="over 3 features"):
        BatchNorm(3)(torch.randn(8, 4))


def test_without_affine_there_are_no_parameters() -> None:
    assert list(BatchNorm(3, affine=False).parameters()) == []
