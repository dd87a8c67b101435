from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anyview.combiners.mgda import MGDA, min_norm_weights


def random_gradients(count: int, seed: int, size: int = 20) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def best_on_a_grid(gram: Tensor, steps: int = 200) -> float:
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    first, second = torch.meshgrid(share, share, indexing="ij")
    inside = first + second <= 1 + 1e-12
    weights = torch.stack([first[inside], second[inside], 1 - first[inside] - second[inside]], 1)
    return float((weights @ gram * weights).sum(1).min())


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_a_common_descent_direction_on_the_simplex(count: int, seed: int) -> None:
    gradients = random_gradients(count, seed) + 0.3
    weights = min_norm_weights(gradients @ gradients.T)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert bool((weights >= 0).all())
    direction = weights @ gradients
    norm = float(direction @ direction)
    assert norm <= float(gradients.square().sum(1).min()) + 1e-9
    assert bool((gradients @ direction >= norm * (1 - 1e-2) - 1e-9).all())


@pytest.mark.parametrize("seed", range(5))
def test_three_gradients_reach_the_smallest_norm(seed: int) -> None:
    gradients = random_gradients(3, seed, size=4)
    gram = gradients @ gradients.T
    weights = min_norm_weights(gram)
    assert float(weights @ gram @ weights) <= best_on_a_grid(gram) * (1 + 1e-3) + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_two_gradients_in_closed_form(seed: int) -> None:
    a, b = random_gradients(2, seed)
    expected = float(((b - a) @ b / (a - b).square().sum()).clamp(0, 1))
    weights = min_norm_weights(torch.stack([a, b]) @ torch.stack([a, b]).T)
    assert float(weights[0]) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_orthogonal_gradients_of_equal_length_weigh_the_same(count: int) -> None:
    torch.testing.assert_close(min_norm_weights(3 * torch.eye(count)), torch.full((count,), 1 / count).double(), atol=2e-3, rtol=0)


def test_opposite_gradients_cancel() -> None:
    gradients = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    weights = min_norm_weights(gradients @ gradients.T)
    assert (weights.float() @ gradients).abs().max() < 1e-6


def test_equal_gradients_give_that_gradient() -> None:
    gradients = torch.ones(4, 3)
    weights = min_norm_weights(gradients @ gradients.T)
    torch.testing.assert_close(weights.float() @ gradients, torch.ones(3))


def test_a_dominated_gradient_gets_no_weight() -> None:
    gradients = torch.tensor([[1.0, 0.0], [5.0, 0.1]])
    assert min_norm_weights(gradients @ gradients.T).tolist() == [1.0, 0.0]


def two_heads() -> tuple[nn.Linear, nn.Linear, nn.Linear, dict[str, Tensor]]:
    torch.manual_seed(0)
    trunk, one, two = nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(3, 2)
    rows = trunk(torch.randn(6, 4))
    return trunk, one, two, {"one": one(rows).square().mean(), "two": 3 * (two(rows) - 1).square().mean()}


def test_heads_get_their_own_weighted_gradients() -> None:
    trunk, one, two, losses = two_heads()
    plain = (
        torch.autograd.grad(losses["one"], one.weight, retain_graph=True)[0],
        torch.autograd.grad(losses["two"], two.weight, retain_graph=True)[0],
    )
    shared = [torch.autograd.grad(loss, trunk.weight, retain_graph=True)[0] for loss in losses.values()]
    weights = MGDA().backward(losses, list(trunk.parameters()), torch.Tensor.backward, torch.Generator())
    torch.testing.assert_close(one.weight.grad, weights["one"] * plain[0])
    torch.testing.assert_close(two.weight.grad, weights["two"] * plain[1])
    torch.testing.assert_close(trunk.weight.grad, weights["one"] * shared[0] + weights["two"] * shared[1])


def test_unit_gradients_weigh_in_inverse_proportion_to_their_length() -> None:
    """Between two unit vectors the shortest point is the middle."""
    trunk, _, _, losses = two_heads()
    weights = MGDA("l2").backward(losses, list(trunk.parameters()), torch.Tensor.backward, torch.Generator())
    assert weights["one"] == pytest.approx(0.5, abs=1e-4)


def test_scaling_a_loss_changes_nothing_when_gradients_are_divided_by_it() -> None:
    found = []
    for scale in (1.0, 100.0):
        trunk, _, _, losses = two_heads()
        losses["two"] = scale * losses["two"]
        found.append(MGDA("loss").backward(losses, list(trunk.parameters()), torch.Tensor.backward, torch.Generator())["one"])
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_gradients_add_to_those_that_are_there() -> None:
    trunk, _, _, losses = two_heads()
    MGDA().backward(losses, list(trunk.parameters()), lambda loss: loss.backward(retain_graph=True), torch.Generator())
    once = trunk.weight.grad.clone()
    MGDA().backward(losses, list(trunk.parameters()), torch.Tensor.backward, torch.Generator())
    torch.testing.assert_close(trunk.weight.grad, 2 * once)


def test_a_task_without_gradient_does_no_harm() -> None:
    gram = torch.zeros(2, 2)
    gram[1, 1] = 4.0
    weights = min_norm_weights(gram)
    assert bool(weights.isfinite().all())
    assert weights.tolist() == [1.0, 0.0]
