"""Splits: who is where, in which order, from which seed, and what is said when a part is empty."""

from __future__ import annotations

import numpy as np
import pytest

from anyview.errors import UserError
from anyview_recommenders.generated import generate
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.splits import Parts, SplitName, k_core, split

LOG = generate(80, 60, median=20)
NAMES: tuple[SplitName, ...] = ("leave_one_out", "ratio", "temporal", "global_time", "by_user")


def pairs(part: Interactions) -> set[tuple[int, int]]:
    return set(zip(part.user.tolist(), part.item.tolist(), strict=True))


def counts(part: Interactions) -> np.ndarray:
    return np.bincount(part.user, minlength=part.users)


@pytest.mark.parametrize("how", NAMES)
def test_every_interaction_is_in_one_part(how: SplitName) -> None:
    parts = split(LOG, how)
    assert sum(len(part) for part in parts.all) == len(LOG)
    assert set.union(*map(pairs, parts.all)) == pairs(LOG)
    assert len(parts.validation) > 0
    assert pairs(parts.whole()) == pairs(LOG)


@pytest.mark.parametrize("how", ["leave_one_out", "ratio", "temporal", "by_user"])
def test_every_user_keeps_something_in_training(how: SplitName) -> None:
    few = LOG.select(np.random.default_rng(0).random(len(LOG)) < 0.1).without_unused()
    assert (counts(split(few, how).train) > 0).all()


def test_leave_one_out_takes_the_last_then_the_one_before() -> None:
    parts = split(LOG, "leave_one_out")
    for user in range(LOG.users):
        times = np.sort(LOG.time[LOG.user == user])
        assert parts.test.time[parts.test.user == user].tolist() == [times[-1]]
        assert parts.validation.time[parts.validation.user == user].tolist() == [times[-2]]


def test_without_times_the_order_of_the_log_is_that_of_leave_one_out() -> None:
    log = Interactions.from_ids([1, 1, 1, 2], [9, 8, 7, 9])
    parts = split(log, "leave_one_out")
    assert parts.test.item_ids[parts.test.item].tolist() == [7]
    assert parts.validation.item_ids[parts.validation.item].tolist() == [8]
    assert parts.name.startswith("leave one out, by the order of the log")


def test_of_equal_times_the_larger_item_id_is_later() -> None:
    log = Interactions.from_ids([1, 1, 1], [30, 5, 20], time=np.array([1.0, 1.0, 0.0]))
    assert split(log, "leave_one_out").test.item_ids[split(log, "leave_one_out").test.item].tolist() == [30]


def test_temporal_shares_are_the_first_of_each_user() -> None:
    parts = split(LOG, "temporal", share=0.8, validation=0)
    for user in range(LOG.users):
        before, after = parts.train.time[parts.train.user == user], parts.test.time[parts.test.user == user]
        assert len(before) == max(1, int(0.8 * (len(before) + len(after)) + 1e-9))
        assert not len(after) or before.max() < after.min()


def test_one_moment_parts_the_log() -> None:
    parts = split(LOG, "global_time", share=0.7)
    assert parts.train.time.max() < parts.validation.time.min()
    assert parts.validation.time.max() < parts.test.time.min()


def test_by_user_tests_a_share_of_the_users() -> None:
    parts = split(LOG, "by_user", share=0.75)
    assert len(np.unique(parts.test.user)) == 20


def test_a_ratio_follows_from_its_seed() -> None:
    first, again, other = (split(LOG, "ratio", seed=seed) for seed in (1, 1, 2))
    assert pairs(first.test) == pairs(again.test)
    assert pairs(first.validation) == pairs(again.validation)
    assert pairs(first.test) != pairs(other.test)


def test_validation_is_a_share_of_the_training_part() -> None:
    parts = split(LOG, "temporal", validation=0.1)
    whole = counts(parts.train) + counts(parts.validation)
    assert counts(parts.validation).tolist() == np.minimum(np.floor(0.1 * whole + 0.5), whole - 1).tolist()
    assert not len(split(LOG, "temporal", validation=0).validation)


def test_a_k_core_leaves_users_and_items_with_enough() -> None:
    core = k_core(LOG, 8)
    assert counts(core).min() >= 8
    assert np.bincount(core.item).min() >= 8
    assert k_core(core, 8).arrays()[0].tolist() == core.user.tolist()
    inside = {(core.user_ids[user], core.item_ids[item]) for user, item in pairs(core)}
    assert inside <= {(LOG.user_ids[user], LOG.item_ids[item]) for user, item in pairs(LOG)}


def test_facts_tell_what_a_score_should_be_read_with() -> None:
    log = Interactions.from_ids([1, 1, 2, 3], [5, 6, 5, 7])
    train, test = log.select(np.array([True, True, False, False])), log.select(np.array([True, False, True, True]))
    facts = Parts(train, log.select(np.zeros(4, dtype=bool)), test, "given").facts()
    assert facts == {
        "split": "given: 2/0/3 training/validation/test",
        "test users": 3,
        "test users without training interactions": 2,
        "test interactions with items unseen in training": 1,
        "test pairs that are in training too": 1,
    }


@pytest.mark.parametrize(
    ("how", "options", "sentence"),
    [
        ("temporal", {}, "the split temporal needs times, and the log has none"),
        ("given", {}, "the data has one part only; choose leave_one_out"),
        ("ratio", {"share": 1.2}, "share is 1.2 and validation 0.1; try 0.8 and 0.1"),
        ("leave_one_out", {}, "the test part of the split 'leave one out, by the order of the log' is empty, of 2 interactions of 2 users"),
    ],
)
def test_what_cannot_be_split_is_told(how: SplitName, options: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        split(Interactions.from_ids([1, 2], [5, 5]), how, **options)


def test_a_filter_that_leaves_nothing_is_told() -> None:
    with pytest.raises(UserError, match="so the filter leaves nothing; choose a smaller k_core"):
        k_core(LOG, 1000)
