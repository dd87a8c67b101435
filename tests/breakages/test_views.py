"""Places where simple designs break, by number: what is shown and encoded (1, 2, 3, 5, 6, 13)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder, Encoding, Streams, Wrapped
from anyview.objectives.byol import byol_loss
from anyview.objectives.objective import Losses, Needs, Objective, Step
from anyview.objectives.vicreg import VICReg
from anyview.pretrainer import Pretrainer, StepInput
from anyview.testing import tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.mask import MaskRows, MaskTokens
from anyview.views.mix import mix, partners
from anyview.views.view import View, ViewSet
from tests.breakages.parts import LinearRows, Rebuild, train

# 1: one graph is the whole batch


def test_01_one_object_as_every_batch_is_seen_anew_each_step() -> None:
    """The loader gives the same rows in each step; masks are of rows, are drawn again, and no encoding is kept from the step before."""
    stage = tiny_stage(Rebuild, partial(MaskRows, 0.5))
    pretrainer = Pretrainer(stage).train()
    batch = tiny_batch()
    before = batch.data.clone()
    totals = train(pretrainer, stage, batch, 4)
    hidden = torch.stack(stage.tasks[0].objective.hidden)
    assert hidden.sum(1).tolist() == [6, 6, 6, 6]
    assert len(hidden.unique(dim=0)) > 1
    assert len(set(totals)) == 4
    assert torch.equal(batch.data, before)


# 2: masked reconstruction after tokens were dropped or replaced


def test_02_rebuilding_works_whether_hidden_tokens_are_dropped_or_replaced() -> None:
    view = MaskTokens(0.5)(tiny_batch(tokens=True), tiny_draws(0, 12)).views[0]
    mask, width = view.mask, view.target.shape[2]
    dropped = view.target.take_along_dim(mask.kept[..., None], 1)
    assert dropped.shape == (12, 3, width)
    token = torch.full((1, 1, width), 9.0)
    padded = torch.cat([dropped, token.expand(12, 3, width)], 1)
    rebuilt = padded.take_along_dim(mask.restore[..., None], 1)
    replaced = torch.where(mask.replaced[..., None], token, view.target)
    assert torch.equal(rebuilt, replaced)
    assert torch.equal(rebuilt[~mask.hidden], view.target[~mask.hidden])


# 3: views of different shape


class TwoStreams(ViewMaker):
    gives = Gives(views=2)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(batch.data, stream="time"), View(torch.fft.rfft(batch.data).abs(), stream="fourier")])


def two_encoders() -> Streams:
    return Streams({"time": Wrapped(nn.Linear(12, 8), 8), "fourier": Wrapped(nn.Linear(7, 8), 8)})


def test_03_views_of_different_shape_have_an_encoder_each() -> None:
    stage = tiny_stage(partial(VICReg, width=8), TwoStreams, two_encoders)
    train(Pretrainer(stage).train(), stage, tiny_batch(), 1)
    assert all(parameter.grad is not None for parameter in stage.encoder.parameters())


# 5: encodings that are more than a vector


@dataclass(slots=True)
class Capsules(Encoding):
    poses: Tensor | None = None


class CapsuleEncoder(Encoder):
    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.activation, self.pose = nn.Linear(12, 4), nn.Linear(12, 4 * 9)

    def forward(self, view: View) -> Capsules:
        return Capsules(self.activation(view.data).softmax(1), poses=self.pose(view.data).view(-1, 4, 3, 3))


class Poses(Objective):
    needs = Needs(views=2)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        a, b = (step.encode(view) for view in step.views)
        return Losses(activation=byol_loss(a.rows, b.rows), pose=(a.poses - b.poses).square().mean())


def test_05_an_encoder_s_own_fields_reach_the_objective() -> None:
    stage = tiny_stage(Poses, make_encoder=CapsuleEncoder)
    train(Pretrainer(stage).train(), stage, tiny_batch(), 1)
    assert float(stage.encoder.pose.weight.grad.abs().max()) > 0
    assert torch.allclose(stage.encoder(View(tiny_batch().data)).rows.sum(1), torch.ones(12))


# 6: sequences of views


class Walk(Objective):
    """Encode all T views of a walk in one pass, regroup, predict the last from the others and the actions between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.act, self.predict = nn.Linear(2, dim), nn.Linear(dim, dim)
        self.seen: list[Tensor] = []

    def forward(self, step: Step) -> Losses:
        walk = step.views[0]
        samples, length = walk.data.shape[:2]
        flat = step.encode(View(walk.data.flatten(0, 1), stream=walk.stream))
        rows = flat.rows.unflatten(0, (samples, length))
        self.seen.append(rows)
        actions = walk.params["actions"].unflatten(1, (length, 2)).clone()
        actions[:, -1] = 0
        context = (rows + self.act(actions))[:, :-1].mean(1)
        return Losses(distance=byol_loss(self.predict(context), rows[:, -1]))


class Walks(ViewMaker):
    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        walk = batch.data[:, None] + draws.normal(self.length, 12)
        return ViewSet([View(walk, params={"actions": draws.normal(2 * self.length)})])


@pytest.mark.parametrize("length", [2, 5])
def test_06_sequences_are_encoded_flat_and_regrouped(length: int) -> None:
    stage = tiny_stage(Walk, partial(Walks, length), partial(LinearRows, 12))
    totals = train(Pretrainer(stage).train(), stage, tiny_batch(), 1)
    stage = tiny_stage(Walk, partial(Walks, length), partial(LinearRows, 12))
    walk = Walks(length)(tiny_batch(), tiny_draws(0, 12)).views[0].data
    one_by_one = torch.stack([stage.encoder(View(walk[:, position])).rows for position in range(length)], 1)
    objective = stage.tasks[0].objective
    Pretrainer(stage).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1))
    torch.testing.assert_close(objective.seen[0], one_by_one)
    assert totals[0] > 0


# 13: objectives that encode views of their own making


class Mixing(Objective):
    needs = Needs(views=1, couples_rows=True)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, step: Step) -> Losses:
        view = step.views[0]
        partner = partners(step.draws)
        mixed = View(mix(view.data, view.data[partner], 0.25), stream=view.stream)
        rows, between = step.encode(view).rows, step.encode(mixed).rows
        return Losses(line=(between - mix(rows, rows[partner], 0.25)).square().mean(), scale=(rows.norm(dim=1) - 1).square().mean())


def test_13_objectives_encode_what_they_mix() -> None:
    stage = tiny_stage(Mixing, make_encoder=partial(LinearRows, 12))
    losses = Pretrainer(stage).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1))
    assert float(losses["line"].detach()) < 1e-10  # a linear encoder keeps straight lines
    curved = tiny_stage(Mixing)
    losses = Pretrainer(curved).train()(StepInput(tiny_batch(), tiny_draws(0, 12), 0, 1))
    assert float(losses["line"].detach()) > 1e-4
    losses["line"].backward()
    assert float(curved.encoder.last.weight.grad.abs().max()) > 0
