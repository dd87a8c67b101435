from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from anyview.objectives import contrast
from anyview.objectives.simclr import SimCLR, nt_xent_loss, simclr_loss
from anyview.testing import check_objective, check_rank_exact

SHAPES = [(6, 10), (8, 8), (11, 5)]


def rows(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(*shape, generator=random, dtype=torch.float64)
    b = a + 0.5 * torch.randn(*shape, generator=random, dtype=torch.float64)
    return a.requires_grad_(), b.requires_grad_()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return cosine_similarity(x, y, dim=0, eps=1e-12)


def paper(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Row by row: minus the positive's logit, plus log of the sum over all rows but the row itself."""
    z = torch.cat([a, b])
    losses = []
    for i in range(len(z)):
        positive = (i + len(a)) % len(z)
        total = sum(torch.exp(cosine(z[i], z[k]) / temperature) for k in range(len(z)) if k != i)
        losses.append(-cosine(z[i], z[positive]) / temperature + torch.log(total))
    return torch.stack(losses).mean()


def with_masks(z: Tensor, positives: Tensor, excluded: Tensor, temperature: float) -> Tensor:
    """Row by row, the mean over the positives of each one's share among itself and the negatives; rows without a positive do not count."""
    losses = []
    for i in range(len(z)):
        logits = [cosine(z[i], z[k]) / temperature for k in range(len(z))]
        taking_part = [k for k in range(len(z)) if k != i and not excluded[i, k]]
        own = [k for k in taking_part if positives[i, k]]
        others = sum(torch.exp(logits[k]) for k in taking_part if not positives[i, k])
        if own:
            losses.append(sum(-torch.log(torch.exp(logits[p]) / (torch.exp(logits[p]) + others)) for p in own) / len(own))
    return torch.stack(losses).mean()


def same_with_gradient(found: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_is_the_paper_s_formula(shape: tuple[int, int], temperature: float) -> None:
    a, b = rows(shape)
    same_with_gradient(simclr_loss(a, b, temperature), paper(a, b, temperature), a, b)


def test_is_the_cross_entropy_of_all_other_rows() -> None:
    a, b = rows((7, 4))
    z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    others = (z @ z.T / 0.2)[~torch.eye(14, dtype=torch.bool)].view(14, 13)
    partner = torch.tensor([i + 6 for i in range(7)] + list(range(7)))
    torch.testing.assert_close(simclr_loss(a, b, 0.2), cross_entropy(others, partner), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_invariances(shape: tuple[int, int]) -> None:
    a, b = rows(shape)
    loss = simclr_loss(a, b)
    torch.testing.assert_close(simclr_loss(b, a), loss)
    order = torch.randperm(len(a))
    torch.testing.assert_close(simclr_loss(a[order], b[order]), loss)
    scale = torch.rand(len(a), 1, dtype=torch.float64) + 0.5
    torch.testing.assert_close(simclr_loss(scale * a, 100 * b), loss)


@pytest.mark.parametrize("count", [2, 9])
def test_all_rows_equal(count: int) -> None:
    a = torch.ones(count, 5, dtype=torch.float64, requires_grad=True)
    loss = simclr_loss(a, a, 0.05)
    assert float(loss.detach()) == pytest.approx(math.log(2 * count - 1), abs=1e-12)
    assert SimCLR(4, hidden=4, width=4).collapse_line(count) == pytest.approx(float(loss.detach()))
    loss.backward()
    assert bool(a.grad.isfinite().all())


@pytest.mark.parametrize("case", ["duplicates", "a row of zeros", "all nought"])
def test_degenerate_rows_are_finite(case: str) -> None:
    a, b = (z.detach().float().requires_grad_() for z in rows((6, 4)))
    with torch.no_grad():
        a[1] = b[1] = a[0] if case == "duplicates" else 0.0
        if case == "all nought":
            a.zero_(), b.zero_()
    for loss in (simclr_loss(a, b), nt_xent_loss(torch.cat([a, b]), excluded=torch.zeros(12, 12, dtype=torch.bool))):
        assert bool(loss.isfinite())
        assert all(bool(gradient.isfinite().all()) for gradient in torch.autograd.grad(loss, (a, b)))


def test_low_temperatures_do_not_overflow() -> None:
    a, b = (z.detach().float() for z in rows((6, 4)))
    exact = float(simclr_loss(a.double(), b.double(), 0.004))
    assert float(simclr_loss(a, b, 0.004)) == pytest.approx(exact, rel=1e-4)  # logits of 250, whose exponential float32 does not hold


@pytest.mark.parametrize("shape", [(3, 4), (4, 2)])
def test_gradcheck(shape: tuple[int, int]) -> None:
    assert torch.autograd.gradcheck(simclr_loss, rows(shape))


def test_one_sample_has_nothing_to_be_told_from() -> None:
    for refuse in (lambda: simclr_loss(torch.ones(1, 2), torch.ones(1, 2)), lambda: nt_xent_loss(torch.ones(2, 2))):
        with pytest.raises(ValueError, match="at least two rows, found 1"):
            refuse()
    with pytest.raises(ValueError, match="at least two rows, found 1"):
        nt_xent_loss(torch.ones(1, 2), torch.ones(1, 1, dtype=torch.bool))


def test_three_rows_are_not_two_views() -> None:
    with pytest.raises(ValueError, match="3 rows have no half; give positives"):
        nt_xent_loss(torch.ones(3, 2))


@pytest.mark.parametrize("block", [2**25, 30])
def test_masks_that_say_what_is_the_default_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "BLOCK", block)
    a, b = rows((6, 4))
    z, expected = torch.cat([a, b]), simclr_loss(a, b, 0.2)
    none, own = torch.zeros(12, 12, dtype=torch.bool), torch.eye(12, dtype=torch.bool)
    torch.testing.assert_close(nt_xent_loss(z, temperature=0.2), expected, rtol=1e-12, atol=0)
    same_with_gradient(nt_xent_loss(z, excluded=none, temperature=0.2), expected, a, b)
    same_with_gradient(nt_xent_loss(z, own.roll(6, 0), own, temperature=0.2), simclr_loss(a, b, 0.2), a, b)


@pytest.mark.parametrize("block", [2**25, 30])
@pytest.mark.parametrize("case", ["classes", "duplicates", "both"])
def test_masks_are_the_formula_pair_by_pair(case: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes: several positives. Duplicates: false negatives that take no part. Both: a pair that is positive and excluded takes none."""
    monkeypatch.setattr(contrast, "BLOCK", block)
    z = rows((11, 4))[0]
    classes = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 3, 4, 4])  # the only row of class 3 has no positive
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 6])
    positives = classes[:, None] == classes
    excluded = groups[:, None] == groups
    if case == "classes":
        excluded = torch.zeros_like(excluded)
    if case == "duplicates":
        positives = torch.eye(11, dtype=torch.bool).roll(3, 0)
    same_with_gradient(nt_xent_loss(z, positives, excluded, 0.3), with_masks(z, positives, excluded, 0.3), z)


def test_masks_without_a_positive_or_without_a_negative() -> None:
    z = rows((4, 3))[0]
    nothing, everything = torch.zeros(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)
    for positives, excluded in ((nothing, nothing), (everything, nothing), (everything, everything)):
        loss = nt_xent_loss(z, positives, excluded)
        assert float(loss.detach()) == 0.0
        assert float(torch.autograd.grad(loss, z)[0].abs().max()) == 0.0


def test_masks_gradcheck() -> None:
    z = rows((5, 3))[0]
    positives = torch.tensor([0, 1, 0, 1, 0])
    assert torch.autograd.gradcheck(lambda z: nt_xent_loss(z, positives[:, None] == positives, None, 0.5), z)


@pytest.mark.parametrize("masked", [False, True])
def test_is_taken_in_full_precision_under_autocast(masked: bool) -> None:
    z = torch.cat(rows((20, 30))).detach().float().requires_grad_()
    excluded = torch.zeros(40, 40, dtype=torch.bool) if masked else None
    outside = nt_xent_loss(z, excluded=excluded)
    expected = torch.autograd.grad(outside, z)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = nt_xent_loss(z, excluded=excluded)
        found = torch.autograd.grad(inside, z)[0]
        assert nt_xent_loss(z.bfloat16(), excluded=excluded).dtype == torch.float32
    assert torch.equal(inside, outside)
    assert torch.equal(found, expected)


def test_objective_keeps_the_contract() -> None:
    check_objective(partial(SimCLR, hidden=16, width=8))


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(partial(SimCLR, hidden=16, width=8), ranks=ranks, rows=rows)


def test_ranks_are_exact_in_float32() -> None:
    check_rank_exact(partial(SimCLR, hidden=16, width=8, temperature=0.5), rows=32, steps=1, tolerance=1e-5, dtype=torch.float32)
