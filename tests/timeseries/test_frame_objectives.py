"""What stands between the views of a window: the published formula, any objective on every pair, mappers."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from anyview.data.source import Batch
from anyview.encoders.encoder import Streams
from anyview.encoders.mlp import MLP
from anyview.errors import UserError
from anyview.objectives.byol import BYOL
from anyview.objectives.moco_v2 import MoCoV2
from anyview.objectives.objective import Objective, Step
from anyview.objectives.simclr import SimCLR
from anyview.objectives.vicreg import VICReg
from anyview.pretrainer import Pretrainer, StepInput
from anyview.recipe import Stage, Task
from anyview.testing import check_objective, check_rank_exact, tiny_batch
from anyview.testing.exactness import check_stage_rank_exact
from anyview.testing.tiny import sgd, tiny_draws
from anyview.views.draws import Draws
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet
from anyview_timeseries.encoders import ResNet1d
from anyview_timeseries.frame_encoders import frame_encoder
from anyview_timeseries.frames.table import make_frames
from anyview_timeseries.mappers import MappedTime, Mapper
from anyview_timeseries.objectives import EachPair, FrameContrast, ImitateFrames, imitation, pairwise_contrast
from anyview_timeseries.views import Frames

SMALL = partial(FrameContrast, hidden=8, width=8, mapper_width=4, mapper_weight=0.5)
PUBLISHED = partial(FrameContrast, hidden=8, width=8)
LENGTH = 24


def plain_nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """The formula, one row at a time."""
    rows = torch.cat([a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)])
    losses = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        logits = torch.stack([rows[i] @ rows[j] / temperature for j in others])
        losses.append(cross_entropy(logits[None], torch.tensor([others.index((i + len(a)) % len(rows))])))
    return torch.stack(losses).mean()


def test_contrast_is_the_sum_over_pairs_of_the_plain_formula() -> None:
    rows = [torch.randn(7, 5, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    ours = pairwise_contrast(rows, 0.15)
    plain = sum(plain_nt_xent(a, b, 0.15) for a, b in ((rows[0], rows[1]), (rows[0], rows[2]), (rows[1], rows[2])))
    assert torch.allclose(ours, plain, atol=1e-10)
    for mine, theirs in zip(torch.autograd.grad(ours, rows), torch.autograd.grad(plain, rows), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-10)


def test_known_values() -> None:
    alike = [torch.ones(16, 4)] * 3
    assert float(pairwise_contrast(alike)) == pytest.approx(3 * math.log(31), rel=1e-5)
    orthogonal = [torch.eye(6, 8)] * 2
    assert float(pairwise_contrast(orthogonal, 0.15)) == pytest.approx(math.log(1 + 10 * math.exp(-1 / 0.15)), rel=1e-4)
    a, b = torch.randn(5, 4), torch.randn(5, 4)
    assert torch.allclose(pairwise_contrast([a, b]), pairwise_contrast([b, a]))


def test_mappers_have_the_published_sizes() -> None:
    assert sum(p.numel() for p in Mapper(128, 64).parameters()) == 449
    assert sum(p.numel() for p in Mapper(128, 1).parameters()) == 8
    for width in (2, 8, 128):
        assert Mapper(width)(torch.randn(3, width)).shape == (3, width)
    with pytest.raises(UserError, match="they are 7 wide; choose an even dim"):
        Mapper(7)
    with pytest.raises(UserError, match="they are 9 wide"):
        FrameContrast(8, width=9)


@pytest.mark.parametrize("make", [SMALL, PUBLISHED, partial(SMALL, mapper_weight=0.0)])
def test_contract_on_plain_pairs(make: partial) -> None:
    check_objective(make)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_exact_on_ranks(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows)


def windows() -> Batch:
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(11, 2, LENGTH, generator=generator, dtype=torch.float64).to(torch.get_default_dtype())
    return Batch(data, 11, index=torch.arange(11))


def streams() -> Streams:
    torch.manual_seed(3)
    frames = make_frames(["fourier", "morlet", "haar"], {"morlet": {"count": 8}})
    time = partial(ResNet1d, dim=8, width=4, blocks=2, dropout=0.0)
    encoders = {name: frame_encoder(frame, 2, LENGTH, time=time, dim=8, width=2) for name, frame in frames.items()}
    return Streams({"time": time(2), **encoders})


def maker() -> Frames:
    return Frames(make_frames(["fourier", "morlet", "haar"], {"morlet": {"count": 8}}))


def stage(make: partial) -> Stage:
    """All parts of frame projections, small: encoders with batch norm, three frames."""
    encoder = streams()
    torch.manual_seed(4)
    return Stage([Task(maker(), make(8))], encoder, epochs=1, optimizer=sgd)


@pytest.mark.parametrize(
    "make",
    [
        SMALL,
        partial(EachPair, partial(SimCLR, 8, hidden=8, width=8), 4),
        partial(EachPair, partial(BYOL, 8, hidden=8, width=8), 4),
    ],
    ids=["frame contrast", "simclr", "byol"],
)
def test_frame_projections_train_on_two_ranks_as_on_one(make: partial) -> None:
    fixed = make if make.func is FrameContrast else partial(_without_dim, make)
    check_stage_rank_exact(partial(stage, fixed), windows, ranks=2, tolerance=1e-5)


def _without_dim(make: partial, dim: int) -> Objective:
    return make()


def shown(number: int = 0) -> StepInput:
    batch = windows()
    return StepInput(batch, tiny_draws(number, batch.rows), number, 10)


@pytest.mark.parametrize(
    "make",
    [partial(VICReg, 8, width=8), partial(BYOL, 8, hidden=8, width=8), partial(MoCoV2, 8, hidden=8, width=8, queue_size=22)],
    ids=["vicreg", "byol", "moco_v2"],
)
def test_any_objective_stands_between_every_pair(make: partial) -> None:
    each = EachPair(make, 4)
    pretrainer = Pretrainer(Stage([Task(maker(), each)], streams(), epochs=1, optimizer=sgd))
    pretrainer.prepare(shown(), 11)
    pretrainer.start()
    pairs = 12 if each.needs.teacher else 6
    assert len(each.objectives) == pairs
    for number in range(2):
        losses = pretrainer(shown(number))
        losses.total.backward()
        pretrainer.after_step(number + 1, 10)
    for name, parameter in pretrainer.encoder.named_parameters():
        assert parameter.grad is not None, name
    line = each.collapse_line(11)
    single = make().collapse_line(11)
    assert line == (None if single is None else pytest.approx(pairs * single))


def test_each_pair_is_the_sum_of_its_pairs_and_encodes_every_view_once() -> None:
    each, batch = EachPair(partial(SimCLR, 8, hidden=8, width=8), 4), windows()
    encoder = streams().eval()
    step = Step(maker()(batch, tiny_draws(0, 11)), batch, tiny_draws(0, 11), 0, 1, encoder)
    total = each(step)["simclr"]
    assert len(step.memo) == 4
    rows = [encoder(view).rows for view in step.views]
    plain = sum(
        part(Step(ViewSet([step.views[i], step.views[j]]), batch, step.draws, 0, 1, encoder))["simclr"]
        for part, (i, j) in zip(each.objectives, each.pairs, strict=True)
    )
    assert len(rows) == 4
    assert torch.allclose(total, plain)


class Three(ViewMaker):
    """Rows, and two linear images of them."""

    gives = Gives(views=3)

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        return ViewSet([View(factor * batch.data, stream=name, index=batch.index) for name, factor in (("a", 1), ("b", 2), ("c", -1))])


def imitating(index: bool = True) -> tuple[Pretrainer, Streams, dict[str, Mapper]]:
    encoder = Streams({name: MLP(12, hidden=8, dim=8, layers=2) for name in "abc"})
    mappers = {"b": Mapper(8), "c": Mapper(8)}
    pretrainer = Pretrainer(Stage([Task(Three(), ImitateFrames(8, mappers))], encoder, epochs=1, optimizer=sgd, frozen=[encoder]))
    batch = tiny_batch() if index else Batch(tiny_batch().data, 12)
    pretrainer.prepare(StepInput(batch, tiny_draws(0, 12), 0, 10), 12)
    pretrainer.start()
    return pretrainer, encoder, mappers


@pytest.mark.parametrize("index", [True, False])
def test_the_second_stage_trains_mappers_alone(index: bool) -> None:
    pretrainer, encoder, mappers = imitating(index)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in pretrainer.parameters() if p.requires_grad], lr=0.02)
    batch = tiny_batch() if index else Batch(tiny_batch().data, 12)
    totals = []
    for number in range(200):
        losses = pretrainer(StepInput(batch, tiny_draws(number, 12), number, 10))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(float(losses.total.detach()))
    assert totals[-1] < 0.9 * totals[0]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    with torch.no_grad():
        rows = {name: encoder(View(factor * batch.data, stream=name)).rows for name, factor in (("a", 1), ("b", 2), ("c", -1))}
        expected = sum(imitation(mappers[name](rows["a"]), rows[name]) for name in "bc")
    total = pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10)).total.detach()
    assert float(total) == pytest.approx(float(expected), rel=1e-5)


def test_rows_of_frozen_encoders_are_made_once() -> None:
    pretrainer, _, _ = imitating()
    batch = tiny_batch()
    pretrainer(StepInput(batch, tiny_draws(0, 12), 0, 10))
    assert pretrainer.rows is not None
    pretrainer(StepInput(batch, tiny_draws(1, 12), 1, 10))
    assert pretrainer.rows is None


def test_what_remains_runs_the_time_encoder_alone() -> None:
    time = ResNet1d(1, dim=8, width=4, blocks=2)
    encoder = MappedTime(time, {"fourier": Mapper(8), "morlet": Mapper(8)}).eval()
    view = View(torch.randn(3, 1, 20))
    rows, h = encoder(view).rows, time(view).rows
    first, second = encoder.mappers.values()
    assert torch.equal(rows, torch.cat([first(h), h, second(h)], dim=1))
    assert torch.equal(rows[:, encoder.own], h)
    assert MappedTime(time, {"haar": Mapper(8)}).dim == 16
