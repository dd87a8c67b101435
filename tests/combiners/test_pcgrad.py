from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from anyview.combiners.pcgrad import PCGrad, project_conflicts


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def surgery(gradients: Tensor, random: torch.Generator) -> Tensor:
    """The paper's algorithm on the vectors themselves."""
    total = torch.zeros_like(gradients[0])
    for i, gradient in enumerate(gradients):
        own = gradient.clone()
        for j in torch.randperm(len(gradients), generator=random).tolist():
            if j != i and own @ gradients[j] < 0:
                own -= (own @ gradients[j]) / gradients[j].square().sum() * gradients[j]
        total += own
    return total


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_is_the_paper_s_algorithm(count: int, seed: int) -> None:
    gradients = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = project_conflicts(gradients, generator()) @ gradients
    torch.testing.assert_close(found, surgery(gradients, generator()), rtol=1e-10, atol=1e-12)


def test_without_conflicts_it_is_the_sum() -> None:
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    assert project_conflicts(gradients, generator()).tolist() == [1.0, 1.0, 1.0]


def test_two_opposed_gradients_cancel() -> None:
    gradients = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert (project_conflicts(gradients, generator()).float() @ gradients).abs().max() < 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_with_two_tasks_neither_loses(seed: int) -> None:
    gradients = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    direction = project_conflicts(gradients, generator()) @ gradients
    assert bool((gradients @ direction >= -1e-12).all())


def test_shared_parameters_get_the_projected_sum_and_heads_their_own() -> None:
    trunk, one, two = nn.Linear(3, 2, bias=False), nn.Linear(2, 1), nn.Linear(2, 1)
    rows = trunk(torch.randn(5, 3))
    losses = {"one": one(rows).sum(), "two": -2 * one(rows).sum() + two(rows).sum() * 0.1}
    gradients = torch.stack([torch.autograd.grad(loss, trunk.weight, retain_graph=True)[0].flatten() for loss in losses.values()])
    heads = torch.autograd.grad(losses["one"] + losses["two"], [one.weight, two.weight], retain_graph=True)
    assert float(gradients[0] @ gradients[1]) < 0
    PCGrad().backward(losses, [trunk.weight], torch.Tensor.backward, generator())
    torch.testing.assert_close(trunk.weight.grad.flatten(), surgery(gradients, generator()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.weight.grad, heads[0])
    torch.testing.assert_close(two.weight.grad, heads[1])


def test_gradients_add_to_those_that_are_there() -> None:
    shared = nn.Parameter(torch.tensor([1.0, 1.0]))
    shared.grad = torch.tensor([10.0, 20.0])
    PCGrad().backward({"a": shared.sum(), "b": 2 * shared[0]}, [shared], torch.Tensor.backward, generator())
    assert shared.grad.tolist() == [13.0, 21.0]


def test_a_task_without_gradient_does_no_harm() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert (project_conflicts(gradients, generator()).float() @ gradients).tolist() == [1.0, 0.0]
