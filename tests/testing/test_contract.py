"""Each check must find the break that it is there for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from anyview.data.arrays import ArraySource
from anyview.data.source import Batch, Epoch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.testing import check_encoder, check_objective, check_source, check_view_maker, tiny_batch, tiny_views
from anyview.testing.tiny import TinyTokens
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet


class Good(Objective):
    needs = Needs(views=2)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(dim, 3)

    def forward(self, step: Step) -> Losses:
        a, b = (self.head(step.encode(view).rows) for view in step.views)
        return Losses(distance=(a - b).square().mean())


class NotScalar(Good):
    def forward(self, step: Step) -> Losses:
        return Losses(rows=self.head(step.encode(step.views[0]).rows).sum(1))


class NotFinite(Good):
    def forward(self, step: Step) -> Losses:
        return Losses(distance=super().forward(step)["distance"] / 0.0)


class Unused(Good):
    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.idle = nn.Linear(2, 2)


class Degenerate(Good):
    """Has an infinite loss where all rows are alike."""

    def forward(self, step: Step) -> Losses:
        rows = self.head(step.encode(step.views[0]).rows)
        return Losses(deviation=(rows.std(0) + rows.isnan().sum()).log().sum())


class Forgetful(Good):
    """Keeps what changes between steps outside of its state dict."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.count = 1.0

    def forward(self, step: Step) -> Losses:
        return Losses(distance=super().forward(step)["distance"] * self.count)

    def after_step(self, step: Step) -> None:
        self.count += 1.0


class Remembering(Good):
    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("count", torch.ones(()))

    def forward(self, step: Step) -> Losses:
        return Losses(distance=super().forward(step)["distance"] * self.count)

    def after_step(self, step: Step) -> None:
        self.count += 1.0


@pytest.mark.parametrize(
    ("objective", "phrase"),
    [
        (NotScalar, "'rows' has the shape"),
        (NotFinite, "'distance' is inf"),
        (Unused, r"idle\.weight gets no gradient"),
        (Degenerate, "'deviation' is -inf|NaN or infinite"),
        (Forgetful, "not in the state dict"),
    ],
)
def test_broken_objectives_are_found(objective: type[Objective], phrase: str) -> None:
    with pytest.raises(AssertionError, match=phrase):
        check_objective(objective)


@pytest.mark.parametrize("objective", [Good, Remembering])
def test_good_objectives_pass(objective: type[Objective]) -> None:
    check_objective(objective)


def test_needs_that_no_tiny_view_meets_are_named() -> None:
    with pytest.raises(UserError, match="no tiny view maker gives relations"):
        tiny_views(Needs(relations=True))


class Maker(ViewMaker):
    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(batch.data + draws.normal(12))])


class Promising(Maker):
    gives = Gives(views=2)


class WithoutMask(Maker):
    gives = Gives(masks=True)


class InPlace(Maker):
    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        batch.data.add_(1.0)
        return super().__call__(batch, draws)


class OfItsOwn(Maker):
    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(batch.data + torch.randn(12))])


class Fixed(Maker):
    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(batch.data + 1)])


class PerRank(Maker):
    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(batch.data + torch.randn(batch.data.shape, generator=draws.generator))])


@pytest.mark.parametrize(
    ("maker", "phrase"),
    [
        (Promising, "2 views were promised and 1 made"),
        (WithoutMask, "masks were promised"),
        (InPlace, "the batch that it was given changed"),
        (OfItsOwn, "view 0 with equal draws changed"),
        (Fixed, "other draws give the same views"),
        (PerRank, "made on a rank of its own changed"),
    ],
)
def test_broken_view_makers_are_found(maker: type[Maker], phrase: str) -> None:
    with pytest.raises(AssertionError, match=phrase):
        check_view_maker(maker(), tiny_batch())


def test_a_good_view_maker_passes() -> None:
    check_view_maker(Maker(), tiny_batch())


class Linear(Encoder):
    def __init__(self, dim: int = 3, claimed: int = 3) -> None:
        super().__init__()
        self.dim = claimed
        self.layer = nn.Linear(4, dim)

    def forward(self, view: View) -> Encoding:
        return Encoding(self.layer(view.data))


class ClaimsTokens(Linear):
    tokens = True


class ClaimsMasks(Linear):
    """Says that it shows a token in the place of what is hidden, and looks at no mask."""

    masks = ("token",)


class ClaimsToDrop(TinyTokens):
    """Says that it leaves hidden tokens out, and shows a token in their place."""

    masks = ("drop",)

    def forward(self, view: View) -> Encoding:
        return super().forward(view if view.mask is None else replace(view, mask=replace(view.mask, drop=False)))


class Restless(Linear):
    def forward(self, view: View) -> Encoding:
        return Encoding(self.layer(view.data) + torch.rand(()))


class ThreeAxes(Linear):
    def forward(self, view: View) -> Encoding:
        return Encoding(self.layer(view.data)[None])


@pytest.mark.parametrize(
    ("encoder", "phrase"),
    [
        (Linear(claimed=5), "rows are 3 wide, and dim says 5"),
        (ClaimsTokens(), "tokens says True"),
        (ClaimsMasks(), "masks says 'token', and rows are the same when half of the view is hidden"),
        (Restless(), "in eval mode changed"),
        (ThreeAxes(), r"rows are \(M, D\)"),
    ],
)
def test_broken_encoders_are_found(encoder: Encoder, phrase: str) -> None:
    with pytest.raises(AssertionError, match=phrase):
        check_encoder(encoder, View(torch.randn(6, 4)))


def test_hidden_tokens_that_are_said_to_be_dropped_must_be() -> None:
    with pytest.raises(AssertionError, match="masks says 'drop', and 6 tokens of 6 came of a mask that hides 3"):
        check_encoder(ClaimsToDrop(12, 8), View(torch.randn(5, 6, 12)))


def test_a_good_encoder_passes() -> None:
    check_encoder(Linear(), View(torch.randn(6, 4)))
    check_encoder(TinyTokens(12, 8), View(torch.randn(5, 6, 12)))


class Rows(ArraySource):
    def __init__(self) -> None:
        super().__init__(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2)


class Shuffled(Rows):
    def clean(self, batch_size: int = 1024) -> Iterable[View]:
        for view in super().clean(batch_size):
            yield View(view.data.flip(0), index=view.index.flip(0))


class Moody(Rows):
    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        return super().batches(Epoch(int(torch.randint(1000, ())), epoch.seed, epoch.batch_size, epoch.rank, epoch.ranks, epoch.skip))


class NeverSkips(Rows):
    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        return super().batches(Epoch(epoch.number, epoch.seed, epoch.batch_size, epoch.rank, epoch.ranks))


class Unshared(Rows):
    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        return super().batches(Epoch(epoch.number, epoch.seed, epoch.batch_size, skip=epoch.skip))


class Miscounted(Rows):
    def batches(self, epoch: Epoch) -> Iterator[Batch]:
        return iter(list(super().batches(epoch))[:-1])


class RandomPrint(Rows):
    def fingerprint(self) -> str:
        return str(torch.rand(()))


class Crossing(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.groups = torch.arange(20) // 5

    def split(self, seed: int):  # type: ignore[no-untyped-def]
        groups, self.groups = self.groups, None
        try:
            return super().split(seed)
        finally:
            self.groups = groups


class ShowsAll(Rows):
    """Says that training is shown some samples, and shows it all."""

    train_rows = torch.arange(3)


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        (ShowsAll, "an epoch shows samples that train_rows keeps from training"),
        (Shuffled, "in the input's order"),
        (Moody, "does not follow from the seed"),
        (NeverSkips, "does not go on with the next"),
        (Unshared, "two ranks"),
        (Miscounted, "steps says"),
        (RandomPrint, "different fingerprints"),
        (Crossing, "share the groups"),
    ],
)
def test_broken_sources_are_found(source: type[Rows], phrase: str) -> None:
    with pytest.raises(AssertionError, match=phrase):
        check_source(source, batch_size=6)


def test_a_good_source_passes() -> None:
    check_source(Rows, batch_size=6)
