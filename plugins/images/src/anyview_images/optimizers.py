"""The optimisers that the recipes of this plugin choose from by name."""

from __future__ import annotations

import functools
from typing import Literal

import torch

from anyview.optimizers import LARS
from anyview.recipe import OptimizerMaker

OptimizerName = Literal["sgd", "adamw", "lars"]


def make_optimizer(name: OptimizerName, lr: float, weight_decay: float) -> OptimizerMaker:
    """SGD with momentum 0.9, AdamW or LARS with momentum 0.9, with these settings.

    >>> make_optimizer("adamw", 1e-3, 0.05)([nn.Parameter(torch.zeros(1))]).defaults["weight_decay"]
    0.05
    """
    if name == "lars":
        return functools.partial(LARS, lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return functools.partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=weight_decay)
    return functools.partial(torch.optim.AdamW, lr=lr, weight_decay=weight_decay)
