from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anyview.objectives.dcl import DCL, dcl_loss, positive_weights
from anyview.testing import check_objective, check_rank_exact

SHAPES = [(6, 10), (8, 8), (11, 5), (2, 3)]


def rows(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(*shape, generator=random, dtype=torch.float64)
    b = a + 0.5 * torch.randn(*shape, generator=random, dtype=torch.float64)
    return a.requires_grad_(), b.requires_grad_()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return cosine_similarity(x, y, dim=0, eps=1e-12)


def paper(a: Tensor, b: Tensor, temperature: float, sigma: float | None) -> Tensor:
    """Both directions, sample by sample; with sigma the positives are weighted as in DCLW."""
    count = len(a)
    weights = torch.ones(count, dtype=a.dtype)
    if sigma is not None:
        similarity = torch.stack([torch.exp(cosine(a[i], b[i]) / sigma) for i in range(count)]).detach()
        weights = 2 - similarity / similarity.mean()
    losses = []
    for ours, theirs in ((a, b), (b, a)):
        for i in range(count):
            others = [view[k] for view in (ours, theirs) for k in range(count) if k != i]
            total = sum(torch.exp(cosine(ours[i], other) / temperature) for other in others)
            losses.append(-weights[i] * cosine(ours[i], theirs[i]) / temperature + torch.log(total))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("temperature", "sigma"), [(0.1, None), (0.5, None), (0.1, 0.5), (0.3, 0.2)])
def test_is_the_paper_s_formula(shape: tuple[int, int], temperature: float, sigma: float | None) -> None:
    a, b = rows(shape)
    found = dcl_loss(a, b, temperature, weighted=sigma is not None, sigma=sigma or 0.5)
    expected = paper(a, b, temperature, sigma)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(torch.autograd.grad(found, (a, b)), torch.autograd.grad(expected, (a, b)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_is_nt_xent_with_the_positive_taken_out_of_the_denominator() -> None:
    a, b = rows((7, 4))
    z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    logits = z @ z.T / 0.1
    positive = torch.cat([logits.diagonal(7), logits.diagonal(-7)])
    everything = logits.masked_fill(torch.eye(14, dtype=torch.bool), -torch.inf).logsumexp(1)
    without = everything + torch.log1p(-torch.exp(positive - everything))
    torch.testing.assert_close(dcl_loss(a, b), (without - positive).mean(), rtol=1e-10, atol=0)


def test_weights_have_mean_one_and_are_larger_for_views_far_apart() -> None:
    cosines = torch.linspace(-1, 1, 9, dtype=torch.float64)
    weights = positive_weights(cosines, 0.5)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert bool((weights.diff() < 0).all())
    torch.testing.assert_close(positive_weights(torch.full((5,), 0.3)), torch.ones(5))


def test_may_be_negative() -> None:
    assert float(dcl_loss(torch.eye(3), torch.eye(3))) < 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_invariances(shape: tuple[int, int], weighted: bool) -> None:
    a, b = rows(shape)
    loss = dcl_loss(a, b, weighted=weighted)
    torch.testing.assert_close(dcl_loss(b, a, weighted=weighted), loss)
    order = torch.randperm(len(a))
    torch.testing.assert_close(dcl_loss(a[order], 3 * b[order], weighted=weighted), loss)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [2, 9])
def test_all_rows_equal(count: int, weighted: bool) -> None:
    a = torch.ones(count, 5, dtype=torch.float64, requires_grad=True)
    loss = dcl_loss(a, a, weighted=weighted)
    assert float(loss.detach()) == pytest.approx(math.log(2 * count - 2), abs=1e-12)
    assert DCL(4, hidden=4, width=4).collapse_line(count) == pytest.approx(float(loss.detach()))
    loss.backward()
    assert bool(a.grad.isfinite().all())


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(dcl_loss, rows((3, 4)))


def test_no_gradient_through_the_weights() -> None:
    a, b = rows((5, 3))
    with torch.no_grad():
        weights = positive_weights(cosine_similarity(a, b), 0.5)
    fixed = dcl_loss(a, b) - ((weights - 1) * cosine_similarity(a, b)).mean() / 0.1
    found = dcl_loss(a, b, weighted=True)
    torch.testing.assert_close(torch.autograd.grad(found, a)[0], torch.autograd.grad(fixed, a)[0], rtol=1e-9, atol=1e-12)


def test_zero_rows_are_finite_and_one_row_is_refused() -> None:
    a = torch.zeros(3, 2, requires_grad=True)
    dcl_loss(a, torch.ones(3, 2), weighted=True).backward()
    assert bool(a.grad.isfinite().all())
    with pytest.raises(ValueError, match=r"DCL compares .* at least two rows, found 1"):
        dcl_loss(torch.ones(1, 2), torch.ones(1, 2))


def test_is_taken_in_full_precision_under_autocast() -> None:
    a, b = (z.detach().float() for z in rows((20, 30)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = dcl_loss(a, b, weighted=True)
        assert dcl_loss(a.bfloat16(), b.bfloat16(), weighted=True).dtype == torch.float32
    assert torch.equal(inside, dcl_loss(a, b, weighted=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_objective_keeps_the_contract(weighted: bool) -> None:
    check_objective(partial(DCL, hidden=16, width=8, weighted=weighted))


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(partial(DCL, hidden=16, width=8, weighted=True), ranks=ranks, rows=rows)
