from __future__ import annotations

import torch

from anyview.encoders.encoder import Encoding
from anyview_recommenders.batch_nodes import all_nodes, encode_batch, encode_nodes, parts, select
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.objectives import BPR, ranked

from .plain import DIM, ITEMS, USERS, batch_nodes, small_log, step_of


def encoder() -> LightGraphConvolution:
    torch.manual_seed(0)
    return LightGraphConvolution(small_log(), DIM)


def test_each_user_and_item_of_a_batch_comes_once() -> None:
    made = encoder()
    step = step_of(made)
    users, items = encode_nodes(step)
    triples, same_users, same_items = encode_batch(step)
    whole = all_nodes(step)
    positives, others = batch_nodes(step)[1:3]
    *_, unique_users, unique_items = batch_nodes(step)
    assert len(unique_users) < step.batch.rows
    assert set(unique_items) != set(positives) | set(others)  # negatives take no part
    assert torch.equal(users.rows, whole.rows[unique_users])
    assert torch.equal(items.rows, whole.rows[unique_items])
    assert torch.equal(items.layers[2], whole.layers[2][unique_items])
    assert torch.equal(users.rows, same_users.rows)
    assert torch.equal(items.rows, same_items.rows)
    assert torch.equal(triples.rows, whole.rows[step.set.role("triples")[0].data["nodes"]])


def test_a_view_of_the_nodes_may_be_on_another_graph() -> None:
    made = encoder()
    other = LightGraphConvolution(small_log()[:, torch.randperm(ITEMS).numpy()], DIM)
    users, _ = encode_nodes(step_of(made), adjacency=other.adjacency)
    assert not torch.allclose(users.rows, encode_nodes(step_of(made))[0].rows)


def test_an_encoding_is_cut_and_selected_with_its_layers() -> None:
    encoding = Encoding(torch.arange(5.0)[:, None], layers=[torch.arange(5.0)[:, None] + 10])
    first, second = parts(encoding, [2, 3])
    assert (first.rows.flatten().tolist(), second.layers[0].flatten().tolist()) == ([0, 1], [12, 13, 14])
    assert select(encoding, torch.tensor([4, 0])).layers[0].flatten().tolist() == [14, 10]


def test_ranked_triples_are_bpr_and_may_leave_the_lengths_of_negatives_free() -> None:
    made = encoder()
    step = step_of(made)
    triples, *_ = encode_batch(step)
    found, expected = ranked(triples, 0.1), BPR(DIM, l2=0.1)(step)
    assert found.keys() == expected.keys() == {"bpr", "l2"}
    assert all(torch.equal(found[name], expected[name]) for name in found)
    users, items, *_ = batch_nodes(step)
    lengths = made.embedding.square().sum(1)
    half = 0.1 * (lengths[users].sum() + lengths[items].sum()) / 2 / step.batch.rows
    torch.testing.assert_close(ranked(triples, 0.1, others=False)["l2"], half)
    assert ranked(triples, 0.0).keys() == {"bpr"}
    assert len(made.embedding) == USERS + ITEMS
