"""Trust beside a log, motifs against enumeration, products with sparse matrices, behaviours told apart, and MHCN."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import Tensor

import anyview
from anyview.data.source import Outline
from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.beside import behaviours_of, trust_of
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.features import SideFeatures
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.motifs import channels, motifs
from anyview_recommenders.recipes.mhcn import MHCN, MultiChannelConvolution, mhcn
from anyview_recommenders.recommender import Recommender
from anyview_recommenders.sparse_product import SparseMatrix, row_normalised
from tests.small_runs import assert_ends_alike_after_a_stop

from .plain import DIM, ITEMS, USERS, batch_nodes, bpr, half_squares, same, small_batch, small_log, small_triples, step_of
from .plain_social import network, social_log
from .small_runs import assert_maps_have_a_rate_of_their_own


def kind_of(links: list[int]) -> int:
    """The motif of a triangle, from what its pairs say: 2 both ways, 1 from the first to the second, -1 back."""
    mutual = links.count(2)
    ab, bc, ca = links
    if mutual == 3:
        return 4
    if mutual == 2:
        return 3
    if mutual == 0:
        return 1 if ab == bc == ca else 5
    before, after = [(bc, ca), (ca, ab), (ab, bc)][links.index(2)]  # the links of the third user, from an end to it, then from it on
    return 2 if before == after else (6 if before == -1 else 7)


def test_motifs_are_those_that_enumeration_counts() -> None:
    trust, dense = network(), network().toarray()
    purchases = small_log()
    expected = np.zeros((11, USERS, USERS), dtype=np.int64)

    def link(a: int, b: int) -> int:
        return 2 if dense[a, b] and dense[b, a] else int(dense[a, b]) - int(dense[b, a])

    for a, b, c in combinations(range(USERS), 3):
        links = [link(a, b), link(b, c), link(c, a)]
        if all(links):
            for one, other in combinations((a, b, c), 2):
                expected[kind_of(links), one, other] += 1
                expected[kind_of(links), other, one] += 1
    common = (purchases @ purchases.T).toarray().astype(np.int64)
    for a in range(USERS):
        for b in range(USERS):
            expected[{2: 8, 0: 10}.get(link(a, b), 9) if a != b else 10, a, b] = common[a, b]
    for number, found in enumerate(motifs(trust, purchases), 1):
        assert np.array_equal(found.toarray(), expected[number]), number
        assert expected[number].any(), number


def test_symmetric_trust_leaves_motifs_4_8_and_10() -> None:
    found = motifs(network(symmetric=True), small_log())
    assert [number for number, matrix in enumerate(found, 1) if matrix.nnz] == [4, 8, 10]
    assert channels(network(symmetric=True), small_log()).purchase.data.min() > 1


def test_products_and_both_gradients_are_those_of_the_dense_matrix() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        matrix = SparseMatrix(row_normalised(small_log()))
        rows = torch.randn(matrix.shape[1], 2, requires_grad=True)
        torch.testing.assert_close(matrix(rows), torch.from_numpy(row_normalised(small_log()).toarray()) @ rows)
        assert torch.autograd.gradcheck(matrix, rows)
        assert torch.autograd.gradcheck(matrix.back, torch.randn(matrix.shape[0], 2, requires_grad=True))
        assert torch.autograd.gradgradcheck(lambda x: matrix(x).square(), rows)
        assert not matrix(rows)[3].any()
    finally:
        torch.set_default_dtype(torch.float32)


def encoder(dim: int = 8) -> MultiChannelConvolution:
    return MultiChannelConvolution(network(), small_log(), dim, layers=2)


def test_mhcn_keeps_the_contracts_and_users_without_anything_stay_finite() -> None:
    made = encoder()
    check_encoder(made, View({"nodes": torch.arange(made.users + made.items)}))
    check_objective(MHCN, make_views=small_triples, make_encoder=encoder, make_batch=small_batch)


def test_two_processes_are_one() -> None:
    check_stage_rank_exact(partial(tiny_stage, MHCN, small_triples, encoder), small_batch)


def dense_channels() -> list[Tensor]:
    """H of each channel: counts of motifs, each row over its sum."""
    counts = [torch.from_numpy(matrix.toarray()).double() for matrix in channels(network(), small_log()).all]
    return [torch.stack([row / row.sum() if row.any() else row for row in matrix]) for matrix in counts]


def gated(rows: Tensor, gate: torch.nn.Module) -> Tensor:
    return torch.stack([row * torch.sigmoid(gate.linear.weight @ row + gate.linear.bias) for row in rows])


def unit(rows: Tensor) -> Tensor:
    return torch.stack([row / row.norm() if row.any() else row for row in rows])


def plain_rows(made: MultiChannelConvolution) -> Tensor:
    """The rows of all nodes as section 3 of the paper says."""
    users, items = made.embedding[:USERS], made.embedding[USERS:]
    log = torch.from_numpy(small_log().toarray()).double()
    shares = torch.zeros_like(log)
    for user, item in log.nonzero().tolist():
        shares[user, item] = 1 / (log[user].sum() * log[:, item].sum()).sqrt()

    def mixed(parted: list[Tensor]) -> Tensor:
        found = []
        for user in range(USERS):
            weights = torch.stack([torch.exp(made.attention @ (made.attend.weight @ rows[user])) for rows in parted])
            found.append(sum(weight / weights.sum() * rows[user] for weight, rows in zip(weights, parted, strict=True)))
        return torch.stack(found)

    *parted, simple = (gated(users, gate) for gate in made.gates)
    parts, of_users, of_items = [[rows] for rows in parted], [simple], [items]
    for _ in range(made.depth):
        whole = mixed(parted) + simple / 2
        parted = [matrix @ rows for matrix, rows in zip(dense_channels(), parted, strict=True)]
        simple, items = shares @ items, shares.T @ whole
        for layers, rows in zip([*parts, of_users, of_items], [*parted, simple, items], strict=True):
            layers.append(unit(rows))
    return torch.cat([mixed([sum(layers) for layers in parts]) + sum(of_users) / 2, sum(of_items)])


def plain_losses(made: MultiChannelConvolution, objective: MHCN, draws: Draws) -> dict[str, Tensor]:
    """Formulas 11 and 12 of the paper, user by user, as means over users."""
    users, local, whole = made.embedding[:USERS], torch.zeros(()), torch.zeros(())
    for gate, matrix in zip(objective.gates, dense_channels(), strict=True):
        z = gated(users, gate)
        e = matrix @ z
        summary = e.mean(0)
        rows, other_rows, columns = draws.permutation(USERS), draws.permutation(USERS), draws.permutation(DIM)
        for user in range(USERS):
            shuffled = z[rows[user]]
            corrupted = torch.stack([e[other_rows[user], column] for column in columns])
            near, middle, far = z[user] @ e[user], shuffled @ e[user], z[user] @ corrupted
            local = local - torch.log(torch.sigmoid(near - middle)) - torch.log(torch.sigmoid(middle - far))
            whole = whole - torch.log(torch.sigmoid(e[user] @ summary - corrupted @ summary))
    return {"local": objective.weight * local / USERS, "global": objective.weight * whole / USERS}


@pytest.mark.usefixtures("double")
def test_rows_and_losses_of_mhcn_are_the_papers_formulas() -> None:
    torch.manual_seed(2)
    made, objective = encoder(), MHCN(DIM, weight=0.3, l2=0.2)
    with torch.no_grad():
        made.embedding.mul_(10)  # far enough from zero for every sigmoid to matter
    rows, step = plain_rows(made), step_of(made)
    torch.testing.assert_close(made(View({"nodes": torch.arange(USERS + ITEMS)})).rows, rows, rtol=1e-10, atol=1e-12)
    expected = plain_losses(made, objective, step_of(made).draws)
    terms = objective(step_of(made))
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-10, atol=0)
    nodes = batch_nodes(step)[:3]
    same(objective, made, step, {"bpr": bpr(rows, step), "l2": 0.2 * half_squares(made.embedding, *nodes), **expected})


def test_gates_of_mhcn_learn_at_a_rate_of_their_own() -> None:
    made = mhcn(social_log(60, 50), dim=8, map_rate=0.125)
    assert_maps_have_a_rate_of_their_own(made.stages[0].encoder, 0.125, "embedding")


def test_mhcn_learns_and_recommends_without_its_data(tmp_path: Path) -> None:
    source = social_log(300, 200)
    torch.manual_seed(0)
    made = mhcn(source, dim=16, epochs=15, batch_size=256, lr=0.01, l2=1e-3)

    def recall() -> float:
        return score_part(scorer_of(made.embedder.eval(), source.catalogue), source, k=20, part="test")["recall"]

    untrained = recall()
    run = anyview.pretrain(made, tmp_path / "run")
    assert recall() > untrained + 0.08
    ours, theirs = (list(Recommender(one, device="cpu").recommend(k=5)) for one in (run, anyview.load(run.folder.path)))
    assert ours == theirs


def test_mhcn_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: mhcn(social_log(60, 50), dim=8, epochs=2, batch_size=64, look_every=1), tmp_path, step=9)


LOG = Interactions.from_ids([1, 1, 2, 2, 3, 3] * 2, [5, 6, 5, 7, 6, 7, 8, 9, 9, 8, 8, 5])


def test_trust_is_kept_by_a_run_and_says_what_was_left_out() -> None:
    links = Interactions.from_ids(["1", "1", "2", "9", "3"], ["2", "2", "2", "1", "1"])
    source = open_interactions(LOG, split="leave_one_out", trust=links)
    assert source.describe()["left out of trust"] == "1 of users without interactions, 1 to themselves, 1 repeated"
    again = trust_of(Outline("x", source.shape, source.keeps()))
    assert again.toarray().tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    mutual = trust_of(open_interactions(LOG, split="leave_one_out", trust=links, mutual=True))
    assert (mutual != mutual.T).nnz == 0
    with pytest.raises(UserError, match="has no trust between its users beside it"):
        trust_of(open_interactions(LOG, split="leave_one_out"))


def test_what_is_held_out_is_in_no_behaviour_and_parts_are_of_the_target() -> None:
    source = open_interactions("generated-behaviours", target="last")
    each = behaviours_of(source)
    assert list(each) == ["view", "cart", "buy"]
    held_out = sparse.csr_array(source.parts.test.matrix() + source.parts.validation.matrix())
    assert all(not matrix.multiply(held_out).nnz for matrix in each.values())
    assert each["buy"].nnz == len(source.parts.train)
    with pytest.raises(UserError, match="alone and the target"):
        open_interactions("generated-behaviours", target="buy", behaviour="view")


def test_features_trust_and_behaviours_stand_together_and_new_items_join_all_of_them() -> None:
    done = np.array([0, 0, 0, 1, 1, 1] * 2)
    log = Interactions.from_ids([1, 2, 3] * 4, [5, 6, 7, 5, 6, 7, 8, 8, 5, 6, 7, 8], behaviour=done, behaviours=("view", "buy"))
    table = pd.DataFrame({"item": [5, 6, 7, 8, 99], "colour": ["red", "red", "blue", "blue", "red"]})
    asked = {"split": "leave_one_out", "validation": 0, "target": "last", "item_features": table, "new_items": True}
    source = open_interactions(log, trust=Interactions.from_ids([1, 2], [2, 3]), **asked)
    outline = Outline("x", source.shape, source.keeps())
    each = behaviours_of(outline)
    assert {name: matrix.shape for name, matrix in each.items()} == {"view": (3, 5), "buy": (3, 5)}
    assert source.beside.behaviours["view"].shape == (3, 5)
    assert not each["view"].multiply(source.parts.test.matrix()).nnz
    assert trust_of(outline).nnz == 2
    assert [feature.name for feature in SideFeatures.of(outline).items] == [feature.name for feature in source.side.items]
    assert source.fingerprint() != open_interactions(log, **asked).fingerprint()
