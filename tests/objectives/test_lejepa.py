from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.encoders.encoder import Encoder, Encoding, Wrapped
from anyview.objectives.lejepa import LeJEPA, epps_pulley, epps_pulley_of_noughts, lejepa_terms, sigreg
from anyview.objectives.objective import Step
from anyview.testing import check_objective, check_rank_exact
from anyview.views.draws import Draws
from anyview.views.view import View, ViewSet

SMALL = partial(LeJEPA, bottleneck=16, hidden=16, width=8, directions=32)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_statistic(numbers: Tensor) -> Tensor:
    """The integral, knot by knot."""
    total = torch.zeros((), dtype=numbers.dtype)
    for knot in range(17):
        t = 3 / 16 * knot
        normal = math.exp(-t * t / 2)
        weight = (3 / 16 if knot in (0, 16) else 2 * 3 / 16) * normal
        total = total + weight * (((t * numbers).cos().mean() - normal) ** 2 + (t * numbers).sin().mean() ** 2)
    return len(numbers) * total


def paper(views: list[Tensor], whole: int, directions: Tensor) -> tuple[Tensor, Tensor]:
    """One view, row, column and direction at a time."""
    centres = [sum(view[i] for view in views[:whole]) / whole for i in range(len(views[0]))]
    distances = [(view[i] - centre).square().mean() for view in views for i, centre in enumerate(centres)]
    statistics = [plain_statistic(view @ (direction / direction.norm())) for view in views for direction in directions.T]
    return sum(distances) / len(distances), sum(statistics) / len(statistics)


@pytest.mark.parametrize("shape", [(4, 7), (21, 3)])
@pytest.mark.parametrize("whole", [1, 2, 3])
def test_is_the_paper_s_formula(shape: tuple[int, int], whole: int) -> None:
    views = [2 * rows(*shape, seed=seed).requires_grad_() for seed in range(3)]
    leaves = [view.detach().requires_grad_() for view in views]
    directions = rows(shape[1], 5, seed=9)
    found, expected = lejepa_terms(leaves, whole, directions), paper(leaves, whole, directions)
    for ours, theirs in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
        gradients = (torch.autograd.grad(loss, leaves, retain_graph=True) for loss in (ours, theirs))
        for own, other in zip(*gradients, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    directions = rows(3, 4, seed=9)
    views = [rows(5, 3, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(lambda *each: tuple(lejepa_terms(each, 2, directions).values()), views)


def test_samples_that_are_all_nought_give_0_40205_each() -> None:
    assert float(epps_pulley_of_noughts()) == pytest.approx(0.40205, abs=5e-6)
    for count in (1, 7, 300):
        assert float(epps_pulley(torch.zeros(count))) == pytest.approx(0.40205 * count, rel=2e-5)


def test_standard_normal_samples_give_1_0525() -> None:
    """In expectation, for any number of samples: the variance of the empirical characteristic function, integrated."""
    knots = torch.arange(17, dtype=torch.float64) * 3 / 16
    weights = torch.full((17,), 2 * 3 / 16, dtype=torch.float64)
    weights[[0, -1]] /= 2
    exact = float((weights * (-knots.square() / 2).exp() * (1 - (-knots.square()).exp())).sum())
    assert exact == pytest.approx(1.0525, abs=5e-5)
    assert float(epps_pulley(rows(20_000, 50)).mean()) == pytest.approx(1.0525, rel=0.02)
    wide = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    assert float(torch.trapezoid((-wide.square() / 2).exp() * (1 - (-wide.square()).exp()), wide)) == pytest.approx(1.0594, abs=5e-5)


def test_what_is_not_normal_is_seen() -> None:
    uniform = (torch.rand(400, 256, generator=torch.Generator().manual_seed(0)) - 0.5) * 12**0.5
    assert float(epps_pulley(uniform).mean()) == pytest.approx(5.2, rel=0.05)
    assert float(epps_pulley(2 * rows(400, 256)).mean()) == pytest.approx(62, rel=0.05)
    assert float(epps_pulley(rows(400, 256) + 1).mean()) > 30  # nothing is centred first


def test_directions_of_any_length_and_turned_rows() -> None:
    z, directions = rows(50, 6), rows(6, 40, seed=1)
    torch.testing.assert_close(sigreg(z, 7 * directions), sigreg(z, directions))
    turn = torch.linalg.qr(rows(6, 6, seed=2)).Q
    torch.testing.assert_close(sigreg(z @ turn, turn.T @ directions), sigreg(z, directions))
    many = rows(6, 20_000, seed=3)
    torch.testing.assert_close(sigreg(z @ turn, many), sigreg(z, many), rtol=0.02, atol=0)


def test_invariances() -> None:
    views, directions, order = [rows(9, 4, seed=seed) for seed in range(3)], rows(4, 8, seed=9), torch.randperm(9)
    terms = lejepa_terms(views, 2, directions)
    for name, term in lejepa_terms([view[order] for view in views], 2, directions).items():
        torch.testing.assert_close(term, terms[name])
    for name, term in lejepa_terms([views[1], views[0], views[2]], 2, directions).items():
        torch.testing.assert_close(term, terms[name])


def test_the_gradient_fades_where_rows_are_normal() -> None:
    """In the number of samples, as 1 over its root; per sample, the statistic is a sum."""

    def size(count: int) -> float:
        numbers = rows(20, count).requires_grad_()
        return float(torch.autograd.grad(epps_pulley(numbers).sum(), numbers)[0].square().mean().sqrt())

    assert size(400) / size(6400) == pytest.approx(4.0, rel=0.25)


def test_a_view_alone_has_no_invariance() -> None:
    z = rows(5, 3)
    assert float(lejepa_terms([z], 1, rows(3, 4))["invariance"]) == 0.0
    assert float(lejepa_terms([z, z, z], 2, rows(3, 4))["invariance"]) == 0.0


def test_gradients_flow_through_the_centre() -> None:
    views = [rows(5, 3, seed=seed).requires_grad_() for seed in range(3)]
    gradients = torch.autograd.grad(lejepa_terms(views, 1, rows(3, 4))["invariance"], views)
    expected = [-2 / 45 * (views[1] + views[2] - 2 * views[0]), 2 / 45 * (views[1] - views[0]), 2 / 45 * (views[2] - views[0])]
    for gradient, one in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, one)


def test_nothing_of_the_size_of_rows_times_knots_is_kept() -> None:
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        epps_pulley(torch.randn(30, 100, requires_grad=True)).sum()
    assert max(kept) == 3000


def test_float32_is_near_float64_and_stays_so_under_autocast() -> None:
    z, directions = rows(256, 16), rows(16, 64, seed=1)
    exact = sigreg(z, directions)
    low = sigreg(z.float(), directions.float())
    assert float(low) == pytest.approx(float(exact), rel=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sigreg(z.float(), directions.float()), low)
        assert sigreg(z.bfloat16(), directions.float()).dtype == torch.float32


class Given(Wrapped):
    def __init__(self) -> None:
        super().__init__(torch.nn.Identity(), 12)


def make_step(encoder: Encoder, constant: bool = False, seed: int = 0) -> Step:
    roles = ("global", "global", "local", "local")
    views = [View(torch.ones(10, 12) if constant else rows(10, 12, seed=seed).float(), role=role) for seed, role in enumerate(roles)]
    return Step(ViewSet(views), None, Draws.seeded(seed, total=10), 0, 10, encoder)


def test_directions_are_the_step_s() -> None:
    objective = SMALL(12, normality=0.2).eval()
    found = objective(make_step(Given()))
    directions = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    terms = lejepa_terms([objective.project(view.data) for view in make_step(Given()).views], 2, directions)
    torch.testing.assert_close(found["invariance"], 0.8 * terms["invariance"])
    torch.testing.assert_close(found["normality"], 0.2 * terms["normality"])
    assert not torch.equal(found["normality"], objective(make_step(Given(), seed=1))["normality"])


class Nought(torch.nn.Module):
    def forward(self, given: Tensor) -> Tensor:
        return torch.zeros(len(given), 8)


def test_equal_rows_give_the_collapse_line_or_more() -> None:
    objective = SMALL(12)
    line = objective.collapse_line(10)
    assert line == pytest.approx(0.05 * 0.40205 * 10, rel=1e-5)
    assert float(objective(make_step(Given(), constant=True)).total.detach()) > line  # the projector's bias is not 0
    objective.project = Nought()
    assert float(objective(make_step(Given(), constant=True)).total) == pytest.approx(line, rel=1e-5)


def test_the_projector_is_the_paper_s() -> None:
    widths = [(layer.in_features, layer.out_features) for layer in LeJEPA(24).project.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [(24, 512), (512, 2048), (2048, 2048), (2048, 512)]


def test_an_encoder_s_rows_get_gradients() -> None:
    linear = torch.nn.Linear(12, 12)

    class Linear(Encoder):
        dim = 12

        def forward(self, view: View) -> Encoding:
            return Encoding(linear(view.data))

    SMALL(12)(make_step(Linear())).total.backward()
    assert float(linear.weight.grad.abs().max()) > 0


def test_objective_keeps_the_contract() -> None:
    check_objective(SMALL)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows)
