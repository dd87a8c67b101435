"""Two towers: the encoder, its views and losses against the paper, several processes, and runs that know what nobody has used."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.stats import chisquare
from torch import Tensor

import anyview
from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.recipe import Task
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, check_view_maker, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.evaluations import score_part, scorer_of
from anyview_recommenders.feature_views import ItemPair, UsersWithItems
from anyview_recommenders.features import Feature, SideFeatures
from anyview_recommenders.generated_features import generate_with_features
from anyview_recommenders.item_contrast import ItemContrast, item_contrast_loss
from anyview_recommenders.losses import in_batch_softmax
from anyview_recommenders.mutual_information import correlated_sets, mutual_information
from anyview_recommenders.optimizers import SparseAdam
from anyview_recommenders.owned import Owned
from anyview_recommenders.recipes.lightgcn import lightgcn
from anyview_recommenders.recipes.two_towers import InBatchSoftmax, two_towers
from anyview_recommenders.recommender import Recommender
from anyview_recommenders.source import InteractionSource
from anyview_recommenders.towers import TwoTowers
from tests.small_runs import assert_ends_alike_after_a_stop

SMALL = {"dim": 8, "hidden": 16, "width": 4}
QUICK = {**SMALL, "epochs": 2, "batch_size": 128, "lr": 0.01}


@cache
def source() -> InteractionSource:
    log, items, users = generate_with_features(60, 50, topics=4)
    found = open_interactions(log, item_features=items, user_features=users)
    assert isinstance(found, InteractionSource)
    return found


def side() -> SideFeatures:
    return SideFeatures.of(source())


def matrix() -> csr_matrix:
    return source().parts.train.matrix()


def encoder(**options: object) -> TwoTowers:
    torch.manual_seed(1)
    return TwoTowers(side(), **{**SMALL, "deviation": 1.0, **options})  # type: ignore[arg-type]


def batch(rows: int = 24) -> Batch:
    train = source().parts.train
    index = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:rows]
    data = {"user": torch.from_numpy(train.user)[index], "item": torch.from_numpy(train.item)[index]}
    return Batch(data, rows, index=index)


def category(codes: list[int], size: int) -> Feature:
    return Feature("one", "category", np.arange(len(codes) + 1), np.array(codes), size)


def several(bags: list[list[int]], size: int) -> Feature:
    starts = np.cumsum([0, *map(len, bags)])
    return Feature("some", "list", starts, np.array([code for bag in bags for code in bag]), size)


# Mutual information


def test_mutual_information_is_the_papers_sum() -> None:
    random = np.random.default_rng(0)
    bags = [[random.integers(5, size=random.integers(1, 4)).tolist() for _ in range(40)] for _ in range(3)]
    bags = [[sorted(set(bag)) for bag in feature] for feature in bags]
    found = mutual_information([several(feature, 5) for feature in bags])
    for i, first in enumerate(bags):
        for j, second in enumerate(bags):
            joint = np.zeros((5, 5))
            for one, other in zip(first, second, strict=True):
                for a in one:
                    for b in other:
                        joint[a, b] += 1
            joint /= joint.sum()
            terms = [
                p * np.log(p / (joint[a].sum() * joint[:, b].sum())) for a, row in enumerate(joint) for b, p in enumerate(row) if p > 0
            ]
            assert found[i, j] == pytest.approx(sum(terms), rel=1e-10, abs=1e-12)
    assert np.array_equal(found, found.T)
    assert (found >= 0).all()


def test_with_itself_it_is_the_entropy_and_of_what_is_independent_nothing() -> None:
    first, second = np.divmod(np.arange(24), 6)
    found = mutual_information([category(first.tolist(), 4), category(second.tolist(), 6)])
    assert found[0, 1] == pytest.approx(0.0, abs=1e-12)
    assert (found[0, 0], found[1, 1]) == pytest.approx((np.log(4), np.log(6)), rel=1e-12)
    skewed = category([0, 1, 1, 1], 2)
    assert mutual_information([skewed])[0, 0] == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))


def test_a_duplicated_feature_is_hidden_with_its_twin_whatever_the_seed() -> None:
    """Of four: a feature, its twin, a coarse form of it, and one that says nothing. No other set of two can be above the twins."""
    random = np.random.default_rng(0)
    codes, noise = random.integers(6, size=200), random.integers(3, size=200)
    features = [category(values.tolist(), 6) for values in (codes, codes // 2, noise, codes)]
    sets = correlated_sets(mutual_information(features))
    assert np.array_equal(sets[:, 0], sets[:, 3])
    assert (sets.sum(1) == 3).all()


# Views


def test_views_hide_complementary_features_and_another_set_for_another_batch() -> None:
    maker, count = ItemPair(side().items, "correlated", dropout=0.3), len(side().items)
    seen = set()
    for seed in range(40):
        first, second = maker(batch(), Draws.seeded(seed, total=24)).views
        assert torch.equal(first.data["hidden"], ~second.data["hidden"])
        assert int(first.data["hidden"].sum()) == 1 + count // 2
        assert not torch.equal(first.data["dropped"], second.data["dropped"])
        seen.add(tuple(first.data["hidden"].tolist()))
    assert maker.sets is not None
    assert seen == {tuple(row) for row in maker.sets.tolist()}
    half = ItemPair(side().items, "random")(batch(), Draws.seeded(0, total=24)).views[0].data["hidden"]
    assert int(half.sum()) == count // 2


def test_items_are_drawn_from_the_whole_catalogue_alike() -> None:
    maker = ItemPair(side().items, dropout=0.0)
    counts = np.zeros(maker.items)
    for seed in range(300):
        items = maker(batch(), Draws.seeded(seed, total=24)).views[0].data["items"]
        assert len(items.unique()) == 24
        counts[items.numpy()] += 1
    assert chisquare(counts).pvalue > 0.001
    assert len(maker(batch(), Draws.seeded(0, total=1000)).views[0].data["items"]) == maker.items


@pytest.mark.parametrize("masking", ["correlated", "random", "none"])
def test_ranks_share_the_views_of_one(masking: str) -> None:
    maker = ItemPair(side().items, masking, dropout=0.2)  # type: ignore[arg-type]
    whole = maker(batch(), Draws.seeded(4, total=24)).views
    cuts = [(0, 7), (7, 17)]
    parts = [maker(batch(), Draws.seeded(4, total=24, start=start, rows=rows)).views for start, rows in cuts]
    for number, view in enumerate(whole):
        for name in ("items", "dropped"):
            assert torch.equal(torch.cat([part[number].data[name] for part in parts]), view.data[name])
        if masking != "none":
            assert all(torch.equal(part[number].data["hidden"], view.data["hidden"]) for part in parts)


def test_without_masking_and_dropout_there_is_one_view_twice() -> None:
    first, second = ItemPair(side().items, "none", dropout=0.0)(batch(), Draws.seeded(0, total=24)).views
    assert first is second


def test_the_makers_keep_their_contract() -> None:
    check_view_maker(ItemPair(side().items), batch(), sliced=False)
    check_view_maker(UsersWithItems(side().items), batch(), sliced=False, random=False)
    maker = UsersWithItems(side().items, hide=0.9)
    check_view_maker(maker, batch(), sliced=False)
    hidden = maker(batch(), Draws.seeded(0, total=24)).views[1].data["hidden"]
    assert hidden.any()
    assert not hidden.all(1).any()


def test_fewer_than_three_features_cannot_be_parted() -> None:
    with pytest.raises(UserError, match="need three of them, and items have 2; give a table"):
        ItemPair(side().items[:2])


# Encoder


def plain_row(model: TwoTowers, of_items: bool, thing: int, hidden: set[int], without: int | None = None) -> Tensor:
    """A row by loops over features and values."""
    features = side().items if of_items else side().users
    tower = model.of_items if of_items else model.of_users
    begins = np.cumsum([0, *(feature.size for feature in (*side().items, *(f for f in side().users if f.kind != "history")))])
    tables = [feature.name for feature in side().items] + [f"user {f.name}" for f in side().users if f.kind != "history"]
    means = []
    for number, feature in enumerate(features):
        table = feature.name if of_items else "id" if feature.kind == "history" else f"user {feature.name}"
        codes = feature.codes[feature.starts[thing] : feature.starts[thing + 1]].tolist()
        codes = [code for code in codes if feature.kind != "history" or without is None or code != without + 1]
        rows = [model.table[1 + begins[tables.index(table)] + code] for code in codes]
        means.append(torch.stack(rows).mean(0) if rows and number not in hidden else torch.zeros(model.table.shape[1]))
    row = tower.network(torch.cat(means))
    return row / row.norm()


def test_rows_are_means_of_values_side_by_side_through_the_towers() -> None:
    model, hidden = encoder(), torch.tensor([True, False, False, True, False, False, True])
    items, users = torch.tensor([3, 0, 3, 20]), torch.tensor([5, 1])
    found = model(View({"items": items, "hidden": hidden})).rows
    expected = torch.stack([plain_row(model, True, int(item), {0, 3, 6}) for item in items])
    torch.testing.assert_close(found, expected)
    histories = side().users[1]
    without = torch.tensor([int(histories.codes[histories.starts[user]]) - 1 for user in users.tolist()])
    found = model(View({"users": users, "without": without})).rows
    expected = torch.stack([plain_row(model, False, int(u), set(), int(w)) for u, w in zip(users, without, strict=True)])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, model(View({"users": users})).rows)


def test_nodes_are_users_then_items_in_any_order() -> None:
    model = encoder()
    nodes = torch.tensor([model.users + 4, 3, model.users, 0])
    found = model(View({"nodes": nodes})).rows
    torch.testing.assert_close(found[[1, 3]], model(View({"users": torch.tensor([3, 0])})).rows)
    torch.testing.assert_close(found[[0, 2]], model(View({"items": torch.tensor([4, 0])})).rows)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    check_encoder(encoder(), View({"nodes": torch.arange(model.users + model.items)}))


def test_values_are_lost_of_features_with_several_alone() -> None:
    model = encoder()
    dropped = torch.ones(2, model.of_items.rows.shape[1], dtype=torch.bool)
    words = [feature.name for feature in side().items].index("words")
    found = model(View({"items": torch.tensor([3, 8]), "dropped": dropped})).rows
    torch.testing.assert_close(found, torch.stack([plain_row(model, True, item, {words}) for item in (3, 8)]))


@pytest.mark.parametrize(("options", "size"), [({"hash_size": 6}, None), ({"hash_size": 30, "share_table": True}, 31)])
def test_tables_are_as_small_as_asked(options: dict[str, int], size: int | None) -> None:
    model = encoder(**options)
    whole = encoder()
    assert len(model.table) == size if size else len(model.table) < len(whole.table)
    assert int(max(model.of_items.rows.max(), model.of_users.rows.max())) < len(model.table)
    assert torch.equal(model.of_items.rows == 0, whole.of_items.rows == 0), "values stay values"
    with pytest.raises(UserError, match="needs a size, and hash_size is 0"):
        encoder(share_table=True)


def test_sparse_gradients_are_the_dense_ones_and_lazy_adam_moves_their_rows_alone() -> None:
    views = UsersWithItems(side().items)(batch(6), Draws.seeded(0, total=6)).views
    models = [encoder(sparse=sparse) for sparse in (False, True)]
    for model in models:
        sum(model(view).rows[:, 0].sum() for view in views).backward()  # type: ignore[union-attr]
    dense, sparse = (model.table.grad for model in models)
    assert sparse is not None
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), dense)
    before = models[1].table.detach().clone()
    adam, lazy = torch.optim.Adam(models[0].parameters(), lr=0.1), SparseAdam(models[1].parameters(), lr=0.1)
    adam.step()
    lazy.step()
    for ours, theirs in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    moved = (models[1].table != before).any(1).nonzero().flatten()
    assert set(moved.tolist()) <= set(sparse.coalesce().indices()[0].tolist())


# Losses


def test_the_softmax_is_the_papers_with_log_q_and_without_hits() -> None:
    random = torch.Generator().manual_seed(0)
    q, x = (torch.randn(5, 3, generator=random, dtype=torch.float64) for _ in range(2))
    chances = torch.rand(5, generator=random, dtype=torch.float64).log()
    excluded = torch.rand(5, 5, generator=random) < 0.4
    terms = []
    for i in range(5):
        scores = [float(q[i] @ x[j] / q[i].norm() / x[j].norm()) / 0.2 - float(chances[j]) for j in range(5)]
        total = sum(np.exp(score) for j, score in enumerate(scores) if j == i or not excluded[i, j])
        terms.append(-scores[i] + np.log(total))
    found = float(in_batch_softmax(q, x, 0.2, log_chances=chances, excluded=excluded))
    assert found == pytest.approx(np.mean(terms), rel=1e-10)


def test_contrast_is_the_papers_and_tends_to_the_log_of_the_batch() -> None:
    a, b = (torch.randn(6, 4, dtype=torch.float64) for _ in range(2))
    cosines = (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T
    expected = -torch.log(torch.exp(cosines / 0.3).diagonal() / torch.exp(cosines / 0.3).sum(1)).mean()
    assert float(item_contrast_loss(a, b, 0.3)) == pytest.approx(float(expected), rel=1e-10)
    assert float(item_contrast_loss(a, a, 1e6)) == pytest.approx(np.log(6), abs=1e-5)


def test_who_has_what_is_the_matrix() -> None:
    users, items = torch.tensor([3, 0, 3, 59, 7]), torch.tensor([1, 1, 30, 0, 12, 2])
    dense = torch.from_numpy(matrix().toarray()).bool()
    assert torch.equal(Owned(matrix())(users, items), dense[users][:, items])


def softmax(_dim: int) -> InBatchSoftmax:
    return InBatchSoftmax(matrix(), temperature=0.3)


def pairs(hide: float = 0.0) -> UsersWithItems:
    return UsersWithItems(side().items, hide=hide)


def item_views(dropout: float = 0.2) -> ItemPair:
    return ItemPair(side().items, dropout=dropout)


def both_tasks() -> object:
    stage = tiny_stage(softmax, pairs, encoder)
    views = item_views()
    stage.tasks = [*stage.tasks, Task(views, ItemContrast(8), 0.5), Task(views, BarlowTwins(8, width=8), 0.1)]
    return stage


def test_objectives_keep_their_contract() -> None:
    with pytest.raises(UserError, match="the temperature, which is above 0, and 0 was given"):
        InBatchSoftmax(matrix(), temperature=0.0)
    check_objective(softmax, make_views=pairs, make_encoder=encoder, make_batch=batch)


@pytest.mark.parametrize("rows", [24, 23])
def test_two_processes_are_one(rows: int) -> None:
    check_stage_rank_exact(both_tasks, partial(batch, rows))  # type: ignore[arg-type]


def test_hidden_features_are_the_same_on_two_processes() -> None:
    check_stage_rank_exact(partial(tiny_stage, softmax, partial(pairs, 0.3), encoder), batch)


# Runs


def recall(scorer: object) -> float:
    return score_part(scorer, source(), k=10, part="test")["recall"]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["none", "spread_out", "feature_dropout", "random", "correlated"])
def test_it_learns_to_rank(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    recipe = two_towers(source(), **{**QUICK, "epochs": 12, "self_supervision": kind, "sparse": kind == "correlated"})
    before = recall(scorer_of(recipe.embedder.eval(), source().catalogue))
    anyview.pretrain(recipe, tmp_path / "run")
    assert recall(scorer_of(recipe.embedder.eval(), source().catalogue)) > before + 0.1


def test_any_objective_takes_the_place_of_the_contrast() -> None:
    recipe = two_towers(source(), **QUICK, ssl=partial(BarlowTwins, width=16), weight=0.3)
    assert [type(task.objective).__name__ for task in recipe.stages[0].tasks] == ["InBatchSoftmax", "BarlowTwins"]
    assert recipe.stages[0].tasks[1].weight == 0.3


def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert_ends_alike_after_a_stop(lambda: two_towers(source(), **QUICK, sparse=True, look_every=1), tmp_path, step=3)


def test_a_run_lists_items_that_nobody_has_used_and_needs_no_data(tmp_path: Path) -> None:
    log, items, users = generate_with_features(60, 50, topics=4)
    new = items.iloc[[0]].assign(item="new")
    with_new = open_interactions(log, item_features=pandas.concat([items, new]), user_features=users, new_items=True, validation=0)
    anyview.pretrain(two_towers(with_new, **{**QUICK, "epochs": 6}), tmp_path / "run")
    loaded = anyview.load(tmp_path / "run")
    [lists] = Recommender(loaded, device="cpu").recommend(k=60)
    assert all("new" in items for items in lists.items)
    rows = loaded.embedder.eval()(View({"items": torch.tensor([0, 50])})).rows
    newer = new.assign(item="newer")
    recommender = Recommender(loaded, device="cpu", new_items=pandas.concat([newer, items.iloc[[3]]]))
    torch.testing.assert_close(recommender.scorer.item_rows[51], rows[1])
    [lists] = recommender.recommend(k=60)
    assert all("newer" in items for items in lists.items)


def test_new_items_need_an_encoder_of_features(tmp_path: Path) -> None:
    run = anyview.pretrain(lightgcn(source(), dim=4, layers=0, epochs=1), tmp_path / "run")
    with pytest.raises(UserError, match="reads no features; train recommenders/two_towers"):
        Recommender(run, new_items=generate_with_features(60, 50, topics=4)[1])
