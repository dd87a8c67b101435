from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.objectives import gram
from anyview.objectives.barlow_twins import barlow_twins_loss
from anyview.objectives.mixed_barlow_twins import MixedBarlowTwins, mixed_barlow_twins_terms
from anyview.objectives.objective import Step
from anyview.pretrainer import Pretrainer, StepInput
from anyview.testing import check_objective, check_rank_exact, tiny_batch, tiny_stage
from anyview.testing.tiny import tiny_draws
from anyview.views.draws import Draws
from anyview.views.mix import beta, partners
from anyview.views.view import Mask, View, ViewSet

SMALL = partial(MixedBarlowTwins, hidden=16, width=16)
SHAPES = [(6, 10), (8, 8), (21, 5)]


def paper(a: Tensor, b: Tensor, mixed: Tensor, partner: Tensor, weight: float, redundancy: float) -> tuple[Tensor, Tensor]:
    """Both terms with every correlation matrix and every target built."""
    a, b, mixed = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (a, b, mixed))
    rows, width = a.shape
    eye = torch.eye(width, dtype=torch.bool)
    correlation = a.T @ b / rows
    barlow = (correlation[eye] - 1).square().sum() + redundancy * correlation[~eye].square().sum()
    error = torch.zeros((), dtype=a.dtype)
    for view in (a, b):
        target = weight * a.T @ view / rows + (1 - weight) * b[partner].T @ view / rows
        error = error + (mixed.T @ view / rows - target).square().sum()
    return barlow, redundancy * error


def rows(shape: tuple[int, int], case: str = "random") -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    views = [torch.randn(*shape, generator=random, dtype=torch.float64) for _ in range(3)]
    for view in views:
        if case == "duplicates":
            view[1] = view[0]
        if case == "constant column":
            view[:, 1] = 2.0
        view.requires_grad_()
    return views


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", ["random", "duplicates", "constant column"])
def test_is_the_paper_s_formula(shape: tuple[int, int], case: str) -> None:
    a, b, mixed = rows(shape, case)
    partner = torch.randperm(shape[0])
    found = mixed_barlow_twins_terms(a, b, mixed, partner, 0.3, 0.01)
    for ours, theirs in zip(found.values(), paper(a, b, mixed, partner, 0.3, 0.01), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0)
        gradients = (torch.autograd.grad(loss, (a, b, mixed), retain_graph=True, materialize_grads=True) for loss in (ours, theirs))
        for own, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_gradcheck(shape: tuple[int, int]) -> None:
    partner = torch.randperm(shape[0])
    assert torch.autograd.gradcheck(lambda a, b, m: tuple(mixed_barlow_twins_terms(a, b, m, partner, 0.3).values()), rows(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_encoding_mixtures_as_mixtures_has_no_error(shape: tuple[int, int], weight: float) -> None:
    """The mixture is a (weight 1), b of the partner (0), or of a sample with itself in two equal views: its columns stay standardised."""
    a, b = (view.detach() for view in rows(shape)[:2])
    partner = torch.randperm(len(a))
    if weight not in (0.0, 1.0):
        b, partner = a, torch.arange(len(a))
    terms = mixed_barlow_twins_terms(a, b, weight * a + (1 - weight) * b[partner], partner, weight)
    assert float(terms["mixing"]) < 1e-25
    other = mixed_barlow_twins_terms(a, b, rows(shape)[2], partner, weight)
    assert float(other["mixing"].detach()) > 1e-3


def test_barlow_twins_is_what_is_left_without_mixing() -> None:
    a, b, mixed = rows((12, 7))
    found = mixed_barlow_twins_terms(a, b, mixed, torch.randperm(12), 0.4, 0.02)["barlow_twins"]
    torch.testing.assert_close(found, barlow_twins_loss(a, b, 0.02), rtol=1e-12, atol=0)


def test_gradients_flow_through_the_targets() -> None:
    a, b, mixed = rows((6, 4))
    term = mixed_barlow_twins_terms(a, b, mixed, torch.randperm(6), 0.4)["mixing"]
    assert all(float(gradient.abs().max()) > 0 for gradient in torch.autograd.grad(term, (a, b, mixed)))


def test_three_gram_matrices_serve_both_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    make = gram._Gram.apply
    monkeypatch.setattr(gram._Gram, "apply", lambda a: made.append(a) or make(a))
    a, b, mixed = rows((5, 40))
    mixed_barlow_twins_terms(a, b, mixed, torch.randperm(5), 0.4)
    assert [each.shape for each in made] == [(5, 40)] * 3


def test_no_matrix_of_features_is_made() -> None:
    a, b, mixed = (torch.randn(4, 100_000, requires_grad=True) for _ in range(3))
    sum(mixed_barlow_twins_terms(a, b, mixed, torch.randperm(4), 0.4).values()).backward()
    assert bool(mixed.grad.isfinite().all())


def test_is_taken_in_full_precision_under_autocast() -> None:
    views = [view.detach().float() for view in rows((20, 30))]
    partner = torch.randperm(20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mixed_barlow_twins_terms(*views, partner, 0.4)
        low = mixed_barlow_twins_terms(*(view.bfloat16() for view in views), partner, 0.4)
    assert {term.dtype for term in low.values()} == {torch.float32}
    assert inside == mixed_barlow_twins_terms(*views, partner, 0.4)


def test_all_rows_equal_gives_the_width() -> None:
    terms = mixed_barlow_twins_terms(torch.ones(8, 5), torch.ones(8, 5), torch.ones(8, 5), torch.randperm(8), 0.4)
    assert float(sum(terms.values())) == 5.0
    assert SMALL(4).collapse_line(8) == 16.0


class Seeing(Encoder):
    """Returns the data as rows and remembers what it was shown."""

    dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, view: View) -> Encoding:
        self.seen.append(view.data)
        return Encoding(view.data)


def make_step(views: list[View], number: int = 0, epochs: int = 1) -> Step:
    return Step(ViewSet(views), None, Draws.seeded(0, total=8), number, 100, Seeing(), epochs=epochs)


@pytest.mark.parametrize("block", [None, 4])
def test_the_third_view_is_the_mixture(block: int | None) -> None:
    a, b = torch.randn(2, 8, 12).unbind()
    step = make_step([View(a), View(b)])
    SMALL(12, block=block)(step)
    draws = Draws.seeded(0, total=8)
    weight, partner = beta(draws, 1.0, shared=True)[0], partners(draws, block)
    assert len(step.encoder.seen) == 3
    torch.testing.assert_close(step.encoder.seen[2], weight * a + (1 - weight) * b[partner])
    if block is not None:
        assert torch.equal(partner // block, torch.arange(8) // block)


@pytest.mark.parametrize(("number", "share"), [(0, 0.0), (25, 0.5), (50, 1.0), (90, 1.0)])
def test_the_mixing_weight_may_rise_over_epochs(number: int, share: float) -> None:
    views = [View(torch.randn(8, 12)), View(torch.randn(8, 12))]
    torch.manual_seed(0)
    ramped, constant = SMALL(12, warmup_epochs=5.0), SMALL(12)
    constant.load_state_dict(ramped.state_dict())
    losses = [objective(make_step(views, number, epochs=10)) for objective in (ramped, constant)]
    torch.testing.assert_close(losses[0]["mixing"], share * losses[1]["mixing"])
    assert torch.equal(losses[0]["barlow_twins"], losses[1]["barlow_twins"])


def test_unit_rows_do_not_depend_on_their_scale() -> None:
    views = [View(torch.randn(8, 12)), View(torch.randn(8, 12))]
    objective = SMALL(12)
    before = objective(make_step(views))
    with torch.no_grad():
        objective.project[-1].weight.mul_(3.0)
        objective.project[-1].bias.mul_(3.0)
    for name, term in objective(make_step(views)).items():
        torch.testing.assert_close(term, before[name])


class Graph:
    pass


NOT_MIXABLE = {
    "graphs": ([View(Graph()), View(Graph())], "Graph and Graph"),
    "numbers of tokens": ([View(torch.ones(8, 3).long()), View(torch.ones(8, 3).long())], r"int64 of shape \(8, 3\)"),
    "other shapes": ([View(torch.ones(8, 3)), View(torch.ones(8, 4))], r"\(8, 3\).*\(8, 4\)"),
    "other streams": ([View(torch.ones(8, 3)), View(torch.ones(8, 3), stream="time")], "'time'"),
    "masked": ([View(torch.ones(8, 3), mask=Mask(torch.ones(8, 3).bool())), View(torch.ones(8, 3))], "masked float32"),
}


@pytest.mark.parametrize("case", NOT_MIXABLE)
def test_views_that_cannot_be_interpolated_are_refused(case: str) -> None:
    views, found = NOT_MIXABLE[case]
    with pytest.raises(UserError, match=f"interpolates the samples of two views.*{found}.*choose such views"):
        SMALL(12)(make_step(views))


class Halving(Seeing):
    def forward(self, view: View) -> Encoding:
        return Encoding(view.data[::2])


def test_samples_and_rows_are_one_to_one() -> None:
    step = make_step([View(torch.randn(8, 12)), View(torch.randn(8, 12))])
    step.encoder = Halving()
    with pytest.raises(UserError, match="gave 4 rows for 8 samples"):
        SMALL(12)(step)


def test_each_step_mixes_anew() -> None:
    stage = tiny_stage(SMALL)
    pretrainer = Pretrainer(stage).train()
    batch = Batch(tiny_batch().data, 12)
    terms = {float(pretrainer(StepInput(batch, tiny_draws(step, 12), step, 4))["mixing"].detach()) for step in range(4)}
    assert len(terms) == 4


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)


@pytest.mark.parametrize("options", [{"width": 4}, {"width": 24}, {"width": 16, "unit": False, "mixing": 2.0, "warmup_epochs": 0.5}])
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(options: dict[str, float], ranks: int, rows: int) -> None:
    check_rank_exact(partial(MixedBarlowTwins, hidden=16, **options), ranks=ranks, rows=rows)


def test_ranks_are_exact_in_blocks() -> None:
    check_rank_exact(partial(SMALL, block=3), ranks=2, rows=12)
