from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import normalize

from anyview.objectives import contrast
from anyview.objectives.contrast import blocks, cross_entropy, info_nce, log_sum_exp, require_others, unit

SHAPES = [(6, 10, 7), (7, 3, 7), (4, 5, 9), (9, 2, 4)]  # queries, width, keys


def rows(queries: int, width: int, keys: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    q, k = (torch.randn(count, width, generator=random, dtype=torch.float64) for count in (queries, keys))
    return q.requires_grad_(), k.requires_grad_()


def plain(queries: Tensor, keys: Tensor, targets: list[int], apart: list[int]) -> Tensor:
    """Sum over the pairs that are not apart, one by one."""
    losses = []
    for i, query in enumerate(queries):
        total = sum(torch.exp(query @ key) for k, key in enumerate(keys) if k - i not in apart)
        own = [query @ keys[i + offset] for offset in targets if 0 <= i + offset < len(keys)]
        losses.append(torch.log(total) - sum(own))
    return torch.stack(losses)


def same_with_gradient(found: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    weights = torch.arange(1, len(found) + 1, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((losses * weights).sum(), inputs) for losses in (found, expected))
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("block", [2**25, 20, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("apart", [[], [0], [0, 2, -2]])
def test_log_sum_exp_is_the_plain_sum(shape: tuple[int, int, int], apart: list[int], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    queries, keys = rows(*shape)
    same_with_gradient(log_sum_exp(queries, keys, apart), plain(queries, keys, [], apart), queries, keys)


@pytest.mark.parametrize("block", [2**25, 20, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("targets", "apart"), [([0], []), ([1], [0]), ([3, -3], [0])])
def test_cross_entropy_is_the_plain_sum(
    shape: tuple[int, int, int], targets: list[int], apart: list[int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    queries, keys = rows(*shape)
    if len(targets) == 2:
        queries, keys = queries[: min(6, len(queries))], keys[: min(6, len(keys))]  # so that no query has two
    same_with_gradient(cross_entropy(queries, keys, targets, apart), plain(queries, keys, targets, apart), queries, keys)


def test_queries_may_be_the_keys_and_gradients_may_be_asked_for_twice() -> None:
    z = rows(6, 4, 6)[0]
    same_with_gradient(cross_entropy(z, z, [3, -3], [0]), plain(z, z, [3, -3], [0]), z)
    losses = cross_entropy(z, z, [3, -3], [0])
    first, again = (torch.autograd.grad(losses.sum(), z, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("constant", ["queries", "keys"])
def test_either_side_may_be_constant(constant: str) -> None:
    queries, keys = rows(4, 3, 5)
    whole = torch.autograd.grad(cross_entropy(queries, keys, [0]).sum(), (queries, keys))
    if constant == "queries":
        (found,) = torch.autograd.grad(cross_entropy(queries.detach(), keys, [0]).sum(), keys)
        torch.testing.assert_close(found, whole[1])
    else:
        (found,) = torch.autograd.grad(cross_entropy(queries, keys.detach(), [0]).sum(), queries)
        torch.testing.assert_close(found, whole[0])


@pytest.mark.parametrize("block", [2**25, 8])
def test_gradcheck(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    assert torch.autograd.gradcheck(lambda q, k: cross_entropy(q, k, [0], [1]), rows(4, 3, 5))


def test_products_of_a_thousand_neither_overflow_nor_vanish() -> None:
    queries = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    losses = log_sum_exp(queries, torch.tensor([[1.0], [2.0]]))
    assert losses.tolist() == [2000.0, -1000.0]
    losses.sum().backward()
    assert queries.grad.tolist() == [[2.0], [1.0]]


@pytest.mark.parametrize("block", [2**25, 64])
def test_a_large_matrix_is_not_kept(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    queries, keys = rows(40, 2, 40)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    for loss in (lambda: cross_entropy(queries, keys, [0]), lambda: info_nce(queries, keys, 0.1)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss()
        assert (max(kept) == 40 * 40) is (block > 40 * 40)


def test_blocks_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", 30)
    assert blocks(10, 7) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert blocks(2, 100) == [slice(0, 1), slice(1, 2)]
    assert blocks(0, 7) == [slice(0, 0)]


def test_no_rows_give_no_losses_and_no_gradient() -> None:
    queries, keys = rows(0, 3, 5)
    losses = log_sum_exp(queries, keys)
    losses.sum().backward()
    assert losses.shape == (0,)
    assert torch.equal(keys.grad, torch.zeros_like(keys))


def test_unit_rows() -> None:
    z = rows(5, 4, 1)[0]
    same_with_gradient(unit(z, 3.0)[:, 0], 3 * normalize(z, dim=1)[:, 0], z)
    assert unit(z.to(torch.bfloat16)).dtype == torch.float32
    zeros = torch.zeros(2, 3, requires_grad=True)
    unit(zeros).sum().backward()
    assert bool(zeros.grad.isfinite().all())


@pytest.mark.parametrize("block", [2**25, 20])
@pytest.mark.parametrize("shape", [(6, 10), (8, 8), (11, 5)])
def test_info_nce_is_the_cross_entropy_of_cosines(shape: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    a, b = rows(*shape, shape[0])
    cosines = normalize(a, dim=1) @ normalize(b, dim=1).T
    expected = torch_cross_entropy(cosines / 0.2, torch.arange(len(a)))
    same_with_gradient(info_nce(a, b, 0.2)[None], expected[None], a, b)
    order = torch.randperm(len(a))
    torch.testing.assert_close(info_nce(3 * a[order], 0.1 * b[order], 0.2), expected)


def test_info_nce_of_equal_rows_is_the_log_of_their_number() -> None:
    a = torch.ones(9, 4, dtype=torch.float64, requires_grad=True)
    loss = info_nce(a, a, 0.05)
    assert float(loss.detach()) == pytest.approx(torch.tensor(9.0).log().item())
    loss.backward()
    assert bool(a.grad.isfinite().all())


def test_a_single_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"InfoNCE compares .* at least two rows, found 1"):
        info_nce(torch.ones(1, 2), torch.ones(1, 2), 0.1)
    require_others(2, "anything")


def test_is_taken_in_full_precision_under_autocast() -> None:
    a, b = (z.detach().float().requires_grad_() for z in rows(20, 30, 20))
    outside = torch.autograd.grad(info_nce(a, b, 0.1), (a, b))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(a, b, 0.1)
        inside = torch.autograd.grad(loss, (a, b))
        assert info_nce(a.bfloat16(), b.bfloat16(), 0.1).dtype == torch.float32
    assert torch.equal(loss, info_nce(a, b, 0.1))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(inside, outside, strict=True))
