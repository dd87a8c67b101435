"""Two views of a knowledge graph and a log, which an epoch has in common: triples and interactions that are drawn at its start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from anyview_recommenders.graph_convolution import Adjacency, check_rate, keep_interactions


class KnowledgeViews(nn.Module):
    """Views that lose a random share of the triples each, and keep each interaction by a chance of its own.

    interactions: n. rate: the share of the triples. chance: of every interaction, until `stays` (n,) is told others. What is drawn follows
    from a seed, so that it is the same after a stop. Raises UserError for a rate outside [0, 1).

    >>> views = KnowledgeViews(interactions=5, rate=0.5)
    >>> first, second = views.halves(1000)
    >>> bool(450 < first.sum() < 550), bool((first == second).all())
    (True, False)
    """

    seed: Tensor
    stays: Tensor

    def __init__(self, interactions: int, rate: float, chance: float = 1.0) -> None:
        super().__init__()
        self.rate = check_rate("rate", rate)
        self.register_buffer("seed", torch.zeros((), dtype=torch.long))
        self.register_buffer("stays", torch.full((interactions,), chance))
        self.drawn: list[dict[str, Any]] = []

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.drawn = []  # those of the seed that was there before

    def renew(self) -> None:
        """Draw anew; to be called before an epoch."""
        self.seed.fill_(torch.randint(2**62, ()).item())
        self.drawn = []

    def halves(self, triples: int) -> list[Tensor]:
        """Which of K triples each view shows, (K,) bool."""
        generator = torch.Generator(self.seed.device).manual_seed(int(self.seed))
        return [torch.rand(triples, generator=generator, device=generator.device) >= self.rate for _ in range(2)]

    def forward(self, triples: int, adjacency: Adjacency) -> list[dict[str, Any]]:
        """What the data of both views has: "triples" (K,) bool of those that are shown, an "adjacency" of the interactions that stay."""
        if not self.drawn:
            generator = torch.Generator(self.seed.device).manual_seed(int(self.seed) + 1)
            numbers = [torch.rand(adjacency.size, generator=generator, device=generator.device) for _ in range(2)]
            graphs = [keep_interactions(adjacency, own < self.stays) for own in numbers]
            self.drawn = [{"triples": shown, "adjacency": graph} for shown, graph in zip(self.halves(triples), graphs, strict=True)]
        return self.drawn


def from_least_to_largest(values: Tensor) -> Tensor:
    """Values (M,) moved and scaled so that the least is 0 and the largest 1; where all are equal they are 0.

    >>> from_least_to_largest(torch.tensor([2.0, 4.0, 3.0])).tolist()
    [0.0, 1.0, 0.5]
    """
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-8)
