"""TS2Vec's loss: a step finds itself in the other crop, among other steps and among other samples, at every scale of time.

Yue, Wang, Duan, Yang, Huang, Tong, Xu. TS2Vec: Towards Universal Representation of Time Series. AAAI 2022, arXiv 2106.10466.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from anyview.distributed import gather_rows
from anyview.objectives.contrast import BLOCK, cross_entropy
from anyview.objectives.gram import full
from anyview.objectives.objective import Losses, Needs, Objective, Step


def hierarchical_contrast_loss(a: Tensor, b: Tensor, instance: float = 0.5) -> Tensor:
    """Instance and temporal contrast, weighted instance : 1 - instance, a mean over scales of time.

    a, b: (B, T, D), the same steps of the same samples in two crops. Scales: all steps, then the larger of two neighbours, and so on until
    one step is left; an odd last step is left out of the next scale. The last scale has no temporal contrast, and a single sample no
    instance contrast. Raises ValueError for tensors without a step.

    >>> a = torch.zeros(4, 1, 8)
    >>> round(float(hierarchical_contrast_loss(a, a).exp() ** 2), 3)  # half of log(2 B - 1)
    7.0
    """
    if a.shape[1] < 1:
        raise ValueError(f"hierarchical contrast needs a step that both crops show, found {tuple(a.shape)}; let crops overlap")
    a, b = full(a), full(b)
    terms = []
    while True:
        terms.append(instance * instance_contrast_loss(a, b) + (1 - instance) * temporal_contrast_loss(a, b))
        if a.shape[1] == 1:
            return torch.stack(terms).mean()
        a, b = (max_pool1d(each.mT, 2).mT for each in (a, b))


def instance_contrast_loss(a: Tensor, b: Tensor) -> Tensor:
    """At each step a sample finds itself in the other crop among the 2 B - 1 other rows of that step; a mean; 0 for one sample.

    a, b: (B, T, D). Logits are products of rows, neither scaled nor divided.

    >>> round(float(instance_contrast_loss(torch.zeros(4, 6, 8), torch.zeros(4, 6, 8)).exp()), 3)
    7.0
    """
    return 0.0 * (a.sum() + b.sum()) if len(a) < 2 else _contrast(a.transpose(0, 1), b.transpose(0, 1))


def temporal_contrast_loss(a: Tensor, b: Tensor) -> Tensor:
    """In each sample a step finds itself in the other crop among the 2 T - 1 other steps; a mean; 0 for one step.

    a, b: (B, T, D). Logits are products of rows, neither scaled nor divided.

    >>> round(float(temporal_contrast_loss(torch.zeros(4, 6, 8), torch.zeros(4, 6, 8)).exp()), 3)
    11.0
    """
    return 0.0 * (a.sum() + b.sum()) if a.shape[1] < 2 else _contrast(a, b)


def _contrast(a: Tensor, b: Tensor) -> Tensor:
    """Cross-entropy of finding row i of one among all others of both, in each of G groups of N rows, (G, N, D); a mean."""
    groups, number, _ = a.shape
    rows = torch.cat([a, b], 1)
    if 4 * groups * number**2 > BLOCK:  # long series: one matrix at a time
        return torch.stack([cross_entropy(each, each, targets=[number, -number], apart=[0]).mean() for each in rows]).mean()
    logits = rows @ rows.mT
    positives = (a * b).sum(2)
    itself = torch.eye(2 * number, dtype=torch.bool, device=a.device)
    return logits.masked_fill(itself, -torch.inf).logsumexp(2).mean() - positives.mean()


class HierarchicalContrast(Objective):
    """Objective over the tokens of two overlapping crops; owns no weights.

    Which tokens are the same step of the sample is told by the relation from the first view to the second (`Relation.matches`, the same
    number of pairs in every sample). instance: weight of the instance contrast, 1 - instance that of the temporal one.
    """

    needs = Needs(views=2, relations=True, tokens=True, couples_rows=True)
    tags = ("contrastive",)

    def __init__(self, dim: int, *, instance: float = 0.5) -> None:
        super().__init__()
        self.instance = instance

    def forward(self, step: Step) -> Losses:
        matches = step.relations[0].matches
        assert matches is not None, "the relation between two crops holds the steps that they share"
        a, b = (self._shared(step, number, matches[..., number]) for number in range(2))
        return Losses(hierarchical_contrast=hierarchical_contrast_loss(a, b, self.instance))

    def _shared(self, step: Step, view: int, places: Tensor) -> Tensor:
        """The tokens of a view at places (B, K), of all ranks."""
        tokens = step.encode(step.seen_whole[view]).tokens
        assert tokens is not None
        return gather_rows(tokens.take_along_dim(places[..., None], 1))
