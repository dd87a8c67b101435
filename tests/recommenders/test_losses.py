from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anyview.objectives import contrast
from anyview_recommenders.losses import (
    bpr_loss,
    contrast_among,
    decoupled_contrast,
    item_softmax,
    log_partition,
    node_contrast,
    product_contrast,
    spread,
    squared_length,
)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y) / (x.norm() * y.norm())


def same_with_gradient(found: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_bpr_is_minus_the_log_of_the_chance_that_the_item_ranks_first() -> None:
    users, positives, negatives = (rows(6, 4, seed=seed) for seed in range(3))
    chances = [1 / (1 + torch.exp(-(u @ p - u @ n))) for u, p, n in zip(users, positives, negatives, strict=True)]
    expected = -torch.stack([torch.log(chance) for chance in chances]).mean()
    same_with_gradient(bpr_loss(users, positives, negatives), expected, users, positives, negatives)


def test_bpr_stays_finite_far_from_zero() -> None:
    far = torch.tensor([[1e4]], requires_grad=True)
    loss = bpr_loss(far, -torch.ones(1, 1), torch.ones(1, 1))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2e4)
    assert bool(far.grad.isfinite().all())


def test_squared_length_is_half_the_squares_of_a_batch_over_its_rows() -> None:
    a, b, c = (rows(5, 3, seed=seed) for seed in range(3))
    expected = 0.5 * sum(x @ x for part in (a, b, c) for x in part) / 5
    same_with_gradient(squared_length(a, b, c), expected, a, b, c)


def test_the_softmax_over_items_is_of_each_pair_however_often_its_user_is_there() -> None:
    of_users, of_items = rows(4, 3), rows(7, 3, seed=1)
    users, items = torch.tensor([2, 0, 2, 2, 3]), torch.tensor([6, 1, 0, 6, 5])
    chances = [
        torch.exp(of_users[u] @ of_items[i]) / sum(torch.exp(of_users[u] @ k) for k in of_items) for u, i in zip(users, items, strict=True)
    ]
    same_with_gradient(item_softmax(of_users, of_items, users, items), -torch.stack(chances).log().mean(), of_users, of_items)
    assert bool(item_softmax(1e4 * of_users, of_items, users, items).isfinite())


def test_only_the_rows_of_the_batch_are_pulled() -> None:
    table = rows(10, 3)
    squared_length(table[torch.tensor([1, 4])]).backward()
    assert table.grad.any(1).nonzero().flatten().tolist() == [1, 4]


def test_contrast_within_a_batch_is_info_nce() -> None:
    a, b = rows(7, 5), rows(7, 5, seed=1)
    losses = []
    for m in range(7):
        scores = torch.stack([torch.exp(cosine(a[m], b[n]) / 0.2) for n in range(7)])
        losses.append(-torch.log(scores[m] / scores.sum()))
    same_with_gradient(node_contrast(a, b, 0.2), torch.stack(losses).mean(), a, b)


def test_equal_views_have_their_own_at_the_temperature_and_one_node_nothing_to_learn() -> None:
    z = rows(6, 4)
    cosines = torch.nn.functional.normalize(z, dim=1) @ torch.nn.functional.normalize(z, dim=1).T
    expected = (torch.logsumexp(cosines / 0.15, 1) - 1 / 0.15).mean()
    torch.testing.assert_close(node_contrast(z, z, 0.15), expected)
    single = rows(1, 4)
    loss = node_contrast(single, rows(1, 4, seed=1), 0.2)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(single.grad.abs().max()) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("block", [2**25, 20])
def test_contrast_among_all_is_info_nce_against_every_key(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    queries, keys, own = rows(6, 4), rows(9, 4, seed=1), torch.tensor([8, 0, 3, 3, 1, 8])
    losses = []
    for m, k in enumerate(own):
        scores = torch.stack([torch.exp(cosine(queries[m], key) / 0.1) for key in keys])
        losses.append(-torch.log(scores[k] / scores.sum()))
    same_with_gradient(contrast_among(queries, keys, own, 0.1), torch.stack(losses).mean(), queries, keys)


def test_contrast_among_the_batch_is_contrast_within_it() -> None:
    a, b = rows(6, 4), rows(6, 4, seed=1)
    torch.testing.assert_close(contrast_among(a, b, torch.arange(6), 0.2), node_contrast(a, b, 0.2))


def test_decoupled_contrast_leaves_the_own_pair_out_below() -> None:
    a, b = rows(6, 4), rows(6, 4, seed=1)
    scores = torch.stack([torch.stack([torch.exp(cosine(x, y) / 0.3) for y in b]) for x in a])
    expected = -torch.stack([torch.log(scores[m, m] / (scores[m].sum() - scores[m, m])) for m in range(6)]).mean()
    same_with_gradient(decoupled_contrast(a, b, 0.3), expected, a, b)


def test_a_single_prototype_costs_nothing() -> None:
    assert float(contrast_among(rows(5, 4), rows(1, 4), torch.zeros(5, dtype=torch.long), 0.1).detach()) == pytest.approx(0.0, abs=1e-12)


def test_contrast_of_products_is_as_light_gcl_has_it() -> None:
    queries, keys, own = rows(5, 4), rows(8, 4, seed=1), torch.tensor([0, 7, 7, 2, 4])
    bounded = torch.stack([(queries[m] @ keys[k] / 0.2).clamp(-5, 5) for m, k in enumerate(own)])
    assert bounded.abs().max() == 5  # so that the clamp is met
    sums = torch.stack([sum(torch.exp(query @ key / 0.2) for key in keys) for query in queries])
    expected = -bounded.mean() + torch.log(sums).mean()
    same_with_gradient(product_contrast(queries / 0.2, keys, own, bound=5.0), expected, queries, keys)


def test_a_log_partition_is_the_log_of_the_sum_of_all_products() -> None:
    a, among = rows(5, 4), rows(8, 4, seed=1)
    expected = torch.stack([torch.log(sum(torch.exp(x @ y) for y in among)) for x in a]).mean()
    same_with_gradient(log_partition(a, among), expected, a, among)
    assert bool(log_partition(torch.full((2, 1), 1e3), torch.full((3, 1), 1e3)).isfinite())


def test_products_far_from_zero_do_not_overflow() -> None:
    assert bool(product_contrast(torch.full((2, 1), 1e3), torch.full((3, 1), 1e3), torch.tensor([0, 1]), 5.0).isfinite())


def test_spread_is_the_mean_uniformity_of_both_sides() -> None:
    users, items = rows(5, 3), rows(4, 3, seed=1)

    def plain(z: Tensor) -> Tensor:
        unit = [x / x.norm() for x in z]
        pairs = [torch.exp(-2 * (x - y).square().sum()) for i, x in enumerate(unit) for j, y in enumerate(unit) if i != j]
        return torch.log(torch.stack(pairs).mean())

    same_with_gradient(spread(users, items), (plain(users) + plain(items)) / 2, users, items)


def test_spread_of_one_node_counts_nothing() -> None:
    users = rows(1, 3)
    loss = spread(users, torch.ones(4, 3, dtype=torch.float64))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert not users.grad.any()


def test_gradcheck() -> None:
    a, b = rows(4, 3), rows(4, 3, seed=1)
    own = torch.tensor([0, 2, 2, 1])
    assert torch.autograd.gradcheck(lambda x, y: bpr_loss(x, y, y.flip(0)), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: node_contrast(x, y, 0.5), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: contrast_among(x, y, own, 0.5), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: product_contrast(x, y, own, 50.0), (a, b))
    assert torch.autograd.gradcheck(spread, (a, b))


def test_losses_are_taken_in_float32_under_autocast() -> None:
    a, b = (rows(6, 4, seed=seed).detach().float() for seed in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = node_contrast(a, b, 0.2), bpr_loss(a, b, b.flip(0)), spread(a, b)
    outside = node_contrast(a, b, 0.2), bpr_loss(a, b, b.flip(0)), spread(a, b)
    assert all(torch.equal(x, y) for x, y in zip(inside, outside, strict=True))
    assert math.isfinite(float(outside[0]))
