"""Diffusion of rows: its schedule, its network and its steps back as the papers write them, and that it writes what it was shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.errors import UserError
from anyview_recommenders.row_diffusion import RowDiffusion, check_size, schedule, waves

COUNT = 9


pytestmark = pytest.mark.usefixtures("double")


def matrix() -> csr_matrix:
    """Random places; row 4 has none."""
    dense = np.random.default_rng(0).random((COUNT, COUNT)) < 0.3
    dense[4] = False
    return csr_matrix(dense.astype(np.float32))


def diffusion(steps: int = 5) -> RowDiffusion:
    return RowDiffusion(matrix(), 7, steps=steps)


def kept(steps: int) -> list[float]:
    """The product of 1 - beta up to each step."""
    variances = [0.1 * 1e-4 + (0.1 * 0.02 - 0.1 * 1e-4) * step / (steps - 1) for step in range(steps)]
    betas = [1e-4] + [1 - (1 - variances[step]) / (1 - variances[step - 1]) for step in range(1, steps)]
    return [math.prod(1 - beta for beta in betas[: step + 1]) for step in range(steps)]


def said(made: RowDiffusion, row: Tensor, step: int) -> Tensor:
    """What the network says was there, of one row."""
    angles = [step * 10_000 ** (-place / 5) for place in range(5)]
    time = torch.tensor([math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles])
    shown = torch.cat([row / row.norm() if row.any() else row, made.clock.weight @ time + made.clock.bias])
    return made.write.weight @ torch.tanh(made.read.weight @ shown + made.read.bias) + made.write.bias


def test_the_schedule_and_weights_of_steps_are_the_papers() -> None:
    expected = kept(5)
    np.testing.assert_allclose(schedule(5).numpy(), expected, rtol=1e-10)
    made = diffusion()
    ratios = [value / (1 - value) for value in expected]
    np.testing.assert_allclose(made.weights().numpy(), [1.0] + [ratios[t - 1] - ratios[t] for t in range(1, 5)], rtol=1e-8)
    noise, rows = torch.randn(3, COUNT), made.rows(torch.tensor([0, 4, 0]))
    assert rows.tolist() == matrix().toarray()[[0, 4, 0]].tolist()
    found = made.noisy(rows, torch.tensor([0, 2, 4]), noise)
    for row, place, clean, drawn in zip(found, (0, 2, 4), rows, noise, strict=True):
        torch.testing.assert_close(row, expected[place] ** 0.5 * clean + (1 - expected[place]) ** 0.5 * drawn, rtol=1e-10, atol=0)


def test_the_network_and_its_steps_back_are_the_formulas() -> None:
    made, numbers = diffusion(), torch.arange(COUNT)
    rows, places = torch.randn(COUNT, COUNT), torch.arange(COUNT) % 5
    rows[2] = 0
    expected = torch.stack([said(made, row, int(place)) for row, place in zip(rows, places, strict=True)])
    torch.testing.assert_close(made(rows, places), expected, rtol=1e-10, atol=1e-12)
    shares = [1.0, *kept(5)]
    for number, found in zip(numbers.tolist(), made.made_anew(numbers), strict=True):
        row = torch.from_numpy(matrix().toarray()[number]).double()
        for step in reversed(range(5)):
            before, after = shares[step], shares[step + 1]
            beta = 1 - after / before
            to_clean, to_row = beta * before**0.5 / (1 - after), (1 - before) * (1 - beta) ** 0.5 / (1 - after)
            row = to_clean * said(made, row, step) + to_row * row
        torch.testing.assert_close(found, row, rtol=1e-9, atol=1e-11)


def test_blocks_of_rows_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    made, numbers = diffusion(), torch.arange(COUNT)
    whole = made.largest(numbers, 2)
    assert whole.tolist() == made.made_anew(numbers).argsort(1, descending=True)[:, :2].tolist()
    monkeypatch.setattr("anyview_recommenders.row_diffusion.AT_ONCE", 2 * COUNT)
    assert torch.equal(made.largest(numbers, 2), whole)


def test_dropout_is_of_training_alone_and_follows_its_generator() -> None:
    made, rows, step = diffusion(), torch.ones(4, COUNT), torch.zeros(4, dtype=torch.long)
    first, again, other = (made(rows, step, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(made(rows, step), made(rows, step))


def test_it_learns_to_write_what_stood_there() -> None:
    made = RowDiffusion(matrix(), 32, dropout=0.0)
    adam, clean, generator = torch.optim.Adam(made.parameters(), lr=0.02), made.rows(torch.arange(COUNT)), torch.Generator().manual_seed(0)
    for _ in range(150):
        step = torch.randint(5, (COUNT,), generator=generator)
        found = made(made.noisy(clean, step, torch.randn(clean.shape, generator=generator)), step, generator)
        adam.zero_grad()
        (found - clean).square().mean().backward()
        adam.step()
    largest, there = made.largest(torch.arange(COUNT), 1)[:, 0], matrix().toarray()
    assert all(there[row, column] for row, column in enumerate(largest.tolist()) if there[row].any())


def test_too_many_columns_are_refused_with_a_width_that_would_do() -> None:
    with pytest.raises(UserError, match=r"all 100,000 entities.* has 200,000,000 weights.* set hidden to 335 or less"):
        check_size(100_000, 1000)
    assert check_size(100_000, 335) == 100_000


def test_time_of_the_first_step_is_one_and_nothing() -> None:
    assert waves(torch.tensor([0, 3]), torch.float64)[0].tolist() == [1.0] * 5 + [0.0] * 5
