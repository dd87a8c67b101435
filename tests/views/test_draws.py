from __future__ import annotations

import pytest
import torch

from anyview.views.draws import Draws, derive_seed

CALLS = {
    "uniform": lambda draws: draws.uniform(2),
    "normal": lambda draws: draws.normal(2, 3),
    "integers": lambda draws: draws.integers(5, 2),
    "bernoulli": lambda draws: draws.bernoulli(0.3, 4),
}


@pytest.mark.parametrize("name", CALLS)
def test_parts_of_ranks_make_up_the_whole(name: str) -> None:
    whole = CALLS[name](Draws.seeded(7, total=10))
    parts = [CALLS[name](Draws.seeded(7, start=start, rows=rows, total=10)) for start, rows in ((0, 3), (3, 3), (6, 4))]
    assert torch.equal(torch.cat(parts), whole)


def test_a_rank_without_rows_still_moves_the_generator() -> None:
    empty, full = Draws.seeded(7, start=0, rows=0, total=4), Draws.seeded(7, total=4)
    assert empty.uniform(2).shape == (0, 2)
    full.uniform(2)
    assert torch.equal(empty.permutation(9), full.permutation(9))


def test_shared_numbers_are_equal_on_all_ranks() -> None:
    first, second = (Draws.seeded(7, start=start, rows=2, total=4) for start in (0, 2))
    assert torch.equal(first.permutation(6), second.permutation(6))
    assert torch.equal(first.shared_uniform(3), second.shared_uniform(3))
    assert torch.equal(first.shared_gumbel(3), second.shared_gumbel(3))
    assert first.permutation(6).sort().values.tolist() == list(range(6))


def test_distributions() -> None:
    draws = Draws.seeded(0, total=20_000)
    assert abs(float(draws.bernoulli(0.3).float().mean()) - 0.3) < 0.02
    assert abs(float(draws.normal().std()) - 1) < 0.02
    assert draws.integers(4).unique().tolist() == [0, 1, 2, 3]
    uniform = draws.uniform()
    assert float(uniform.min()) >= 0
    assert float(uniform.max()) < 1
    logits = torch.tensor([0.0, 1.0, 2.0])
    largest = (logits + draws.shared_gumbel(20_000, 3)).argmax(1).bincount() / 20_000
    torch.testing.assert_close(largest, logits.softmax(0), rtol=0, atol=0.02)


def test_seeds_differ_in_every_part() -> None:
    seeds = {derive_seed(seed, name, number) for seed in range(5) for name in ("views", "order") for number in range(5)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_parts_of_a_seed_do_not_run_together() -> None:
    assert derive_seed(1, 23) != derive_seed(12, 3)
