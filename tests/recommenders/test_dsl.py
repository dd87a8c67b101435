"""DSL: its losses as the paper writes them, links of trust that are drawn, two processes, learning and resuming."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.recipes.dsl import DSL, SocialGraphConvolution, TrustLinks, agreement_loss, dsl
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, layers_of, same, small_batch, small_log, small_triples, step_of
from .plain_social import network, social_log
from .small_runs import assert_learns_to_rank

NODES = torch.arange(USERS + ITEMS)


def encoder(dim: int = DIM) -> SocialGraphConvolution:
    return SocialGraphConvolution(network(), small_log(), dim, layers=2, social_layers=2, pool="sum")


def objective(dim: int = DIM, dropout: float = 0.5) -> DSL:
    return DSL(dim, network(), trust_weight=0.4, weight=0.3, l2=0.2, dropout=dropout)


def plain_social(made: SocialGraphConvolution) -> Tensor:
    """Users' rows by trust: sums over hops of neighbours over the roots of both degrees."""
    linked = network().toarray() + network().toarray().T > 0
    shares = torch.zeros(USERS, USERS)
    for one, other in np.argwhere(linked):
        shares[one, other] = (linked[one].sum() * linked[other].sum()) ** -0.5
    rows = made.embedding[:USERS]
    return rows + shares @ rows + shares @ shares @ rows


@pytest.mark.usefixtures("double")
def test_rows_and_losses_of_dsl_are_the_papers_formulas() -> None:
    made, own = encoder(), objective(dropout=0.0)
    with torch.no_grad():
        made.embedding.mul_(5)  # far enough from zero for the hinge to be open and shut
    rows = sum(layers_of(made.adjacency, made.embedding, 2))
    social = plain_social(made)
    torch.testing.assert_close(made(View({"nodes": NODES})).rows, rows, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(made.social(), social, rtol=1e-10, atol=1e-12)

    step = step_of(made)
    draws = step_of(made).draws
    chances = [torch.sigmoid(social[u] @ social[p] - social[u] @ social[n]) for u, p, n in zip(*own.links.drawn(draws), strict=True)]
    gaps, (first, second) = [], torch.randint(USERS, (2, draws.total), generator=draws.generator)
    for a, b in zip(first, second, strict=True):
        met = own.likeness.both.weight @ torch.cat([rows[a], rows[b]]) + own.likeness.both.bias
        judged = own.likeness.judge.weight @ (torch.where(met > 0, met, 0.5 * met) + rows[a] + rows[b]) + own.likeness.judge.bias
        gaps.append(torch.clamp(1 - torch.sigmoid(judged[0]) * (social[a] @ social[b]), min=0))
    assert 0 < sum(bool(gap > 0) for gap in gaps) < len(gaps)
    expected = {
        "bpr": bpr(rows, step),
        "l2": 0.2 * half_squares(made.embedding, *batch_nodes(step)[:3]),
        "trust": -0.4 * torch.log(torch.stack(chances)).mean(),
        "agreement": 0.3 * torch.stack(gaps).mean(),
    }
    same(own, made, step, expected)


def test_links_and_strangers_of_trust_are_what_they_are_called() -> None:
    links = network().toarray() + network().toarray().T > 0
    drawn = [part.tolist() for part in TrustLinks(network()).drawn(Draws.seeded(0, total=4000))]
    for user, friend, other in zip(*drawn, strict=True):
        assert links[user, friend]
        assert not links[user, other]
        assert user != other
    for user, friend in np.argwhere(links):
        assert (user, friend) in zip(*drawn[:2], strict=True)
    strangers = {(user, other) for user, other in zip(drawn[0], drawn[2], strict=True)}
    assert len(strangers) == sum(USERS - 1 - row.sum() for row in links if row.any())


def test_trust_between_everybody_is_refused() -> None:
    with pytest.raises(UserError, match="has links with all others"):
        TrustLinks(csr_matrix(1 - np.eye(4)))


def test_without_trust_in_the_losses_dsl_is_lightgcn() -> None:
    made = encoder()
    plain = LightGraphConvolution(small_log(), DIM, layers=2, pool="sum")
    plain.load_state_dict({"embedding": made.embedding})
    assert torch.equal(made(View({"nodes": NODES})).rows, plain(View({"nodes": NODES})).rows)


def test_users_who_are_not_alike_need_not_be_close() -> None:
    close = torch.tensor([0.5], requires_grad=True)
    [strong] = torch.autograd.grad(agreement_loss(torch.tensor([0.9]), close), close)
    [weak] = torch.autograd.grad(agreement_loss(torch.tensor([0.1]), close), close)
    assert (float(strong), float(weak)) == pytest.approx((-0.9, -0.1))


def test_dsl_keeps_the_contracts() -> None:
    check_encoder(encoder(), View({"nodes": NODES}))
    check_objective(objective, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, objective, small_triples, encoder), small_batch)


def test_dsl_learns(tmp_path: Path) -> None:
    source = social_log(300, 200)
    torch.manual_seed(0)
    assert_learns_to_rank(dsl(source, dim=16, epochs=15, batch_size=256, lr=0.01, l2=1e-3), source, tmp_path)


def test_dsl_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: dsl(social_log(60, 50), dim=8, epochs=2, batch_size=64, look_every=1), tmp_path, step=9)
