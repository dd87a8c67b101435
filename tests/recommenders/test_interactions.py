"""Logs: ids that come back, matrices without duplicates, selections that keep positions."""

from __future__ import annotations

import numpy as np

from anyview_recommenders.interactions import Interactions, numbered


def log() -> Interactions:
    return Interactions.from_ids(
        ["z", "a", "z", "a", "z"],
        [30, 30, 10, 20, 30],
        time=np.arange(5.0),
        behaviour=np.array([0, 0, 1, 0, 1]),
        behaviours=("view", "buy"),
    )


def test_ids_are_numbered_by_their_first_appearance() -> None:
    assert log().user_ids.tolist() == ["z", "a"]
    assert log().item_ids.tolist() == [30, 10, 20]
    assert log().user_ids[log().user].tolist() == ["z", "a", "z", "a", "z"]
    assert log().item_ids[log().item].tolist() == [30, 30, 10, 20, 30]


def test_strings_that_differ_stay_apart() -> None:
    words = ["7", "07", " 7", "7 ", "ſ", "s", "Å", "A\u030a", ""]
    positions, ids = numbered(words)
    assert ids.tolist() == words
    assert positions.tolist() == list(range(len(words)))


def test_the_matrix_has_each_pair_once_in_order() -> None:
    matrix = log().matrix()
    assert matrix.toarray().tolist() == [[1, 1, 0], [1, 0, 1]]
    assert matrix.dtype == np.float32
    assert matrix.has_sorted_indices
    assert matrix.nnz == 4


def test_a_selection_keeps_users_items_and_all_columns() -> None:
    chosen = log().select(log().behaviour == 1)
    assert (chosen.users, chosen.items, len(chosen)) == (2, 3, 2)
    assert chosen.time is not None
    assert chosen.time.tolist() == [2.0, 4.0]
    assert chosen.matrix().shape == (2, 3)


def test_unused_users_and_items_lose_their_positions() -> None:
    small = log().select(np.array([False, True, False, True, False])).without_unused()
    assert small.user_ids.tolist() == ["a"]
    assert small.item_ids.tolist() == [30, 20]
    assert small.item.tolist() == [0, 1]


def test_the_summary_says_how_large_and_how_full_it_is() -> None:
    assert log().summary() == {
        "users": 2,
        "items": 3,
        "interactions": 5,
        "density": "66.7 %",
        "items per user": "2/2/2",
        "users per item": "1/1/2",
    }
