"""Sinkhorn assignment: soft labels that use every prototype equally.

Cuturi. Sinkhorn Distances: Lightspeed Computation of Optimal Transport. 2013, arXiv 1306.0895. As used for assignments by Caron, Misra,
Mairal, Goyal, Bojanowski, Joulin. Unsupervised Learning of Visual Features by Contrasting Cluster Assignments. 2020, arXiv 2006.09882.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyview.objectives.gram import full, full_products


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Distributions over prototypes, (M, K), whose rows sum to 1 and whose columns, as iterations go on, to M/K each; without gradient.

    scores: (M, K), of all rows that share the prototypes evenly: the rows of all ranks and of a queue, one view at a time. epsilon: how
    soft the assignments are; scores that are log-probabilities take 1. iterations: of "each prototype the same mass, then each row".
    Equal rows give 1/K everywhere.

    Each score is taken relative to the largest of its column and row, so no row or column underflows to a mass of 0; what underflows has a
    share below rounding. Where so many iterations are asked for that it could grow back, all of them are taken on logarithms, at several
    times the cost. Raises ValueError for less than one iteration.

    >>> sinkhorn(torch.tensor([[0.9, 0.8], [0.9, 0.1]]), iterations=50).round(decimals=1)
    tensor([[0., 1.],
            [1., 0.]])
    """
    if iterations < 1:
        raise ValueError(f"assignments need at least one iteration to sum to 1, and {iterations} were asked for")
    logs = full(scores) / epsilon
    info = torch.finfo(logs.dtype)
    if iterations * math.log(max(1, logs.numel())) > math.log(info.eps) - math.log(info.tiny):
        return _on_logarithms(logs, iterations)
    logs -= logs.amax(0)
    highest = logs.amax(1)
    shares = logs.sub_(highest[:, None]).exp_()
    rows = highest.exp_()
    with full_products(logs.device):
        for _ in range(iterations - 1):
            columns = (shares.T @ rows).reciprocal_()
            rows = (shares @ columns).reciprocal_()
        masses = shares.T @ rows
        columns = masses.amin() / masses  # the largest is 1, so that equal shares are 1/K without rounding
        rows = (shares @ columns).reciprocal_()
    return shares.mul_(columns).mul_(rows[:, None])


def _on_logarithms(logs: Tensor, iterations: int) -> Tensor:
    """The same, where no share is ever too small to grow back; an iteration multiplies one by M·K at most."""
    for _ in range(iterations - 1):
        logs = logs.log_softmax(0).log_softmax(1)
    return logs.log_softmax(0).softmax(1)
