"""The check must find what public implementations got wrong."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from anyview.distributed import mean_over_ranks
from anyview.objectives.barlow_twins import BarlowTwins, barlow_twins_loss, standardise
from anyview.objectives.objective import Losses, Step
from anyview.testing import check_rank_exact
from anyview.views.draws import Draws
from anyview.views.maker import Transform
from anyview.views.pair import Pair


class Local(BarlowTwins):
    """Takes its statistics over this rank's rows alone."""

    def forward(self, step: Step) -> Losses:
        a, b = (self.project(step.encode(view).rows) for view in step.views)
        return Losses(barlow_twins=barlow_twins_loss(a, b, self.redundancy))


class WithoutGradient(BarlowTwins):
    """Has the right value and a gradient that lacks the other ranks' part."""

    def forward(self, step: Step) -> Losses:
        a, b = (self.project(step.encode(view).rows) for view in step.views)
        local = standardise(a).T @ standardise(b) / len(a)
        correlation = local + (mean_over_ranks(local) - local).detach()
        return Losses(barlow_twins=(correlation - torch.eye(len(local))).square().sum())


class LocalState(BarlowTwins):
    """Is exact but for a buffer that each rank fills from its own rows."""

    def __init__(self, dim: int, *, width: int) -> None:
        super().__init__(dim, width=width)
        self.register_buffer("centre", torch.zeros(dim))

    def after_step(self, step: Step) -> None:
        self.centre.copy_(step.encode(step.views[0]).rows.detach().mean(0))


class LocalNorm(BarlowTwins):
    """Has a head whose batch norm sees this rank's rows alone."""

    def __init__(self, dim: int, *, width: int) -> None:
        super().__init__(dim, width=width)
        self.project = nn.Sequential(nn.Linear(dim, width), nn.BatchNorm1d(width))


def per_rank(data: Tensor, draws: Draws) -> Tensor:
    return data + 0.1 * torch.randn(data.shape, generator=draws.generator)


def pair_of(transform: Transform) -> Pair:
    return Pair(transform)


@pytest.mark.parametrize(
    ("objective", "what"),
    [(Local, "loss, step 0"), (WithoutGradient, "loss, step 0|gradient, step 0"), (LocalState, "state after"), (LocalNorm, "loss, step 0")],
)
def test_what_is_not_exact_is_found(objective: type[BarlowTwins], what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        check_rank_exact(partial(objective, width=8), tolerance=1e-5)


def test_views_drawn_per_rank_are_found() -> None:
    with pytest.raises(AssertionError, match="loss, step 0"):
        check_rank_exact(partial(BarlowTwins, width=8), make_views=partial(pair_of, per_rank))


def test_what_is_exact_passes() -> None:
    check_rank_exact(partial(BarlowTwins, width=8))
