"""LARS: momentum descent in which every weight matrix moves by a share of its own length.

You, Gitman, Ginsburg. Large Batch Training of Convolutional Networks. 2017, arXiv 1708.03888; as SimCLR, BYOL, Barlow Twins and VICReg
use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """u <- momentum·u + trust·(gradient + weight_decay·p); p <- p - lr·u.

    The trust of a tensor of two or more axes is trust·‖p‖/‖gradient + weight_decay·p‖, and 1 where either norm is 0. Biases and the
    gains of norms (one axis or none) have a trust of 1 and no weight decay; give them a learning rate of their own in a parameter group.

    lr: the rate; papers give 0.2 to 0.3 for each 256 rows of the batch. trust: eta in the papers. clip_lr: the form behind solo-learn's
    CIFAR tables: the trust is trust·‖p‖/(‖gradient‖ + weight_decay·‖p‖ + 1e-8), divided by lr and at most 1, so that lr is the largest rate
    that a matrix can have; a matrix without gradient stays. With it a trust of 0.02 is usual. Raises ValueError for numbers below 0.

    A loss that is scaled by a constant moves weight matrices by as much as before: LARS hides such an error, except in biases and norms.

    >>> layer = nn.Linear(3, 2)
    >>> optimizer = LARS(layer.parameters(), lr=0.1, trust=0.5)
    >>> layer(torch.ones(1, 3)).sum().backward()
    >>> before = layer.weight.detach().clone()
    >>> optimizer.step()
    >>> bool(((before - layer.weight).norm() / before.norm()).isclose(torch.tensor(0.05)))
    True
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        clip_lr: bool = False,
    ) -> None:
        numbers = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        negative = [f"{name} {number:g}" for name, number in numbers.items() if number < 0]
        if negative:
            raise ValueError(f"LARS takes numbers from 0 on, and {', '.join(negative)} was given")
        super().__init__(params, {**numbers, "clip_lr": clip_lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; returns the loss of `closure`, which is called with gradient first, if it is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        gradient = _scaled(parameter, parameter.grad, group) if parameter.ndim > 1 else parameter.grad
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        parameter.add_(velocity, alpha=-group["lr"])


def _scaled(parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """The gradient of a matrix with its weight decay, times its trust; no number leaves the device."""
    decay: float = group["weight_decay"]
    decayed = gradient.add(parameter, alpha=decay)
    length = parameter.norm()
    if not group["clip_lr"]:
        slope = decayed.norm()
        return torch.where((length > 0) & (slope > 0), group["trust"] * length / slope, 1.0) * decayed
    slope = gradient.norm()
    trust = group["trust"] * length / (slope + decay * length + 1e-8)
    if group["lr"] > 0:  # in the first step of a warm-up nothing moves, whatever the trust
        trust = (trust / group["lr"]).clamp(max=1.0)
    return torch.where((length > 0) & (slope > 0), trust * decayed, gradient)
