"""Full ranking against sorting every list plainly in float64, the worked example, ties, chunks and users who do not count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from anyview.errors import UserError
from anyview_recommenders.baselines.popularity import popularity
from anyview_recommenders.ranking import best, measures, rank, top
from anyview_recommenders.scorer import DotProduct

USERS, ITEMS = 40, 60


class Table:
    """Scores that are given."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def score(self, users: Tensor) -> Tensor:
        return self.scores[users]


def log(density: float, seed: int) -> csr_matrix:
    return csr_matrix(np.random.default_rng(seed).random((USERS, ITEMS)) < density, dtype=np.float32)


def parts() -> tuple[csr_matrix, csr_matrix]:
    """What is seen and what is relevant, apart from each other; user 0 is cold, user 1 has nothing relevant."""
    seen, relevant = log(0.2, 0).toarray(), log(0.1, 1).toarray()
    seen[0], relevant[0, 3], relevant[1] = 0, 1, 0
    return csr_matrix(seen), csr_matrix(relevant * (1 - seen))


def coarse_scores() -> Tensor:
    """Few different numbers, so that many items tie."""
    return torch.from_numpy(np.random.default_rng(2).integers(0, 4, (USERS, ITEMS))).float()


def plain(scores: np.ndarray, seen: np.ndarray, relevant: np.ndarray, k: int) -> dict[str, float]:
    """The measures, one user after another, by sorting all items."""
    found: dict[str, list[float]] = {name: [] for name in ("recall", "precision", "hit_rate", "mrr", "ndcg", "map")}
    shown: list[int] = []
    for user in range(len(scores)):
        wanted = {item for item in range(ITEMS) if relevant[user, item]}
        if not wanted or not seen[user].any():
            continue
        listed = sorted((item for item in range(ITEMS) if not seen[user, item]), key=lambda item: (-scores[user, item], item))[:k]
        hits = [item in wanted for item in listed]
        shown += listed
        found["recall"].append(sum(hits) / len(wanted))
        found["precision"].append(sum(hits) / k)
        found["hit_rate"].append(float(any(hits)))
        found["mrr"].append(1 / (hits.index(True) + 1) if any(hits) else 0.0)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
        found["ndcg"].append(sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit) / ideal)
        found["map"].append(sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit) / min(k, len(wanted)))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    means["coverage"] = len(set(shown)) / ITEMS
    means["popularity"] = float(np.mean(seen.sum(0, dtype=np.float64)[shown]))
    return means


def test_the_worked_example() -> None:
    hits = np.array([[False, True, False, False, True]])
    found = {name: float(value[0]) for name, value in measures(hits, np.array([3]), 5).items()}
    expected = {"recall": 2 / 3, "precision": 0.4, "hit_rate": 1.0, "mrr": 0.5, "ndcg": 0.477624, "map": 0.3}
    assert found == pytest.approx(expected, abs=1e-6)


def test_with_one_relevant_item_ndcg_is_its_discount_and_recall_the_hit_rate() -> None:
    hits = np.eye(4, 5, dtype=bool)
    found = measures(hits, np.ones(4, dtype=np.int64), 5)
    assert found["ndcg"] == pytest.approx(1 / np.log2(np.arange(4) + 2))
    assert found["recall"].tolist() == found["hit_rate"].tolist()


@pytest.mark.parametrize("k", [1, 5, 20, 200])
@pytest.mark.parametrize("scores", [coarse_scores(), torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(3))])
def test_every_measure_is_that_of_sorted_lists(k: int, scores: Tensor) -> None:
    seen, relevant = parts()
    found = rank(Table(scores), seen, relevant, k=[k]).means()
    for name, expected in plain(scores.double().numpy(), seen.toarray(), relevant.toarray(), k).items():
        assert found[f"{name}@{k}"] == pytest.approx(expected, abs=1e-12), name


def test_the_result_does_not_depend_on_how_many_users_are_ranked_at_once() -> None:
    seen, relevant = parts()
    generator = torch.Generator().manual_seed(4)
    scorer = DotProduct(torch.randn(USERS, 8, generator=generator), torch.randn(ITEMS, 8, generator=generator).round(decimals=0))
    whole = rank(scorer, seen, relevant, k=[3, 10])
    for memory in (1, 4 * ITEMS * 7, 4 * ITEMS * USERS):
        parted = rank(scorer, seen, relevant, k=[3, 10], memory=memory)
        assert parted.users.tolist() == whole.users.tolist()
        assert parted.means() == pytest.approx(whole.means(), abs=1e-15)


def test_scores_of_no_more_users_are_asked_for_than_memory_holds() -> None:
    seen, relevant = parts()
    asked: list[int] = []

    class Counting(Table):
        def score(self, users: Tensor) -> Tensor:
            asked.append(len(users))
            return super().score(users)

    rank(Counting(coarse_scores()), seen, relevant, memory=4 * ITEMS * 7 + 3)
    assert max(asked) == 7
    assert sum(asked) == 37


def test_equal_scores_rank_the_smaller_position_first() -> None:
    scores = coarse_scores()
    items, values = best(scores, 9)
    expected = [sorted(range(ITEMS), key=lambda item: (-float(row[item]), item))[:9] for row in scores]
    assert items.tolist() == expected
    assert torch.equal(values, scores.gather(1, items))


@pytest.mark.parametrize("columns", [64 * 12, 64 * 12 + 30])
@pytest.mark.parametrize("values", [3, 40, 10**6])
@pytest.mark.parametrize("k", [1, 7, 11])
def test_the_best_of_long_rows_are_those_of_sorting_them(columns: int, values: int, k: int) -> None:
    scores = torch.randint(values, (50, columns), generator=torch.Generator().manual_seed(values)).double()
    scores[0] = -torch.inf
    scores[1, -30:] = 10.0**7
    items, found = best(scores, k)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    assert torch.equal(items, order)
    assert torch.equal(found, scores.gather(1, order))


def test_popularity_ties_are_settled_by_position() -> None:
    seen = csr_matrix(np.eye(3, 10, dtype=np.float32))
    listed = top(popularity(seen), np.array([0, 1]), seen, 4)[0]
    assert listed.tolist() == [[1, 2, 3, 4], [0, 2, 3, 4]]


def test_the_scores_that_a_model_hands_out_stay_as_they_are() -> None:
    scores = coarse_scores()
    before = scores.clone()
    seen, relevant = parts()
    rank(Table(scores), seen, relevant)
    assert torch.equal(scores, before)


def test_a_list_ends_where_everything_is_seen() -> None:
    seen = csr_matrix(np.array([[1.0, 1, 0, 1]]))
    relevant = csr_matrix(np.array([[0.0, 0, 1, 0]]))
    scorer = Table(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    assert top(scorer, np.array([0]), seen, 3)[0].tolist() == [[2, -1, -1]]
    found = rank(scorer, seen, relevant, k=[3]).means()
    assert (found["recall@3"], found["precision@3"], found["coverage@3"]) == (1.0, pytest.approx(1 / 3), 0.25)


def test_users_without_history_are_counted_and_left_out_unless_asked_for() -> None:
    seen, relevant = parts()
    scorer = Table(coarse_scores())
    known, every = rank(scorer, seen, relevant), rank(scorer, seen, relevant, cold=True)
    assert known.cold == every.cold == 1
    assert sorted({*every.users} - {*known.users}) == [0]
    assert 1 not in every.users


def test_some_of_the_users_who_count_are_ranked_where_that_is_asked_for() -> None:
    seen, relevant = parts()
    scorer = Table(coarse_scores())
    every, some = rank(scorer, seen, relevant), rank(scorer, seen, relevant, users=9)
    assert len(some.users) == 9
    assert set(some.users) < set(every.users)
    own = np.isin(every.users, some.users)
    assert some.each["ndcg@20"].tolist() == every.each["ndcg@20"][own].tolist()
    assert rank(scorer, seen, relevant, users=9).users.tolist() == some.users.tolist()
    assert rank(scorer, seen, relevant, users=100).means() == every.means()


def test_head_and_tail_hold_all_that_is_relevant() -> None:
    seen, relevant = parts()
    found = rank(Table(coarse_scores()), seen, relevant, k=[5], head=0.3)
    popular = np.argsort(-seen.toarray().sum(0), kind="stable")[: round(0.3 * ITEMS)]
    wanted = relevant.toarray()[found.users]
    of_head = wanted[:, popular].sum(1)
    hits = found.each["recall@5"] * wanted.sum(1)
    parts_hit = np.nan_to_num(found.each["recall_head@5"]) * of_head
    parts_hit += np.nan_to_num(found.each["recall_tail@5"]) * (wanted.sum(1) - of_head)
    assert parts_hit == pytest.approx(hits)
    assert np.isnan(found.each["recall_head@5"]).tolist() == (of_head == 0).tolist()


def test_what_cannot_be_ranked_is_told() -> None:
    seen, relevant = parts()
    scores = coarse_scores()
    scores[5, 0] = math.nan
    with pytest.raises(UserError, match="1 of 37 users have scores that are NaN"):
        rank(Table(scores), seen, relevant)
    with pytest.raises(UserError, match="none of 40 users has both a history and relevant items"):
        rank(Table(scores), csr_matrix(seen.shape, dtype=np.float32), relevant)
