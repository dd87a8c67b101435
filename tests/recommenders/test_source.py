"""A log as a source: batches of training interactions, nodes as samples, and what a run keeps of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyview.data.source import Epoch, Outline
from anyview.errors import UserError
from anyview.testing import check_source
from anyview_recommenders.catalogue import Catalogue, packed, unpacked
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.generated import generate
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.splits import split

STRANGE = ["007", "7", " 7", "Zoë", "Zoe\u0308", "a b", "", "日本", "\ud800", "x\0"]


def small() -> InteractionSource:
    return InteractionSource("small", split(generate(50, 40), "temporal"))


@pytest.mark.parametrize("batch_size", [None, 64, 100])
def test_it_keeps_the_contract_of_a_source(batch_size: int | None) -> None:
    check_source(small, batch_size=batch_size)


def test_an_epoch_shows_every_training_interaction_once() -> None:
    source = small()
    pairs = [(int(u), int(i)) for batch in source.batches(Epoch(batch_size=64)) for u, i in zip(*batch.data.values(), strict=True)]
    train = source.parts.train
    assert sorted(pairs) == sorted(zip(train.user.tolist(), train.item.tolist(), strict=True))


def test_batches_are_of_nearly_equal_size() -> None:
    sizes = [batch.rows for batch in small().batches(Epoch(batch_size=64))]
    assert max(sizes) <= 64
    assert max(sizes) - min(sizes) <= 1


def test_users_who_have_everything_teach_nothing() -> None:
    log = Interactions.from_ids([1, 1, 1, 2], [5, 6, 7, 5])
    nothing = log.select(np.zeros(4, dtype=bool))
    with pytest.warns(UserWarning, match="1 users of 'full' have every item"):
        source = InteractionSource("full", type(small().parts)(log, nothing, nothing, "given"))
    assert [batch.data["user"].tolist() for batch in source.batches(Epoch())] == [[1]]
    alone = log.select(log.user == 0)
    with (
        pytest.warns(UserWarning, match="1 users"),
        pytest.raises(UserError, match="no training interaction of 'full' is left to learn from"),
    ):
        InteractionSource("full", type(small().parts)(alone, nothing, nothing, "given"))


def test_the_split_counts_interactions_and_is_the_same_for_every_seed() -> None:
    source = small()
    first, other = source.split(0), source.split(7)
    assert [len(part) for part in (first.train, first.validation, first.test)] == [len(part) for part in source.parts.all]
    assert torch.equal(torch.cat([first.train, first.validation, first.test]), torch.arange(len(source.parts.whole())))
    assert torch.equal(first.test, other.test)


def test_raw_features_are_the_best_products_of_their_rank() -> None:
    source = small()
    rows = source.features()
    users, matrix = source.shape["users"], source.parts.train.matrix().toarray()
    left, values, right = np.linalg.svd(matrix)
    rank = rows.shape[1]
    best = (left[:, :rank] * values[:rank]) @ right[:rank]
    np.testing.assert_allclose(rows[:users] @ rows[users:].T, best, atol=1e-4)


def test_a_fingerprint_follows_ids_and_parts() -> None:
    log = generate(50, 40)
    same = InteractionSource("other name", split(generate(50, 40), "temporal"))
    renamed = Interactions(log.user, log.item, np.array([f"{one}x" for one in log.user_ids], dtype=object), log.item_ids, time=log.time)
    prints = {InteractionSource("small", split(other, "temporal")).fingerprint() for other in (log, renamed)}
    prints.add(InteractionSource("small", split(log, "leave_one_out")).fingerprint())
    assert len(prints) == 3
    assert same.fingerprint() in prints


def test_ids_stay_what_they_are_and_become_strings_where_kinds_differ() -> None:
    log = Interactions.from_ids([3, 3, 1], [30, 31, 30])
    assert InteractionSource("ints", split(log, "leave_one_out", validation=0)).ids == [3, 1, 30, 31]
    mixed = Interactions.from_ids(["3", "3", "1"], [30, 31, 30])
    assert InteractionSource("mixed", split(mixed, "leave_one_out", validation=0)).ids == ["3", "1", "30", "31"]


def test_strange_ids_come_back_exactly() -> None:
    ids = np.array(STRANGE, dtype=object)
    assert unpacked(packed("ids", ids), "ids").tolist() == STRANGE
    numbers = np.array([-3, 2**60], dtype=np.int64)
    assert unpacked(packed("ids", numbers), "ids").tolist() == numbers.tolist()


def test_an_outline_gives_the_same_catalogue() -> None:
    source = small()
    whole, loaded = Catalogue.of(source), Catalogue.of(Outline("small", source.shape, source.keeps()))
    assert loaded.user_ids.tolist() == whole.user_ids.tolist()
    for ours, theirs in ((whole.train, loaded.train), (whole.held_out, loaded.held_out), (whole.known, loaded.known)):
        assert (ours != theirs).nnz == 0
    assert whole.known.nnz == len(source.parts.whole())


def test_unknown_ids_and_other_data_are_told() -> None:
    catalogue = Catalogue.of(small())
    assert catalogue.positions(["user-0002", "user-0001"]).tolist() == [1, 0]
    with pytest.raises(UserError, match=r"knows 50 users, such as 'user-0001', .*, and not 'nobody', 'none'; check the spelling"):
        catalogue.positions(["user-0001", "nobody", "none"])
    whole = Catalogue(np.array([7, 12]), catalogue.item_ids, catalogue.train[:2], catalogue.held_out[:2])
    assert whole.positions(["12", 7]).tolist() == [1, 0]
    with pytest.raises(UserError, match="'digits' is no log of interactions"):
        Catalogue.of(Outline("digits", {"features": 64}))


def test_the_generated_log_is_documented_and_the_same_everywhere() -> None:
    source = open_interactions("generated")
    facts = source.describe()
    assert (facts["users"], facts["items"]) == (600, 400)
    counts = np.sort(np.bincount(generate().item))[::-1]
    assert counts[:80].sum() > 0.4 * counts.sum()  # the head fifth of a power law
    assert source.fingerprint() == open_interactions("generated").fingerprint()
