from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from anyview.objectives.barlow_twins import barlow_twins_loss
from anyview.optimizers import LARS

Numbers = dict[str, float]


def published(p: Tensor, g: Tensor, u: Tensor, *, lr: float, momentum: float, weight_decay: float, trust: float) -> tuple[Tensor, Tensor]:
    """The update of SimCLR, BYOL and Barlow Twins, of one tensor: new parameter and momentum."""
    if p.ndim > 1:
        g = g + weight_decay * p
        norms = math.sqrt(float((p * p).sum())), math.sqrt(float((g * g).sum()))
        g = g * (trust * norms[0] / norms[1] if min(norms) > 0 else 1.0)
    u = momentum * u + g
    return p - lr * u, u


def clipped(p: Tensor, g: Tensor, u: Tensor, *, lr: float, momentum: float, weight_decay: float, trust: float) -> tuple[Tensor, Tensor]:
    """The update behind the CIFAR tables."""
    norms = math.sqrt(float((p * p).sum())), math.sqrt(float((g * g).sum()))
    if p.ndim > 1 and min(norms) > 0:
        ratio = trust * norms[0] / (norms[1] + weight_decay * norms[0] + 1e-8)
        g = (g + weight_decay * p) * min(ratio / lr, 1.0)
    u = momentum * u + g
    return p - lr * u, u


def tensors() -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (5,), (2, 3, 2, 2), (), (3, 3), (3, 3)]
    parameters = [nn.Parameter(torch.randn(shape, generator=random, dtype=torch.float64)) for shape in shapes]
    with torch.no_grad():
        parameters[4].zero_()  # a matrix of norm 0; the last one gets a gradient of norm 0
    return parameters


def gradients(step: int, size: float = 1.0) -> list[Tensor]:
    random = torch.Generator().manual_seed(step + 1)
    found = [size * torch.randn(p.shape, generator=random, dtype=torch.float64) for p in tensors()]
    found[-1] = torch.zeros(3, 3, dtype=torch.float64)
    return found


FORMS = {
    "published": (published, {}, {"lr": 0.4, "momentum": 0.9, "weight_decay": 0.01, "trust": 0.001}),
    "without decay": (published, {}, {"lr": 0.4, "momentum": 0.0, "weight_decay": 0.0, "trust": 0.5}),
    "clipped": (clipped, {"clip_lr": True}, {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-4, "trust": 0.02}),
    "clipped at lr": (clipped, {"clip_lr": True}, {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "trust": 0.02}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_is_the_published_update(form: str, size: float) -> None:
    rule, options, numbers = FORMS[form]
    parameters = tensors()
    optimizer = LARS(parameters, **numbers, **options)
    expected = [(p.detach().clone(), torch.zeros_like(p)) for p in parameters]
    for step in range(4):
        for parameter, gradient in zip(parameters, gradients(step, size), strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        updates = zip(expected, gradients(step, size), strict=True)
        expected = [rule(p.detach(), g, u.detach(), **numbers) for (p, u), g in updates]
        for parameter, (p, u) in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.detach(), p, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(optimizer.state[parameter]["momentum_buffer"], u, rtol=1e-12, atol=1e-14)


def moved(optimizer: Callable[[list[nn.Parameter]], LARS], size: float) -> list[Tensor]:
    parameters = tensors()
    for parameter, gradient in zip(parameters, gradients(0, size), strict=True):
        parameter.grad = gradient
    before = [p.detach().clone() for p in parameters]
    optimizer(parameters).step()
    return [p.detach() - old for p, old in zip(parameters, before, strict=True)]


def test_matrices_move_by_a_share_of_their_length_whatever_the_gradient_s() -> None:
    small, large = (moved(lambda p: LARS(p, lr=0.5, trust=0.01), size) for size in (1.0, 1000.0))
    for position in (0, 2):
        assert float(small[position].norm() / tensors()[position].detach().norm()) == pytest.approx(0.005)
        torch.testing.assert_close(small[position], large[position])
    torch.testing.assert_close(1000 * small[1], large[1])  # a bias shows the scale


def test_clipped_lr_is_the_largest_rate() -> None:
    step = moved(lambda p: LARS(p, lr=0.01, trust=0.02, clip_lr=True), 1e-6)
    torch.testing.assert_close(step[0], -0.01 * gradients(0, 1e-6)[0])


def test_a_warm_up_s_first_step_moves_nothing() -> None:
    for clip_lr in (False, True):
        assert all(float(step.abs().max()) == 0.0 for step in moved(lambda p, clip=clip_lr: LARS(p, lr=0.0, clip_lr=clip), 1.0))


def test_groups_have_numbers_of_their_own_and_frozen_tensors_stay() -> None:
    matrix, bias, frozen = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([{"params": [matrix, frozen]}, {"params": [bias], "lr": 0.5}], lr=0.1, trust=0.2)
    matrix.grad, bias.grad = torch.ones(2, 2), torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 1 - 0.1 * 0.2))
    torch.testing.assert_close(bias.detach(), torch.full((2,), 0.5))
    assert torch.equal(frozen.detach(), torch.ones(2, 2))


def test_a_closure_is_called_with_gradient_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight], lr=0.1, trust=1.0)

    def closure() -> float:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 4.0
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.9))


def test_state_survives_a_round_trip() -> None:
    def train(parameters: list[nn.Parameter], optimizer: LARS, steps: range) -> None:
        for step in steps:
            for parameter, gradient in zip(parameters, gradients(step), strict=True):
                parameter.grad = gradient
            optimizer.step()

    parameters = tensors()
    optimizer = LARS(parameters, lr=0.1, weight_decay=0.1)
    train(parameters, optimizer, range(3))
    resumed = copy.deepcopy(parameters)
    other = LARS(resumed, lr=1.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(parameters, optimizer, range(3, 6))
    train(resumed, other, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed, strict=True))


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "trust"])
def test_numbers_below_nought_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} -1"):
        LARS(tensors(), **{"lr": 0.1, name: -1.0})


def test_trains_barlow_twins() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = LARS(layer.parameters(), lr=1.0, trust=0.05)
    x = torch.randn(64, 6)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = barlow_twins_loss(layer(x + 0.1 * torch.randn(64, 6)), layer(x + 0.1 * torch.randn(64, 6)), 0.1)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
