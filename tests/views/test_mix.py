from __future__ import annotations

import pytest
import torch

from anyview.distributed import rank, ranks
from anyview.testing import check_view_maker, run_on_ranks, tiny_batch
from anyview.views.draws import Draws
from anyview.views.mix import Mix, MixedPair, beta, mix, partners


def test_mixed_pair_keeps_the_contract() -> None:
    check_view_maker(MixedPair(), tiny_batch(), sliced=False)
    check_view_maker(MixedPair(block=4), tiny_batch())
    check_view_maker(MixedPair(block=2, shared=True), tiny_batch(tokens=True))


def test_mix_at_the_ends_is_one_of_the_two() -> None:
    a, b = torch.randn(2, 3, 4)
    assert torch.equal(mix(a, b, 1.0), a)
    assert torch.equal(mix(a, b, torch.zeros(3)), b)


def test_weights_are_per_sample_whatever_the_shape() -> None:
    weight = torch.tensor([0.0, 0.5, 1.0])
    mixed = mix(torch.ones(3, 2, 5), torch.zeros(3, 2, 5), weight)
    assert torch.equal(mixed, weight[:, None, None].expand(3, 2, 5))


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_beta_has_its_mean_and_variance(alpha: float) -> None:
    numbers = beta(Draws.seeded(0, total=40_000), alpha)
    assert abs(float(numbers.mean()) - 0.5) < 0.01
    assert abs(float(numbers.var()) - 1 / (4 * (2 * alpha + 1))) < 0.003


def test_beta_is_sliced_and_shared() -> None:
    whole = beta(Draws.seeded(3, total=6), 1.0)
    assert torch.equal(whole[2:], beta(Draws.seeded(3, start=2, rows=4, total=6), 1.0))
    shared = [beta(Draws.seeded(3, start=start, rows=3, total=6), 1.0, shared=True) for start in (0, 3)]
    assert len(torch.cat(shared).unique()) == 1


def test_partners_are_a_permutation_of_the_batch_or_of_each_block() -> None:
    assert partners(Draws.seeded(0, total=9)).sort().values.tolist() == list(range(9))
    in_blocks = partners(Draws.seeded(0, total=9), 3)
    assert in_blocks.view(3, 3).sort(1).values.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_blocks_that_cross_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks of 4"):
        partners(Draws.seeded(0, start=6, rows=6, total=12), 4)


def test_recorded_parameters_give_the_view_back() -> None:
    data = torch.randn(8, 3)
    mixed, params = Mix(least=0.5).record(data, Draws.seeded(0, total=8))
    weight, partner = params["weight"], params["partner"].flatten()
    torch.testing.assert_close(mixed, weight * data + (1 - weight) * data[partner])
    assert bool((weight >= 0.5).all())


def mixed_on_ranks() -> torch.Tensor:
    batch = tiny_batch(10)
    start, stop = 10 * rank() // ranks(), 10 * (rank() + 1) // ranks()
    return Mix()(batch.data[start:stop], Draws.seeded(0, total=10, start=start, rows=stop - start))


def test_partners_come_from_other_ranks_too() -> None:
    parts = run_on_ranks(mixed_on_ranks, 3)
    assert torch.equal(torch.cat(parts), mixed_on_ranks())
