"""MBGMN: rows, queries and the hinge against the formulas written node by node, and what it reduces to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.behaviour_views import BehaviourTriples
from anyview_recommenders.recipes.mbgmn import MBGMN, BehaviourAttention, MetaGraph, mbgmn
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, small_batch
from .plain_behaviours import behaviour_step, dense_normalised, shop, small_behaviours, small_views, target_alone
from .small_runs import assert_learns_to_rank, assert_maps_have_a_rate_of_their_own

HALF = DIM // 2


def encoder(dim: int = DIM) -> MetaGraph:
    torch.manual_seed(1)
    made = MetaGraph(small_behaviours(), dim, layers=2, deviation=1.0, slope=0.3)
    with torch.no_grad():
        made.query.weight.normal_(std=0.3)
        made.query.bias.normal_(std=0.3)
    return made


objective = partial(MBGMN, auxiliary=0.6, l2=0.1)


def leaky(value: Tensor, slope: float = 0.1) -> Tensor:
    return torch.where(value > 0, value, slope * value)


def affine(layer: torch.nn.Linear, value: Tensor) -> Tensor:
    return layer.weight @ value + layer.bias


def plain_rows(made: MetaGraph) -> list[Tensor]:
    """The rows of each behaviour, node by node."""
    graphs = []
    for own in small_behaviours().values():
        whole = torch.zeros(USERS + ITEMS, USERS + ITEMS)
        whole[:USERS, USERS:] = dense_normalised(own)
        graphs.append(whole + whole.T)

    def specialised(channel: int, around: Tensor) -> Tensor:
        own, found = made.specialised[channel], []
        for node in range(USERS + ITEMS):
            row = made.embedding[node]
            meta = leaky(affine(own.meta, torch.cat([made.channels[channel], row, around[node]])))
            down, up = leaky(affine(own.down, meta)).view(4, HALF).T, leaky(affine(own.up, meta)).view(4, HALF)
            found.append(torch.cat([row @ (down @ up), row]))
        return torch.stack(found)

    each, sums = [], [graph @ made.embedding for graph in graphs]
    for channel, graph in enumerate(graphs):
        layers = [specialised(channel, sums[channel])]
        for _ in range(2):
            layers.append(leaky(graph @ layers[-1], 0.3) + layers[-1])
        each.append(sum(layers) / 3)
    joint = [specialised(3, sum(sums) / 3)]
    for attention in made.attention:
        of_graphs = [leaky(graph @ joint[-1], 0.3) for graph in graphs]
        attended = [plain_attention(attention, [own[node] for own in of_graphs]) for node in range(USERS + ITEMS)]
        joint.append(torch.stack(attended) + joint[-1])
    return [(own + sum(joint) / 3) / 2 for own in each]


def plain_attention(attention: BehaviourAttention, rows: list[Tensor]) -> Tensor:
    """The mean over behaviours of what a node's rows attend to, and of themselves."""
    found = []
    for row in rows:
        heads = []
        for head in (slice(0, HALF), slice(HALF, DIM)):
            query = (attention.places.weight @ row)[head]
            logits = torch.stack([query @ (attention.places.weight @ other)[head] / HALF**0.5 for other in rows])
            heads.append(
                sum(share * (attention.values.weight @ other)[head] for share, other in zip(torch.softmax(logits, 0), rows, strict=True))
            )
        found.append(row + torch.cat(heads))
    return sum(found) / len(found)


def plain_query(made: MetaGraph, rows: list[Tensor], user: int, source: int, target: int) -> Tensor:
    first, second = (leaky(affine(made.known, rows[behaviour][user])) for behaviour in (source, target))
    meta = leaky(affine(made.pair, torch.cat([first * second, first, second])))
    weights = affine(made.query, meta)
    return (1 + weights[:DIM]) * rows[source][user] + weights[DIM:]


@pytest.mark.usefixtures("double")
def test_rows_and_losses_are_the_formulas_written_plainly() -> None:
    made, method = encoder(), objective(DIM)
    rows, step = plain_rows(made), behaviour_step(made)
    of_users = [torch.cat([plain_query(made, rows, user, source, 2) for source in range(3)]) / 3 for user in range(USERS)]
    of_items = [torch.cat([own[item] for own in rows]) for item in range(USERS, USERS + ITEMS)]
    encoding = made(View({"nodes": torch.arange(USERS + ITEMS)}))
    torch.testing.assert_close(encoding.rows, torch.stack(of_users + of_items), rtol=1e-10, atol=1e-12)
    shown, margins, squares, pairs = step.views[0].data, [[], [], []], 0.0, 0
    for row, user in enumerate(shown["users"].tolist()):
        for target in range(3):
            if shown["there"][row, target]:
                positive, negative = (int(shown[side][row, target]) for side in ("positives", "negatives"))
                for source in range(3):
                    query = plain_query(made, rows, user, source, target)
                    margins[target].append(torch.relu(1 - query @ rows[source][positive] + query @ rows[source][negative]))
                squares = squares + sum(made.embedding[node] @ made.embedding[node] for node in (user, positive, negative))
                pairs += 1
    hinge = sum(weight * torch.stack(own).mean() for weight, own in zip((0.6, 0.6, 1.0), margins, strict=True))
    found, weights = method(step), list(made.parameters())
    for name, expected in (("hinge", hinge), ("l2", 0.1 * squares / (2 * pairs))):
        torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=0)
        slopes = (
            torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
            for loss in (found[name], expected)
        )
        for a, b in zip(*slopes, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)
    assert all(float(slope.norm()) > 0 for slope in torch.autograd.grad(found["hinge"], weights))


def test_at_first_the_score_is_the_mean_product_of_sources() -> None:
    torch.manual_seed(0)
    made = MetaGraph(small_behaviours(), DIM)
    encoding = made(View({"nodes": torch.arange(USERS + ITEMS)}))
    users, items = encoding.rows.split([USERS, ITEMS])
    each = [(encoding.layers[place][:USERS], encoding.layers[place][USERS:]) for place in (1, 2, 3)]
    torch.testing.assert_close(users @ items.T, sum(own @ other.T for own, other in each) / 3)


def test_one_behaviour_has_its_graph_alone() -> None:
    torch.manual_seed(0)
    made = MetaGraph(target_alone(), DIM, layers=2, slope=1.0)
    assert not len(made.attention)
    start = made.specialised[0](made.embedding, made.sums(made.graphs[0], made.embedding), made.channels[0])
    graph = torch.zeros(USERS + ITEMS, USERS + ITEMS)
    graph[:USERS, USERS:] = dense_normalised(target_alone()["buy"]).float()
    whole = graph + graph.T + torch.eye(USERS + ITEMS)
    torch.testing.assert_close(made.spread()[0], (start + whole @ start + whole @ whole @ start) / 3)
    check_encoder(made, View({"nodes": torch.arange(USERS + ITEMS)}))
    found = objective(DIM)(behaviour_step(made.train(), lambda: BehaviourTriples(target_alone())))
    assert found.keys() == {"hinge", "l2"}


def test_networks_learn_at_a_rate_of_their_own() -> None:
    made = mbgmn(shop(60, 50), dim=8, map_rate=0.125)
    assert_maps_have_a_rate_of_their_own(made.stages[0].encoder, 0.125, "embedding", "channels")


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(UserError, match="and the width is 7; make it even"):
        MetaGraph(target_alone(), 7)


def test_the_contracts_are_kept() -> None:
    check_encoder(encoder(), View({"nodes": torch.arange(USERS + ITEMS)}))
    check_objective(objective, make_views=small_views, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_views, encoder), small_batch)


def test_it_learns(tmp_path: Path) -> None:
    source = shop(300, 200)
    torch.manual_seed(0)
    assert_learns_to_rank(mbgmn(source, dim=16, epochs=15, batch_size=256, lr=0.02, l2=1e-3), source, tmp_path)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: mbgmn(shop(60, 50), dim=8, epochs=2, batch_size=32, look_every=1), tmp_path, step=4)
