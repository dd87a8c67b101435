from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from anyview.errors import UserError
from anyview.objectives.equiangular import EquiangularHead, equiangular_basis, welch_bound


def largest_cosine(basis: Tensor) -> float:
    cosines = basis.double() @ basis.double().T
    return float(cosines.fill_diagonal_(0.0).abs().max())


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (3, 3), (5, 8), (64, 64)])
def test_up_to_as_many_as_dimensions_they_are_orthogonal(count: int, dim: int) -> None:
    basis = equiangular_basis(count, dim)
    assert basis.shape == (count, dim)
    torch.testing.assert_close(basis @ basis.T, torch.eye(count), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 7, 50])
def test_one_more_is_a_simplex(dim: int) -> None:
    basis = equiangular_basis(dim + 1, dim)
    cosines = basis @ basis.T
    expected = torch.full((dim + 1, dim + 1), -1 / dim).fill_diagonal_(1.0)
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-6)
    assert largest_cosine(basis) == pytest.approx(welch_bound(dim + 1, dim), abs=1e-6)


@pytest.mark.parametrize(("count", "dim", "max_cosine"), [(7, 3, 0.58), (30, 8, 0.42), (100, 20, 0.3), (300, 64, 0.17)])
def test_more_are_found_within_the_cosine_that_is_asked_for(count: int, dim: int, max_cosine: float) -> None:
    basis = equiangular_basis(count, dim, max_cosine)
    assert welch_bound(count, dim) < largest_cosine(basis) <= max_cosine + 1e-4 + 1e-6
    torch.testing.assert_close(basis.norm(dim=1), torch.ones(count))


@pytest.mark.parametrize(("count", "dim", "least"), [(6, 4, 0.345), (7, 3, 0.578), (30, 8, 0.45), (100, 20, 0.3)])
def test_without_a_cosine_the_smallest_that_is_reached(count: int, dim: int, least: float) -> None:
    """The optimum is 1/3 for six of four dimensions, and 1/sqrt 3 for seven of three."""
    basis = equiangular_basis(count, dim)
    assert welch_bound(count, dim) - 1e-6 <= largest_cosine(basis) <= least


def test_the_welch_bound() -> None:
    assert welch_bound(1000, 100) == pytest.approx(0.0949, abs=5e-5)
    assert welch_bound(100, 100) == welch_bound(3, 100) == 0.0


@pytest.mark.parametrize(("count", "dim", "max_cosine"), [(1000, 100, 0.09), (5, 4, 0.24), (30, 8, 0.3)])
def test_less_than_the_welch_bound_is_refused(count: int, dim: int, max_cosine: float) -> None:
    with pytest.raises(UserError, match=f"cosines of at most {max_cosine:g} were asked for, and some two have at least"):
        equiangular_basis(count, dim, max_cosine)


def test_what_the_search_does_not_reach_is_refused() -> None:
    """Ten lines in a plane have an angle of 18 degrees or less between some two, far above what the Welch bound says."""
    with pytest.raises(UserError, match=r"the search came to 0\.9\d+; allow that much"):
        equiangular_basis(10, 2, 0.8)


@pytest.mark.parametrize(("count", "dim"), [(0, 3), (3, 0)])
def test_nothing_is_refused(count: int, dim: int) -> None:
    with pytest.raises(UserError, match="at least one of each"):
        equiangular_basis(count, dim)


@pytest.mark.parametrize(("count", "dim"), [(4, 6), (7, 6), (20, 6)])
def test_the_seed_decides(count: int, dim: int) -> None:
    assert torch.equal(equiangular_basis(count, dim, seed=1), equiangular_basis(count, dim, seed=1))
    assert not torch.allclose(equiangular_basis(count, dim, seed=1), equiangular_basis(count, dim, seed=2), atol=1e-2)


def test_torch_s_own_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    equiangular_basis(20, 6)
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_are_cosines_over_the_temperature() -> None:
    head = EquiangularHead(6, 4)
    rows = torch.randn(5, 6)
    expected = torch.stack([torch.stack([row @ vector / row.norm() / 0.07 for vector in head.basis]) for row in rows])
    torch.testing.assert_close(head(rows), expected)
    torch.testing.assert_close(head(9 * rows), expected)
    assert torch.equal(head.predict(rows), expected.argmax(1))


def test_loss_is_cross_entropy_with_a_tenth_of_smoothing() -> None:
    head, rows, labels = EquiangularHead(6, 4), torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 0])
    shares = torch.full((5, 4), 0.1 / 4)
    shares[torch.arange(5), labels] += 0.9
    torch.testing.assert_close(head.loss(rows, labels), -(shares * head(rows).log_softmax(1)).sum(1).mean())


def test_gradcheck() -> None:
    head = EquiangularHead(3, 5, width=2).double()
    labels = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda rows: head.loss(rows, labels), (torch.randn(3, 3, dtype=torch.float64).requires_grad_(),))


def test_zero_rows_are_finite() -> None:
    head, rows = EquiangularHead(3, 3), torch.zeros(2, 3, requires_grad=True)
    loss = head.loss(rows, torch.tensor([0, 1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(torch.tensor(3.0).log().item())
    assert bool(rows.grad.isfinite().all())


def test_is_taken_in_full_precision_under_autocast() -> None:
    head, rows = EquiangularHead(16, 10), torch.randn(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head(rows)
    assert torch.equal(inside, head(rows))


def test_the_basis_is_state_and_no_parameter() -> None:
    head = EquiangularHead(6, 4, width=5)
    assert [name for name, _ in head.named_parameters()] == ["project.weight", "project.bias"]
    other = EquiangularHead(6, 4, width=5, seed=7)
    assert not torch.equal(other.basis, head.basis)
    other.load_state_dict(head.state_dict())
    rows = torch.randn(3, 6)
    assert torch.equal(other(rows), head(rows))


def digits() -> tuple[Tensor, Tensor]:
    x, y = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order].float() / 16 - 0.3, y[order]


def accuracy_on_digits(head: nn.Module) -> float:
    """Of a small network under a head, after 150 steps on 1200 digits, on the other 597."""
    x, y = digits()
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(150):
        rows, labels = body(x[:1200]), y[:1200]
        loss = head.loss(rows, labels) if isinstance(head, EquiangularHead) else cross_entropy(head(rows), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float((head(body(x[1200:])).argmax(1) == y[1200:]).float().mean())


def test_digits_are_learnt_as_well_as_by_a_linear_layer() -> None:
    torch.manual_seed(0)
    linear = accuracy_on_digits(nn.Linear(32, 10))
    assert linear > 0.95
    for width in (None, 9):  # the rows' own width, in which ten are orthogonal, and a simplex
        assert accuracy_on_digits(EquiangularHead(32, 10, width=width)) > linear - 0.02
    assert accuracy_on_digits(EquiangularHead(32, 10, width=5)) > linear - 0.05  # half as many dimensions as classes
