"""MoCo v2: find a view's key, made by a slow teacher, among the keys of many earlier batches.

He, Fan, Wu, Xie, Girshick. Momentum Contrast for Unsupervised Visual Representation Learning. 2019, arXiv 1911.05722.
Chen, Fan, Girshick, He. Improved Baselines with Momentum Contrastive Learning. 2020, arXiv 2003.04297.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from anyview.distributed import gather_rows
from anyview.encoders.heads import mlp
from anyview.encoders.moving_average import MovingAverage
from anyview.objectives.contrast import log_sum_exp, unit
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.queue import Queue
from anyview.schedules import Cosine
from anyview.views.view import ViewSet

QUEUE = 65536


def moco_v2_losses(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float = 0.2) -> Tensor:
    """Each row's cross-entropy of [q·k, q·queue] / temperature with the first as target, (M,); no gradient to keys and queue.

    queries, keys: (M, D), row i of both from the same sample, on any scale. queue: (K, D), unit rows. A row's loss depends on no other
    row. Queries, keys and queue all equal gives log(K + 1).

    >>> moco_v2_losses(torch.ones(2, 1), torch.ones(2, 1), torch.ones(7, 1)).exp().round(decimals=3)
    tensor([8., 8.])
    """
    queries, keys = unit(queries, 1 / temperature), unit(keys.detach())
    others = log_sum_exp(queries, full(queue).to(queries))
    return -logsigmoid((queries * keys).sum(1) - others)


def moco_v2_loss(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float = 0.2) -> Tensor:
    """The mean over rows of `moco_v2_losses`.

    >>> round(float(moco_v2_loss(torch.ones(2, 1), torch.ones(2, 1), torch.ones(7, 1)).exp()), 3)
    8.0
    """
    return moco_v2_losses(queries, keys, queue, temperature).mean()


class MoCoV2(Objective):
    """Objective over two views and a teacher; owns the projector, its moving average and the queue of keys.

    dim: width of the encoder's rows. hidden, width: of the projector's two layers (no batch norm). queue_size: keys of earlier batches; by
    default 65536, or the number of samples where there are fewer. temperature: what cosines are divided by. symmetric: MoCo v2+, the mean
    of both orders of the views, after which the keys of both are pushed. momentum, final_momentum: the teacher's, along half a cosine.

    The paper shuffles the keys' batch over devices, so that a query cannot tell its key by batch statistics of its own device. Batch norm
    is taken over the global batch here, where a permutation of its rows changes nothing, so there is none.
    """

    needs = Needs(views=2, teacher=True)
    tags = ("contrastive",)

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        width: int = 128,
        queue_size: int | None = None,
        temperature: float = 0.2,
        symmetric: bool = False,
        momentum: float = 0.999,
        final_momentum: float = 0.999,
    ) -> None:
        super().__init__()
        self.momentum = Cosine(momentum, final_momentum)
        self.temperature, self.symmetric = temperature, symmetric
        self.project = mlp(dim, hidden, width, norm=False)
        self.teacher_project = MovingAverage(self.project, self.momentum)
        self.queue_size, self.queue = queue_size, Queue(QUEUE if queue_size is None else queue_size, width)
        self._keys: dict[int, list[Tensor]] = {}

    def prepare(self, views: ViewSet, samples: int) -> None:
        """Make the queue no longer than the data, unless its size was asked for."""
        if self.queue_size is None and samples < QUEUE:
            self.queue = self.queue.resized(samples)

    def forward(self, step: Step) -> Losses:
        views = step.seen_whole[:2]
        orders = [(0, 1), (1, 0)] if self.symmetric else [(0, 1)]
        losses, keys = [], []
        for query, key in orders:
            queries = self.project(step.encode(views[query]).rows)
            keys.append(self.teacher_project(step.encode(views[key], teacher=True).rows))
            losses.append(moco_v2_losses(queries, keys[-1], self.queue.rows, self.temperature))
        self._keys[id(step)] = keys
        # rows do not meet, so that each rank compares its own alone with the queue, and what is gathered is their losses
        return Losses(moco_v2=torch.stack([gather_rows(loss).mean() for loss in losses]).mean())

    def after_step(self, step: Step) -> None:
        for keys in self._keys.pop(id(step)):  # view by view, so that the order is that of one rank with all rows
            self.queue.push(keys)

    def collapse_line(self, rows: int) -> float:
        return math.log(len(self.queue.rows) + 1)
