"""CML: rows and losses against the formulas written plainly, the exact meta gradient against finite differences, and what it reduces to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.behaviour_views import BehaviourTriples
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.fused_convolution import Counted, FusedConvolution, contrast_losses
from anyview_recommenders.recipes.cml import CML, WeightNetwork, cml
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, info_nce, small_batch, small_log
from .plain_behaviours import behaviour_squares, behaviour_step, plain_fused, shop, small_behaviours, small_views, target_alone
from .small_runs import assert_learns_to_rank, assert_maps_have_a_rate_of_their_own


def encoder(dim: int = DIM) -> FusedConvolution:
    torch.manual_seed(1)
    made = FusedConvolution(small_behaviours(), dim, layers=2, deviation=1.0, slope=0.3)
    with torch.no_grad():
        for weight in (made.weights, made.joined):
            weight.add_(0.2 * torch.randn_like(weight))
    return made


objective = partial(CML, behaviours=3, weight=0.3, temperature=0.4, auxiliary=0.6, pace=0.5, l2=0.1)
views = partial(small_views, 10)


def weighed(made: CML, step: Step) -> tuple[Counted, Counted, Tensor, Tensor]:
    """The losses one by one, written with loops, as the networks see them, and BPR's and the contrast's weights."""
    fused, each = plain_fused(step.encoder)
    shown = step.views[0].data
    users, own = shown["users"].tolist(), sorted(set(shown["users"].tolist()))
    counts = shown["there"].sum(0)
    ranking = []
    for row, user in enumerate(users):
        for behaviour in range(3):
            if shown["there"][row, behaviour]:
                positive, negative = (fused[shown[side][row, behaviour]] for side in ("positives", "negatives"))
                loss = -torch.log(torch.sigmoid(fused[user] @ positive - fused[user] @ negative))
                ranking.append((loss, each[behaviour][user], fused[user], (0.6 if behaviour < 2 else 1.0) / counts[behaviour]))
    contrast = []
    for other in range(2):
        for user in own:
            shares = torch.stack([torch.exp(torch.cosine_similarity(each[2][user], each[other][key], dim=0) / 0.4) for key in own])
            contrast.append(
                (-torch.log(shares[own.index(user)] / shares.sum()), each[other][user], fused[user], torch.tensor(0.3 / len(own)))
            )
    first, second = (Counted(*(torch.stack(part) for part in zip(*found, strict=True))) for found in (ranking, contrast))
    of_ranking, of_contrast = (torch.stack(network(*of[:3])) for network, of in zip(made.networks, (first, second), strict=True))
    return first, second, of_ranking.sum(0), of_contrast.sum(0) / 2


@pytest.mark.usefixtures("double")
def test_rows_and_losses_are_the_formulas_written_plainly() -> None:
    made, step, method = encoder(), behaviour_step(encoder(), views), objective(DIM)
    fused, each = plain_fused(made)
    encoding = made(View({"nodes": torch.arange(USERS + ITEMS)}))
    torch.testing.assert_close(encoding.rows, fused, rtol=1e-10, atol=1e-12)
    ours = made(View({"nodes": torch.arange(USERS)})).layers
    for place, rows in enumerate(each, 1):
        torch.testing.assert_close(ours[place], rows[:USERS], rtol=1e-10, atol=1e-12)
    ranking, contrast, of_ranking, of_contrast = weighed(method, step)
    assert bool(((of_ranking > 0) & (of_ranking < 2)).all())
    assert bool(((of_contrast > 0) & (of_contrast < 1)).all())
    found = method(step)
    plain = {"bpr": ranking.total(of_ranking.detach()), "contrast": contrast.total(of_contrast.detach())}
    plain["l2"] = 0.1 * behaviour_squares(step, step.encoder)
    weights = list(step.encoder.parameters())
    for name, expected in plain.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=0)
        pairs = (
            torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
            for loss in (found[name], expected)
        )
        for a, b in zip(*pairs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)
        assert all(
            slope is None for slope in torch.autograd.grad(found[name], list(method.parameters()), retain_graph=True, allow_unused=True)
        )


@pytest.mark.usefixtures("double")
def test_the_meta_gradient_is_that_of_finite_differences() -> None:
    step, method = behaviour_step(encoder(), views), objective(DIM)
    users, items, others = step.set.role("meta")[0].data["nodes"].chunk(3)

    def meta() -> Tensor:
        """BPR of the meta view after one gradient step of the encoder, with the networks as they are."""
        ranking, contrast, of_ranking, of_contrast = weighed(method, step)
        loss = ranking.total(of_ranking.detach()) + contrast.total(of_contrast.detach()) + 0.1 * behaviour_squares(step, step.encoder)
        names, weights = zip(*step.encoder.named_parameters(), strict=True)
        slopes = torch.autograd.grad(loss, weights)
        moved = {name: (weight - 0.5 * slope).detach() for name, weight, slope in zip(names, weights, slopes, strict=True)}
        rows = functional_call(step.encoder, moved, (View({"nodes": torch.arange(USERS + ITEMS)}),)).rows
        margins = (rows[users] * (rows[items] - rows[others])).sum(1)
        return -torch.log(torch.sigmoid(margins)).mean()

    found = method(step)["meta"]
    torch.testing.assert_close(found, meta(), rtol=1e-10, atol=0)
    assert all(slope is None for slope in torch.autograd.grad(found, list(step.encoder.parameters()), retain_graph=True, allow_unused=True))
    found.backward()
    weights = list(method.parameters())
    for _ in range(2):
        direction, sides = [torch.randn_like(weight) for weight in weights], []
        for amount in (1e-7, -2e-7, 1e-7):
            with torch.no_grad():
                for weight, way in zip(weights, direction, strict=True):
                    weight.add_(amount * way)
            sides.append(float(meta()) if len(sides) < 2 else 0.0)
        ours = sum(float((weight.grad * way).sum()) for weight, way in zip(weights, direction, strict=True))
        assert abs(ours) > 1e-6
        assert ours == pytest.approx((sides[0] - sides[1]) / 2e-7, rel=1e-4)


@pytest.mark.usefixtures("double")
def test_networks_descend_the_meta_loss() -> None:
    step, method = behaviour_step(encoder(), views), objective(DIM)
    before = method(step)["meta"]
    before.backward()
    loss = float(before.detach())
    length = torch.stack([weight.grad.square().sum() for weight in method.parameters()]).sum().sqrt()
    with torch.no_grad():
        for weight in method.parameters():
            weight.sub_(0.01 * weight.grad / length)
    assert float(method(step)["meta"].detach()) < loss - 0.005 * float(length)


def test_weights_follow_losses_and_are_spread_over_all() -> None:
    torch.manual_seed(0)
    network, losses, rows = WeightNetwork(DIM), torch.rand(40), torch.randn(40, DIM)
    for weights in network(losses, rows, rows):
        assert 0 < float(weights.min()) < 0.5 < float(weights.max()) < 1
        odds = torch.logit(weights)
        assert float(odds.mean()) == pytest.approx(0, abs=1e-4)
        assert float(odds.std(correction=0)) == pytest.approx(1, abs=1e-2)
    other = network(losses.flip(0), rows, rows)
    assert all(not torch.allclose(a, b) for a, b in zip(other, network(losses, rows, rows), strict=True))
    alone = network(losses[:1], rows[:1], rows[:1])
    assert [float(weights.detach()) for weights in alone] == [0.5, 0.5]


def test_the_contrast_is_that_of_one_behaviour_in_another() -> None:
    a, b = torch.randn(2, 6, DIM, dtype=torch.float64)
    torch.testing.assert_close(contrast_losses(a, b, 0.4).mean(), info_nce(a, b, list(range(6)), 0.4), rtol=1e-10, atol=0)


def test_one_behaviour_is_lightgcn_by_ranking() -> None:
    torch.manual_seed(0)
    made, alone = FusedConvolution(target_alone(), DIM, layers=2, slope=1.0), LightGraphConvolution(small_log(), DIM, layers=2)
    with torch.no_grad():
        alone.embedding.copy_(made.embedding)
    nodes = View({"nodes": torch.arange(USERS + ITEMS)})
    torch.testing.assert_close(made(nodes).rows, alone(nodes).rows)
    method = CML(DIM, behaviours=1, l2=0.1)
    assert not list(method.parameters())
    step = behaviour_step(made, lambda: BehaviourTriples(target_alone()))
    found, shown = method(step), step.views[0].data
    assert found.keys() == {"bpr", "l2"}
    rows = made(nodes).rows
    margins = (rows[shown["users"]] * (rows[shown["positives"][:, 0]] - rows[shown["negatives"][:, 0]])).sum(1)
    torch.testing.assert_close(found["bpr"], -torch.log(torch.sigmoid(margins)).mean())


def test_a_pace_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="and its pace is 0"):
        CML(DIM, pace=0)


def test_what_weights_are_learned_by_has_to_be_shown() -> None:
    with pytest.raises(UserError, match="CML needs views of role 'meta', which BehaviourTriples does not give"):
        cml(shop(60, 50), dim=8, meta=0)


def test_the_contracts_are_kept() -> None:
    check_encoder(encoder(), View({"nodes": torch.arange(USERS + ITEMS)}))
    check_objective(objective, make_views=views, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, views, encoder), small_batch)


def test_maps_learn_at_a_rate_of_their_own() -> None:
    assert_maps_have_a_rate_of_their_own(FusedConvolution(small_behaviours(), DIM, map_rate=0.25), 0.25, "embedding")
    made = cml(shop(60, 50), dim=8, map_rate=0.125)
    assert_maps_have_a_rate_of_their_own(made.stages[0].encoder, 0.125, "embedding")


def test_networks_have_a_rate_of_their_own() -> None:
    method = objective(DIM, rate=0.25)
    (group,) = method.parameter_groups()
    assert group.schedule(3, 10) == 0.25
    assert {id(weight) for weight in group.parameters} == {id(weight) for weight in method.parameters()}


def test_it_learns(tmp_path: Path) -> None:
    source = shop(300, 200)
    torch.manual_seed(0)
    assert_learns_to_rank(cml(source, dim=16, layers=2, epochs=12, batch_size=256, lr=0.02, l2=1e-3), source, tmp_path)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: cml(shop(60, 50), dim=8, epochs=2, batch_size=32, look_every=1), tmp_path, step=4)
