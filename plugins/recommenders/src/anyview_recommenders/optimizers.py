"""Adam for encoders with a large table of embeddings, of which a step needs a few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SparseAdam(Optimizer):
    """Adam (Kingma, Ba. 2015, arXiv 1412.6980), whose moments and weights move only in rows that have a gradient, where it is sparse.

    torch.optim.SparseAdam takes sparse gradients alone, and an encoder has both. A row's moments stay as they are while it has no gradient
    (lazy Adam); the correction of their start counts all steps. Dense gradients are taken as Adam takes them.

    >>> table = nn.Parameter(torch.zeros(3, 1))
    >>> table.grad = torch.sparse_coo_tensor([[2]], [[5.0]], (3, 1))
    >>> SparseAdam([table], lr=0.1).step()
    >>> table.detach().flatten()
    tensor([ 0.0000,  0.0000, -0.1000])
    """

    def __init__(self, params: Iterable[Tensor], lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        if lr < 0:
            raise ValueError(f"the learning rate is 0 or more, and {lr:g} was given")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

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
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "first": torch.zeros_like(parameter), "second": torch.zeros_like(parameter)}
        state["step"] += 1
        assert parameter.grad is not None
        (first, second), (slow, slower) = (state["first"], state["second"]), group["betas"]
        rate = group["lr"] / (1 - slow ** state["step"])
        scale = (1 - slower ** state["step"]) ** -0.5
        if not parameter.grad.is_sparse:
            first.lerp_(parameter.grad, 1 - slow)
            second.mul_(slower).addcmul_(parameter.grad, parameter.grad, value=1 - slower)
            parameter.addcdiv_(first, second.sqrt().mul_(scale).add_(group["eps"]), value=-rate)
            return
        gradient = parameter.grad.coalesce()
        [rows], values = gradient.indices(), gradient.values()
        own_first = torch.lerp(first[rows], values, 1 - slow)
        own_second = second[rows].mul_(slower).addcmul_(values, values, value=1 - slower)
        first[rows], second[rows] = own_first, own_second
        parameter.index_add_(0, rows, own_first / own_second.sqrt().mul_(scale).add_(group["eps"]), alpha=-rate)
