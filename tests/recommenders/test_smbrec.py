"""S-MBRec: users who are alike, the star's formula, rows of one behaviour and of several, learning and resuming."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

import anyview
from anyview.errors import UserError
from anyview.recipe import Task
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.behaviours import of_behaviour
from anyview_recommenders.catalogue import Catalogue
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.generated_social import generate_behaviours
from anyview_recommenders.objectives import BPR
from anyview_recommenders.recipes.smbrec import BehaviourConvolutions, SMBRec, similar_users, smbrec, star_contrast
from anyview_recommenders.recommender import Recommender
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.training import trained
from anyview_recommenders.views import Triples
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, small_batch, small_log, small_triples, step_of
from .small_runs import assert_maps_have_a_rate_of_their_own


def views_of_items() -> csr_matrix:
    """An auxiliary behaviour that holds the small log and more; user 3 has something here alone, user 7 nothing but the log."""
    dense = small_log().toarray() + (np.random.default_rng(8).random((USERS, ITEMS)) < 0.3)
    dense[7], dense[3, 2] = small_log().toarray()[7], 1
    return csr_matrix((dense > 0).astype(np.float32))


def encoder(dim: int = DIM) -> BehaviourConvolutions:
    torch.manual_seed(1)
    made = BehaviourConvolutions({"view": views_of_items(), "buy": small_log()}, dim, layers=2)
    with torch.no_grad():
        made.attention.copy_(torch.tensor([0.7, -0.4]))
        for linear in (made.of_users, made.of_items):
            linear.weight.add_(0.2 * torch.randn_like(linear.weight))
            linear.bias.normal_()
    return made


objective = partial(SMBRec, matrix=small_log(), share=0.2, weight=0.3, temperature=0.4, l2=0.1)


def test_pairs_are_those_of_most_mutual_information() -> None:
    dense = small_log().toarray() > 0
    found = []
    for a in range(USERS):
        for b in range(a + 1, USERS):
            if common := int((dense[a] & dense[b]).sum()):
                chance = (common / ITEMS) / (dense[a].sum() / ITEMS * dense[b].sum() / ITEMS)
                found.append((round(-np.log(chance), 9), -common, a, b))
    for share in (0.0, 0.2, 1.0):
        expected = np.zeros((USERS, USERS))
        for _, _, a, b in sorted(found)[: round(share * len(found))]:
            expected[a, b] = expected[b, a] = 1
        assert np.array_equal(similar_users(small_log(), share).toarray(), expected), share
    with pytest.raises(UserError, match="lies between 0 and 1, and 2 was given"):
        similar_users(small_log(), 2)


def plain_rows(made: BehaviourConvolutions) -> tuple[list[Tensor], Tensor]:
    """The rows of each behaviour and the fused ones, with dense matrices and a loop over nodes."""
    each = []
    for convolution, log in zip(made.convolutions, (views_of_items(), small_log()), strict=True):
        whole = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
        whole[:USERS, USERS:] = torch.from_numpy(log.toarray()).double()
        whole = whole + whole.T
        scale = torch.where(whole.sum(1) > 0, whole.sum(1).clamp(min=1) ** -0.5, 0)
        layers = [convolution.embedding]
        for _ in range(2):
            layers.append((scale[:, None] * whole * scale) @ layers[-1])
        each.append(sum(layers) / 3)
    counts = [torch.from_numpy(log.toarray()).double().sum(1) for log in (views_of_items(), small_log())]
    fused = []
    for user in range(USERS):
        weights = [torch.exp(made.attention[k] * counts[k][user] / counts[k].mean()) for k in range(2)]
        own = sum(weights[k] * each[k][user] for k in range(2)) / sum(weights)
        fused.append(made.of_users.weight @ own + made.of_users.bias)
    items = (torch.cat([each[0][item], each[1][item]]) for item in range(USERS, USERS + ITEMS))
    fused.extend(made.of_items.weight @ both + made.of_items.bias for both in items)
    return each, torch.stack(fused)


def plain_star(target: Tensor, other: Tensor, alike: np.ndarray, temperature: float) -> Tensor:
    losses = []
    for user in range(len(target)):
        shares = [torch.exp(target[user] @ row / (target[user].norm() * row.norm()) / temperature) for row in other]
        found = sum(share for place, share in enumerate(shares) if place == user or alike[user, place])
        losses.append(-torch.log(found / sum(shares)))
    return torch.stack(losses).mean()


@pytest.mark.usefixtures("double")
def test_rows_and_losses_are_the_formulas_written_plainly() -> None:
    made, step = encoder(), step_of(encoder())
    each, fused = plain_rows(made)
    nodes = View({"nodes": torch.arange(USERS + ITEMS)})
    torch.testing.assert_close(made(nodes).rows, fused, rtol=1e-10, atol=1e-12)
    users, items, others, own, _ = batch_nodes(step)
    alike = similar_users(small_log(), 0.2).toarray()[np.ix_(own, own)]
    assert alike.any()
    length = sum(half_squares(convolution.embedding, users, items, others) for convolution in made.convolutions)
    star = plain_star(each[1][own], each[0][own], alike, 0.4)
    expected = {"bpr": bpr(fused, step), "l2": 0.1 * length, "star": 0.3 * star}
    found = objective(DIM)(step_of(made))
    assert found.keys() == expected.keys()
    for name, term in found.items():
        torch.testing.assert_close(term, expected[name], rtol=1e-10, atol=0)
        ours, theirs = (
            torch.autograd.grad(loss, made.parameters(), retain_graph=True, allow_unused=True) for loss in (term, expected[name])
        )
        for (weight, _), a, b in zip(made.named_parameters(), ours, theirs, strict=True):
            zero = torch.zeros(()) if a is None and b is None else torch.zeros_like(a if a is not None else b)
            torch.testing.assert_close(zero if a is None else a, zero if b is None else b, rtol=1e-8, atol=1e-11, msg=f"{name} {weight}")


def test_who_is_alike_is_no_negative() -> None:
    rows = torch.randn(6, 4)
    nobody = torch.zeros(6, 6, dtype=torch.bool)
    some = nobody.clone()
    some[0, 3] = True
    assert float(star_contrast(rows, rows, some)) < float(star_contrast(rows, rows, nobody))
    assert float(star_contrast(rows[:1], rows[:1], nobody[:1, :1])) == 0


def test_one_behaviour_is_its_convolution_and_has_no_star() -> None:
    torch.manual_seed(0)
    made, alone = BehaviourConvolutions({"buy": small_log()}, DIM, layers=2), LightGraphConvolution(small_log(), DIM, layers=2)
    with torch.no_grad():
        alone.embedding.copy_(made.convolutions[0].embedding)
    nodes = View({"nodes": torch.arange(USERS + ITEMS)})
    torch.testing.assert_close(made(nodes).rows, alone(nodes).rows)
    assert objective(DIM)(step_of(made)).keys() == {"bpr", "l2"}


def test_one_behaviour_whose_maps_are_held_learns_as_lightgcn_does(tmp_path: Path) -> None:
    source = open_interactions(of_behaviour(generate_behaviours(60, 50), "buy", "shop"))
    matrix, ends = Catalogue.of(source).train, []
    for name, encoder, method in (
        ("fused", partial(BehaviourConvolutions, {"buy": matrix}, map_rate=0.0), partial(SMBRec, matrix=matrix, l2=1e-3)),
        ("alone", partial(LightGraphConvolution, matrix, layers=2), partial(BPR, l2=1e-3)),
    ):
        torch.manual_seed(0)
        network = encoder(dim=DIM)
        made = trained(source, network, [Task(Triples(matrix), method(DIM))], epochs=3, batch_size=64, lr=0.01, look_every=1, patience=5)
        start = network(View({"nodes": torch.arange(110)})).rows.detach()
        anyview.pretrain(made, tmp_path / name)
        ends.append(network.eval()(View({"nodes": torch.arange(110)})).rows)
        assert not torch.allclose(ends[-1], start, atol=0.01)
    torch.testing.assert_close(*ends)


def test_maps_learn_at_a_rate_of_their_own() -> None:
    made = smbrec(shop(60, 50), dim=8, map_rate=0.125)
    assert_maps_have_a_rate_of_their_own(
        made.stages[0].encoder, 0.125, "convolutions.0.embedding", "convolutions.1.embedding", "convolutions.2.embedding"
    )


def test_the_contracts_are_kept() -> None:
    check_encoder(encoder(), View({"nodes": torch.arange(USERS + ITEMS)}))
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)


def shop(users: int, items: int) -> InteractionSource:
    source = open_interactions(generate_behaviours(users, items), target="last")
    assert isinstance(source, InteractionSource)
    return source


def test_it_learns_and_recommends_without_its_data(tmp_path: Path) -> None:
    source = shop(300, 200)
    torch.manual_seed(0)
    made = smbrec(source, dim=16, epochs=15, batch_size=256, lr=0.01, l2=1e-3)

    def recall() -> float:
        return score_part(scorer_of(made.embedder.eval(), source.catalogue), source, k=20, part="test")["recall"]

    untrained = recall()
    run = anyview.pretrain(made, tmp_path / "run")
    assert recall() > untrained + 0.1
    ours, theirs = (list(Recommender(one, device="cpu").recommend(k=5)) for one in (run, anyview.load(run.folder.path)))
    assert ours == theirs


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: smbrec(shop(60, 50), dim=8, epochs=2, batch_size=32, look_every=1), tmp_path, step=4)


def test_data_whose_behaviours_are_not_told_apart_is_refused() -> None:
    purchases = open_interactions(of_behaviour(generate_behaviours(60, 50), "buy", "shop"))
    with pytest.raises(UserError, match="are not told apart, and a model of several was asked for"):
        smbrec(purchases)
