"""Trust beside a log, motifs against enumeration, products with sparse matrices, and behaviours told apart."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse import csr_matrix

from anyview.data.source import Outline
from anyview.errors import UserError
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, tiny_stage
from anyview.views.view import View
from anyview_recommenders.beside import behaviours_of, trust_of
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.motifs import channels, motifs
from anyview_recommenders.recipes.mhcn import MHCN, MultiChannelConvolution
from anyview_recommenders.sparse_product import SparseMatrix, row_normalised

from .plain import USERS, small_batch, small_log, small_triples


def network(symmetric: bool = False) -> csr_matrix:
    dense = np.random.default_rng(4).random((USERS, USERS)) < 0.6
    np.fill_diagonal(dense, False)
    dense[2], dense[:, 2] = False, False
    return csr_matrix((dense | dense.T if symmetric else dense).astype(np.float32))


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
