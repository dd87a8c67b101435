"""Batch norm over the rows of all ranks, on any device.

Ioffe, Szegedy. Batch Normalization. 2015, arXiv 1502.03167.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyview.distributed import ranks, sum_over_ranks


class BatchNorm(nn.BatchNorm1d):
    """Batch norm whose moments are those of the global batch, with gradient through them.

    Takes (M, D) or (B, D, ...) and returns the same shape. State and, on one process, every number are nn.BatchNorm1d's; on several
    ranks, which may hold different numbers of rows, mean and variance are all-reduced and the running variance is the unbiased one of all
    rows. (torch's SyncBatchNorm does the same on CUDA alone.) Raises ValueError in training mode when there is one value per feature.

    >>> BatchNorm(3)(torch.randn(8, 3)).mean().abs() < 1e-6
    tensor(True)
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__(features, eps=eps, momentum=momentum, affine=affine)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        return self._on_one_rank(input) if ranks() == 1 else self._on_all_ranks(input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"batch norm over {self.num_features} features takes (M, D) or (B, D, ...), found {tuple(input.shape)}")

    def _on_one_rank(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if input.numel() == self.num_features:
            raise ValueError("batch norm in training mode needs more than one row, and the batch has one; make the batch larger")
        return super().forward(input)

    def _on_all_ranks(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        over = [0, *range(2, x.ndim)]
        shape = (1, -1, *[1] * (x.ndim - 2))
        local = x.numel() // self.num_features
        sums = sum_over_ranks(torch.cat([x.sum(over), x.new_full((1,), local)]))
        count = sums[-1].detach()  # stays on its device: reading it here would make every layer wait for the ranks
        mean = sums[:-1] / count
        centred = x - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(over)) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        normed = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        self.num_batches_tracked.add_(1)
