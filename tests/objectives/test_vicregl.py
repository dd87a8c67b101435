from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from anyview.data.source import Batch
from anyview.encoders.encoder import Encoder, Encoding
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.objectives.vicreg import vicreg_terms
from anyview.objectives.vicregl import TokenMap, VICRegL, both_ways, global_terms, nearest_pairs, pair_terms, view_pairs
from anyview.testing import check_objective, check_rank_exact
from anyview.testing.tiny import TinyTokens
from anyview.views.draws import Draws
from anyview.views.location import in_sample
from anyview.views.maker import Gives, ViewMaker
from anyview.views.view import View, ViewSet

SMALL = partial(VICRegL, width=16, local_width=12, matches=3, local_matches=2)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# the paper's form: one sample, one token, one slot at a time


def plain_match(near: Tensor, others: Tensor, count: int) -> list[tuple[int, int]]:
    """Of one sample: pairs of positions, the closest ones, in the order of the first view's positions."""
    pairs = []
    for position, place in enumerate(near.tolist()):
        distances = [math.dist(place, other) for other in others.tolist()]
        pairs.append((min(distances), position, distances.index(min(distances))))
    return sorted((position, partner) for _, position, partner in sorted(pairs)[:count])


def plain_vicreg(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Of one slot, (M, D): the invariance, and means of both sides' variance and covariance terms."""
    off = ~torch.eye(x.shape[1], dtype=torch.bool)
    hinges = [torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() for z in (x, y)]
    squares = [torch.cov(z.T)[off].square().sum() / z.shape[1] for z in (x, y)]
    return {"invariance": (x - y).square().mean(), "variance": sum(hinges) / 2, "covariance": sum(squares) / 2}


def plain_direction(a: TokenMap, b: TokenMap, kind: str) -> dict[str, Tensor]:
    matches = [plain_match(getattr(a, kind)[i], getattr(b, kind)[i], a.count) for i in range(len(a.features))]
    slots = []
    for slot in range(a.count):
        x = torch.stack([a.features[i, pairs[slot][0]] for i, pairs in enumerate(matches)])
        y = torch.stack([b.features[i, pairs[slot][1]] for i, pairs in enumerate(matches)])
        slots.append(plain_vicreg(x, y))
    return {name: sum(terms[name] for terms in slots) / len(slots) for name in slots[0]}


def plain_local(maps: list[TokenMap], whole: int) -> dict[str, Tensor]:
    """Over ordered pairs of a view that is seen whole and any other: features and places, each the mean of both directions."""
    total, pairs = dict.fromkeys(("invariance", "variance", "covariance"), 0.0), 0
    for i in range(whole):
        for j in range(len(maps)):
            if i != j:
                pairs += 1
                for kind in ("features", "places"):
                    there, back = plain_direction(maps[i], maps[j], kind), plain_direction(maps[j], maps[i], kind)
                    total = {name: total[name] + (there[name] + back[name]) / 2 for name in total}
    return {name: value / pairs for name, value in total.items()}


def plain_global(rows: list[Tensor], whole: int) -> dict[str, Tensor]:
    distances = [(rows[i] - rows[j]).square().mean() for i in range(whole) for j in range(len(rows)) if i != j]
    spreads = [plain_vicreg(z, z) for z in rows]
    return {
        "invariance": sum(distances) / len(distances),
        **{name: sum(terms[name] for terms in spreads) / len(spreads) for name in ("variance", "covariance")},
    }


# the parts


def maps(counts: tuple[int, ...] = (3, 3, 2), rows: int = 7, width: int = 4) -> list[TokenMap]:
    random = torch.Generator().manual_seed(0)
    sizes = [6, 6, 3]
    return [
        TokenMap(torch.randn(rows, size, width, generator=random), torch.rand(rows, size, 2, generator=random), count)
        for size, count in zip(sizes, counts, strict=True)
    ]


@pytest.mark.parametrize("width", [2, 9])  # exact distances, and distances by products
@pytest.mark.parametrize("count", [1, 4, 6])
def test_nearest_pairs_are_the_closest_one_by_one(width: int, count: int) -> None:
    near, others = torch.randn(5, 6, width), torch.randn(5, 8, width)
    kept, partner = nearest_pairs(near, others, count)
    for sample in range(5):
        assert list(zip(kept[sample].tolist(), partner[sample].tolist(), strict=True)) == plain_match(near[sample], others[sample], count)


def test_tokens_that_are_not_there_are_not_matched() -> None:
    near, others = torch.randn(5, 6, 3), torch.randn(5, 8, 3)
    valid, valid_others = torch.arange(6) < torch.tensor([[2], [3], [4], [5], [6]]), torch.arange(8) < 3
    others[:, 3:] = near[:, :5]  # the closest, were they there
    kept, partner = nearest_pairs(near, others, 2, valid, valid_others.expand(5, 8))
    assert bool(valid.take_along_dim(kept, 1).all())
    assert int(partner.max()) < 3


def test_equal_grids_are_matched_place_by_place() -> None:
    grid = torch.cartesian_prod(torch.arange(7.0), torch.arange(7.0)).div(7).expand(3, -1, -1)
    kept, partner = nearest_pairs(grid, grid, 20)
    assert torch.equal(kept, partner)
    assert kept.shape == (3, 20)
    assert bool((kept.diff(dim=1) > 0).all())


def test_pairs_of_views_stand_for_ordered_pairs() -> None:
    assert view_pairs(2, 2) == [(0, 1, 2)]
    ordered = [(i, j) for i in range(2) for j in range(5) if i != j]
    assert sum(times for _, _, times in view_pairs(5, 2)) == len(ordered)
    assert {(i, j) for i, j, _ in view_pairs(5, 2)} == {tuple(sorted(pair)) for pair in ordered}


@pytest.mark.parametrize("rows", [3, 7])  # fewer and more than features
def test_pair_terms_are_vicreg_of_each_slot(rows: int) -> None:
    x, y = torch.randn(2, rows, 5, 4).unbind()
    slots = [plain_vicreg(x[:, slot], y[:, slot]) for slot in range(5)]
    for name, term in pair_terms(x, y).items():
        torch.testing.assert_close(term, sum(terms[name] for terms in slots) / 5, rtol=1e-11, atol=0)


def test_two_views_have_vicreg_s_terms_and_half_its_covariance() -> None:
    a, b = torch.randn(2, 9, 5).unbind()
    expected = vicreg_terms(a, b)
    expected["covariance"] = expected["covariance"] / 2
    for name, term in global_terms([a, b], 2).items():
        torch.testing.assert_close(term, expected[name], rtol=1e-11, atol=0)


@pytest.mark.parametrize("whole", [1, 2])
def test_global_terms_are_the_paper_s(whole: int) -> None:
    rows = list(torch.randn(4, 6, 5))
    for name, term in global_terms(rows, whole).items():
        torch.testing.assert_close(term, plain_global(rows, whole)[name], rtol=1e-11, atol=0)


def test_matching_has_no_gradient_and_values_do() -> None:
    a, b, _ = maps()
    a.features.requires_grad_()
    assert not nearest_pairs(a.features, b.features, 3)[0].requires_grad
    invariance = sum(terms["invariance"] for terms in both_ways(a, b))
    (gradient,) = torch.autograd.grad(invariance, a.features)
    step = 1e-6 * gradient / gradient.norm()
    moved = TokenMap(a.features.detach() + step, a.places, a.count)
    slope = (sum(terms["invariance"] for terms in both_ways(moved, b)) - invariance) / 1e-6
    torch.testing.assert_close(slope, gradient.norm(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(3, 2, 5), (6, 2, 3)])
def test_gradcheck(shape: tuple[int, ...]) -> None:
    pairs = [torch.randn(shape).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(lambda x, y: tuple(pair_terms(x, y).values()), pairs)
    rows = [torch.randn(shape[0], shape[2]).requires_grad_() for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *views: tuple(global_terms(views, 2).values()), rows)


# the whole


class Given(Encoder):
    """Returns the encoding that a view holds as its data."""

    dim, tokens = 4, True

    def forward(self, view: View) -> Encoding:
        encoding: Encoding = view.data
        return encoding


def given_views(rows: int = 7, *, equal: bool = False, boxes: bool = True) -> list[View]:
    random = torch.Generator().manual_seed(0)
    views = []
    for role, size in (("global", 6), ("global", 6), ("local", 3)):
        tokens = torch.randn(rows, size, 4, generator=random) if not equal else torch.ones(rows, size, 4)
        places = torch.rand(rows, size, 2, generator=random)
        box = torch.rand(rows, 4, generator=random) - torch.tensor([0.0, 0.0, 0.0, 0.5])
        encoding = Encoding(tokens.mean(1), tokens=tokens, coordinates=places)
        views.append(View(encoding, role=role, params={"box": box} if boxes else None))
    return views


def make_step(views: list[View]) -> Step:
    return Step(ViewSet(views), None, Draws.seeded(0, total=7), 0, 10, Given())


@pytest.mark.parametrize("boxes", [True, False])
def test_is_the_paper_s_formula(boxes: bool) -> None:
    objective = SMALL(4, alpha=0.6).eval()
    views = given_views(boxes=boxes)
    found = objective(make_step(views))
    encodings = [view.data for view in views]
    rows = [objective.project(encoding.rows) for encoding in encodings]
    tokens = [objective.project_tokens(encoding.tokens.reshape(-1, 4)).view(*encoding.tokens.shape[:2], 12) for encoding in encodings]
    places = [
        in_sample(encoding.coordinates, view.params["box"] if boxes else None) for encoding, view in zip(encodings, views, strict=True)
    ]
    expected = {name: 0.6 * term for name, term in plain_global(rows, 2).items()}
    local = plain_local([TokenMap(*parts) for parts in zip(tokens, places, (3, 3, 2), strict=True)], 2)
    expected |= {f"local_{name}": 0.4 * term for name, term in local.items()}
    assert list(found) == list(expected)
    for name, term in found.items():
        weight = 1.0 if name.endswith("covariance") else 25.0
        torch.testing.assert_close(term, weight * expected[name], rtol=1e-10, atol=0)


def test_views_without_a_box_show_the_whole_sample() -> None:
    objective = SMALL(4).eval()
    views = given_views(boxes=False)
    whole = [View(view.data, role=view.role, params={"box": torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(7, 4)}) for view in views]
    assert objective(make_step(views)) == objective(make_step(whole))


def test_boxes_decide_which_places_meet() -> None:
    objective = SMALL(4).eval()
    with_boxes, without = (objective(make_step(given_views(boxes=boxes))) for boxes in (True, False))
    assert not torch.equal(with_boxes["local_invariance"], without["local_invariance"])
    assert torch.equal(with_boxes["invariance"], without["invariance"])


def test_all_rows_equal_gives_24_75_per_level() -> None:
    objective = SMALL(4, alpha=0.75).eval()
    losses = objective(make_step(given_views(equal=True)))
    assert float(losses["variance"].detach()) == pytest.approx(0.75 * 24.75)
    assert float(losses["local_variance"].detach()) == pytest.approx(0.25 * 2 * 24.75)  # by features and by places
    assert float(losses.total.detach()) == pytest.approx(objective.collapse_line(7))
    losses.total.backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in objective.parameters())


def test_tokens_that_are_not_there_change_nothing() -> None:
    objective = SMALL(4)
    views = given_views()
    expected = objective(make_step(views))
    padded = []
    for view in views:
        encoding, size = view.data, view.data.tokens.shape[1]
        tokens, places = torch.full((7, size + 2, 4), 1e3), torch.zeros(7, size + 2, 2)
        tokens[:, :size], places[:, :size] = encoding.tokens, encoding.coordinates
        valid = (torch.arange(size + 2) < size).expand(7, -1)
        padded.append(View(Encoding(encoding.rows, tokens=tokens, coordinates=places, valid=valid), role=view.role, params=view.params))
    for name, term in objective(make_step(padded)).items():
        torch.testing.assert_close(term, expected[name], rtol=1e-10, atol=0)


def test_matches_are_no_more_than_the_tokens_of_the_shortest_sample() -> None:
    views = given_views()
    for view in views:
        view.data.valid = (
            torch.arange(view.data.tokens.shape[1]) < 1 + (torch.arange(7) > 0)[:, None]
        )  # one in the first, two in the others
    objective = SMALL(4, matches=20)
    assert objective._map(make_step(views), views[0], 20).count == 1
    assert bool(objective(make_step(views)).total.isfinite())
    views[1].data.valid = torch.zeros(7, 6, dtype=torch.bool)
    with pytest.raises(UserError, match="has none"):
        objective(make_step(views))


def test_coordinates_and_two_rows_are_asked_for() -> None:
    views = given_views()
    views[0].data.coordinates = None
    with pytest.raises(UserError, match="let its encoding have coordinates"):
        SMALL(4)(make_step(views))
    with pytest.raises(UserError, match="at least two rows"):
        SMALL(4).eval()(make_step(given_views(rows=1)))


def test_float32_is_near_float64_and_stays_so_under_autocast() -> None:
    x, y = torch.randn(2, 12, 3, 20).unbind()
    exact = pair_terms(x, y)
    low = pair_terms(x.float(), y.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pair_terms(x.float(), y.float())
        assert torch.equal(nearest_pairs(x.float(), y.float(), 2)[0], nearest_pairs(x, y, 2)[0])
    assert inside == low
    for name, term in low.items():
        torch.testing.assert_close(term.double(), exact[name], rtol=1e-5, atol=0)


class Crops(ViewMaker):
    """Two views and a local one of sequences, each with noise and a box of its own."""

    gives = Gives(views=2, roles=("global", "local"))

    def __call__(self, batch: Batch, draws: Draws) -> ViewSet:
        views = []
        for role, tokens in (("global", 6), ("global", 6), ("local", 3)):
            data = batch.data[:, :tokens] + 0.3 * draws.normal(tokens, 12).to(batch.data)
            box = draws.uniform(2).to(batch.data)
            views.append(View(data, role=role, params={"box": box}))
        return ViewSet(views)


class Plain(TinyTokens):
    """Tokens of views that are never masked: the mask token takes part, so that it has a gradient."""

    def forward(self, view: View) -> Encoding:
        encoding = super().forward(view)
        assert encoding.tokens is not None
        encoding.tokens = encoding.tokens + 0.0 * self.token
        return encoding


class Uneven(Plain):
    """Tokens of which some samples have fewer."""

    def forward(self, view: View) -> Encoding:
        encoding = super().forward(view)
        assert encoding.tokens is not None
        shortest = (view.data[:, 0, 0] > 0).long()[:, None]
        encoding.valid = torch.arange(encoding.tokens.shape[1]) < encoding.tokens.shape[1] - shortest
        return encoding


PLAIN, UNEVEN = partial(Plain, 12, 8), partial(Uneven, 12, 8)


def test_objective_keeps_the_contract() -> None:
    torch.set_default_dtype(torch.float32)
    check_objective(SMALL, make_encoder=PLAIN)
    check_objective(SMALL, make_views=Crops, make_encoder=PLAIN)


@pytest.mark.parametrize("make_encoder", [PLAIN, UNEVEN])
@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_ranks_are_exact(make_encoder: partial[Encoder], ranks: int, rows: int) -> None:
    check_rank_exact(SMALL, ranks=ranks, rows=rows, make_views=Crops, make_encoder=make_encoder)
