from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from anyview.encoders.encoder import Wrapped
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.objectives.prototypes import Prototypes, cross_entropy, dead_prototypes, phase, swapped_cross_entropy
from anyview.testing.tiny import tiny_draws
from anyview.views.view import ViewSet


def distributions(views: int, rows: int = 5, count: int = 4) -> list[Tensor]:
    return list(torch.randn(views, rows, count, dtype=torch.float64).softmax(2))


def logits(views: int, rows: int = 5, count: int = 4) -> list[Tensor]:
    return list(3 * torch.randn(views, rows, count, dtype=torch.float64))


def test_scores_are_cosines_of_unit_rows_whatever_the_length_of_a_prototype() -> None:
    prototypes = Prototypes(3, 5).double()
    rows = torch.randn(7, 3, dtype=torch.float64)
    expected = cosine_similarity(rows[:, None], prototypes.weight[None], dim=2)
    torch.testing.assert_close(prototypes(normalize(rows, dim=1)), expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        prototypes.weight *= torch.rand(5, 1, dtype=torch.float64) + 0.5
    torch.testing.assert_close(prototypes(normalize(rows, dim=1)), expected, rtol=1e-10, atol=1e-12)


def test_begin_with_unit_length() -> None:
    torch.testing.assert_close(Prototypes(6, 20).weight.norm(dim=1), torch.ones(20))


def test_gradcheck() -> None:
    prototypes = Prototypes(3, 4).double()

    def scored(rows: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(prototypes, {"weight": weight}, (rows,))

    rows = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scored, (rows, prototypes.weight.detach().clone().requires_grad_()))


def test_frozen_ones_get_a_gradient_of_nought_and_rows_get_theirs() -> None:
    prototypes = Prototypes(3, 4)
    gradients = []
    for frozen in (False, True):
        rows = torch.ones(2, 3, requires_grad=True)
        prototypes.zero_grad()
        prototypes(rows, frozen).square().sum().backward()
        gradients.append((rows.grad, prototypes.weight.grad))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert float(gradients[0][1].abs().max()) > 0
    assert torch.equal(gradients[1][1], torch.zeros(4, 3))


def test_weight_decay_does_not_turn_frozen_ones() -> None:
    prototypes = Prototypes(3, 4)
    before = prototypes(torch.eye(3))
    optimizer = torch.optim.AdamW(prototypes.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        prototypes(torch.eye(3), frozen=True).sum().backward()
        optimizer.step()
    torch.testing.assert_close(prototypes(torch.eye(3)), before)


def test_equiangular_ones_are_fixed_apart_and_saved() -> None:
    pytest.importorskip("anyview.objectives.equiangular")
    prototypes = Prototypes(8, 8, kind="equiangular")
    assert not list(prototypes.parameters())
    torch.testing.assert_close(prototypes.weight @ prototypes.weight.T, torch.eye(8), rtol=0, atol=1e-5)
    assert list(prototypes.state_dict()) == ["weight"]
    simplex = Prototypes(4, 5, kind="equiangular")
    cosines = (simplex.weight @ simplex.weight.T)[~torch.eye(5, dtype=torch.bool)]
    torch.testing.assert_close(cosines, torch.full_like(cosines, -1 / 4), rtol=0, atol=1e-5)
    assert torch.equal(simplex.weight, Prototypes(4, 5, kind="equiangular").weight)


def test_are_multiplied_in_full_precision_under_autocast() -> None:
    prototypes, rows = Prototypes(16, 8), torch.randn(4, 16)
    outside = prototypes(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prototypes(rows), outside)
        assert prototypes(rows.bfloat16()).dtype == torch.float32


def test_unknown_kinds_and_counts_are_refused() -> None:
    with pytest.raises(UserError, match="'learned' or 'equiangular'"):
        Prototypes(3, 4, kind="spherical")
    with pytest.raises(UserError, match="at least one"):
        Prototypes(3, 0)


def test_dead_prototypes_are_the_nearest_of_no_row() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.3]])
    assert int(dead_prototypes(scores)) == 2
    assert int(dead_prototypes(torch.zeros(5, 4))) == 3
    assert int(dead_prototypes(torch.empty(0, 4))) == 4


def test_cross_entropy_is_the_sum_over_prototypes() -> None:
    (p,), (s,) = distributions(1), logits(1)
    expected = torch.tensor([-sum(p[m, k] * torch.log(s[m, k].exp() / s[m].exp().sum()) for k in range(4)) for m in range(5)])
    torch.testing.assert_close(cross_entropy(p, s), expected.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(cross_entropy(p, s), -(p * s.softmax(1).log()).sum(1), rtol=1e-10, atol=0)


def test_cross_entropy_divides_by_the_temperature() -> None:
    (p,), (s,) = distributions(1), [row.requires_grad_() for row in logits(1)]
    torch.testing.assert_close(cross_entropy(p, s, 0.2), cross_entropy(p, s / 0.2), rtol=1e-10, atol=0)
    assert torch.autograd.gradcheck(lambda row: cross_entropy(2 * p, row, 0.2), s)


@pytest.mark.parametrize(("seen", "targets"), [(2, 2), (5, 2), (3, 1), (4, 3), (2, 1)])
def test_swapped_cross_entropy_is_a_mean_over_pairs_of_different_views(seen: int, targets: int) -> None:
    p, s = distributions(targets), logits(seen)
    terms = [-(p[a] * s[v].softmax(1).log()).sum(1) for a in range(targets) for v in range(seen) if v != a]
    torch.testing.assert_close(swapped_cross_entropy(p, s), sum(terms) / len(terms), rtol=1e-10, atol=0)


def test_swapped_cross_entropy_has_no_gradient_to_targets() -> None:
    p, s = distributions(2), [row.requires_grad_() for row in logits(3)]
    p = [row.requires_grad_() for row in p]
    swapped_cross_entropy(p, s).sum().backward()
    assert all(row.grad is None for row in p)
    assert all(float(row.grad.abs().max()) > 0 for row in s)
    assert torch.autograd.gradcheck(lambda *rows: swapped_cross_entropy(p, rows), tuple(s))


def test_views_that_differ_by_thousands_stay_finite() -> None:
    s = [torch.tensor([[1e4, -1e4]], requires_grad=True) for _ in range(2)]
    loss = swapped_cross_entropy([torch.tensor([[0.0, 1.0]])] * 2, s).sum()
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(s[0].grad.isfinite().all())


def test_a_single_view_has_no_other() -> None:
    with pytest.raises(ValueError, match="compared with each other"):
        swapped_cross_entropy(distributions(1), logits(1))


def at(epoch: float, epochs: int) -> Step:
    steps = 10 * epochs
    return Step(ViewSet([]), None, tiny_draws(0, 4), round(10 * epoch), steps, Wrapped(nn.Identity(), 4), epochs=epochs)


@pytest.mark.parametrize(
    ("epoch", "epochs", "length", "done"),
    [
        (0, 100, 10, 0),
        (5, 100, 10, 0.5),
        (10, 100, 10, 1),
        (90, 100, 10, 1),
        (1, 4, 30, 0.5),
        (2, 4, 30, 1),
        (0, 4, 0, 1),
        (0.1, 1, 1, 0.2),
    ],
)
def test_a_phase_lasts_its_epochs_and_half_of_a_short_stage(epoch: float, epochs: int, length: float, done: float) -> None:
    assert phase(at(epoch, epochs), length) == pytest.approx(done)
