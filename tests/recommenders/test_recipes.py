"""LightGCN from end to end: it learns, loads without its data, and recommends with the log's own ids."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

import anyview
from anyview.__main__ import main
from anyview.data.source import Batch
from anyview.errors import UserError
from anyview.objectives.objective import Step
from anyview.testing import check_encoder, check_objective, check_stage_rank_exact, check_view_maker, tiny_stage
from anyview.views.draws import Draws
from anyview.views.view import View
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.encoders import LightGraphConvolution
from anyview_recommenders.evaluations import ValidationScore
from anyview_recommenders.generated import generate
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.objectives import BPR
from anyview_recommenders.recipes.lightgcn import lightgcn
from anyview_recommenders.recommender import Recommender
from anyview_recommenders.views import Triples
from tests.small_runs import assert_ends_alike_after_a_stop

LOG = generate(60, 50)
MATRIX = LOG.matrix()
QUICK = {"dim": 8, "layers": 2, "epochs": 3, "batch_size": 256, "lr": 0.02}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> anyview.Run:
    return anyview.pretrain(lightgcn(open_interactions(LOG), **QUICK), tmp_path_factory.mktemp("runs") / "run")


def batch(rows: int = 12) -> Batch:
    index = torch.randperm(len(LOG), generator=torch.Generator().manual_seed(0))[:rows]
    data = {"user": torch.from_numpy(LOG.user)[index], "item": torch.from_numpy(LOG.item)[index]}
    return Batch(data, rows, index=index)


def encoder(dim: int = 8, layers: int = 2) -> LightGraphConvolution:
    torch.manual_seed(1)
    return LightGraphConvolution(MATRIX, dim, layers=layers)


def test_rows_are_the_mean_of_dense_products() -> None:
    ours, (users, items) = encoder(layers=3), MATRIX.shape
    whole = torch.zeros(users + items, users + items, dtype=torch.float64)
    whole[:users, users:] = torch.from_numpy(MATRIX.toarray())
    whole = whole + whole.T
    scale = whole.sum(1).clamp(min=1).rsqrt()
    rows = ours.embedding.detach().double()
    layers = [rows]
    for _ in range(3):
        layers.append((scale[:, None] * whole * scale) @ layers[-1])
    nodes = torch.tensor([3, 0, users, users + items - 1])
    found = ours(View({"nodes": nodes}))
    torch.testing.assert_close(found.rows.double(), torch.stack(layers).mean(0)[nodes], atol=1e-6, rtol=0)
    for ours_layer, theirs in zip(found.layers, layers, strict=True):
        torch.testing.assert_close(ours_layer.double(), theirs[nodes], atol=1e-6, rtol=0)
    torch.testing.assert_close(LightGraphConvolution.pooled(ours, found.layers), found.rows)


def test_no_layers_are_matrix_factorisation() -> None:
    ours = encoder(layers=0)
    nodes = torch.tensor([5, 2, 70])
    assert torch.equal(ours(View({"nodes": nodes})).rows, ours.embedding[nodes])


def test_the_encoder_and_the_views_keep_their_contracts() -> None:
    check_encoder(encoder(), View({"nodes": torch.arange(20)}))
    maker = Triples(MATRIX)
    check_view_maker(maker, batch(), sliced=False)
    whole = maker(batch(), Draws.seeded(3, total=12)).views[0].data["nodes"].view(3, 12)
    part = Batch({name: value[5:] for name, value in batch().data.items()}, 7, 5, 12)
    assert torch.equal(maker(part, Draws.seeded(3, start=5, rows=7, total=12)).views[0].data["nodes"].view(3, 7), whole[:, 5:])
    for user, item in zip(whole[0].tolist(), (whole[2] - MATRIX.shape[0]).tolist(), strict=True):
        assert not MATRIX[user, item]


def test_bpr_is_the_papers_formula_with_short_embeddings() -> None:
    ours, views = encoder(), Triples(MATRIX)(batch(), Draws.seeded(0, total=12))
    objective = BPR(8, l2=0.3)
    losses = objective(Step(views, batch(), Draws.seeded(0, total=12), 0, 1, ours))
    user, item, other = ours(views.views[0]).rows.detach().double().chunk(3)
    assert float(losses["bpr"].detach()) == pytest.approx(float(softplus(-(user * item).sum(1) + (user * other).sum(1)).mean()), abs=1e-6)
    embeddings = ours.embedding.detach().double()[views.views[0].data["nodes"]]
    assert float(losses["l2"].detach()) == pytest.approx(0.3 * float(embeddings.square().sum()) / 2 / 12, abs=1e-6)


def test_bpr_keeps_the_contract_of_an_objective() -> None:
    check_objective(BPR, make_views=lambda: Triples(MATRIX), make_encoder=encoder, make_batch=batch)


def test_the_length_is_of_the_batch_alone() -> None:
    ours, views = encoder(layers=0), Triples(MATRIX)(batch(), Draws.seeded(0, total=12))
    BPR(8, l2=1.0)(Step(views, batch(), Draws.seeded(0, total=12), 0, 1, ours))["l2"].backward()
    assert ours.embedding.grad is not None
    touched = ours.embedding.grad.abs().sum(1).nonzero().flatten()
    assert touched.tolist() == views.views[0].data["nodes"].unique().tolist()


def test_it_learns_to_rank_and_keeps_its_best_look(tmp_path: Path) -> None:
    source = open_interactions(LOG)
    run = anyview.pretrain(lightgcn(source, dim=16, epochs=40, batch_size=256, lr=0.02, look_every=2, patience=4), tmp_path / "run")
    [result] = run.evaluate(seeds=1)
    assert result.protocol == "ranking"
    assert list(result.values) == ["trained encoder", "random encoder", "raw features", "ItemKNN", "EASE", "ALS", "popularity"]
    assert result.mean() > result.mean("random encoder") + 0.1
    looks = [line["validation recall@20"] for line in run.folder.metrics() if "validation recall@20" in line]
    run.embedder.eval()
    with torch.no_grad():
        assert ValidationScore(source)(run.embedder) == pytest.approx(max(looks))


def test_a_run_is_loaded_and_recommends_without_its_data(trained: anyview.Run) -> None:
    loaded = anyview.load(trained.folder.path)
    ours, theirs = (list(Recommender(run, device="cpu").recommend(k=5)) for run in (trained, loaded))
    assert ours == theirs
    [lists] = ours
    assert lists.users == LOG.user_ids.tolist()
    known = {(LOG.user_ids[user], LOG.item_ids[item]) for user, item in zip(LOG.user, LOG.item, strict=True)}
    for user, items in zip(lists.users, lists.items, strict=True):
        assert len(items) == len(set(items)) == 5
        assert not known & {(user, item) for item in items}


def test_embeddings_have_the_ids_of_users_then_of_items(trained: anyview.Run) -> None:
    rows = trained.embed()
    assert rows.shape == (LOG.users + LOG.items, 8)
    assert trained.source.ids == [*LOG.user_ids.tolist(), *LOG.item_ids.tolist()]
    assert np.array_equal(anyview.load(trained.folder.path).fresh_encoder().adjacency.columns, trained.embedder.adjacency.columns)


def test_without_a_validation_part_all_epochs_are_made(tmp_path: Path) -> None:
    recipe = lightgcn(open_interactions(LOG, validation=0), **QUICK)
    assert recipe.stages[0].early_stopping is None
    run = anyview.pretrain(recipe, tmp_path / "run")
    assert run.folder.metrics()[-1]["step"] == 3 * recipe.source.steps(256)
    with pytest.raises(UserError, match="the validation part of 'given' is empty"):
        run.evaluate(["ranking"], seeds=1, options={"ranking": {"part": "validation"}})


@pytest.mark.parametrize("step", [3, 7])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path, step: int) -> None:
    assert_ends_alike_after_a_stop(lambda: lightgcn(open_interactions(LOG), **{**QUICK, "look_every": 1}), tmp_path, step=step)


def strange_log(path: Path) -> Path:
    """A log whose users are strings with spaces and leading zeros; one of them is in the test part alone."""
    path.mkdir()
    rows = [f"{user},{item}\n" for user, name in enumerate(LOG.user_ids) for item in LOG.item_ids[LOG.item[LOG.user == user]] if name]
    train = [row.replace(f"{user},", f"00{user} ü,", 1) for row in rows for user in [row.partition(",")[0]]]
    (path / "train.csv").write_text("user,item\n" + "".join(train[::2]), encoding="utf-8")
    (path / "test.csv").write_text("user,item\n" + "".join(train[1::2]) + "newcomer,item-0001\n", encoding="utf-8")
    return path


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    data = strange_log(tmp_path / "log")
    small = ["--dim", "8", "--layers", "1", "--epochs", "2"]
    assert main(["pretrain", "recommenders/lightgcn", "--data", str(data), "--reading.validation", "0.2", *small, "--out", "run"]) == 0
    assert main(["evaluate", "run", "--seeds", "1", "--protocol", "ranking", "--ranking.k", "5"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "k 5, part test" in text
    assert "split given, last 20 % of training for validation" in text
    assert "ItemKNN" in text
    some = ["--ranking.users", "40", "--baselines", "none"]
    assert main(["evaluate", "run", "--seeds", "1", "--protocol", "ranking", "--json", *some]) == 0
    result = json.loads(capsys.readouterr().out)["protocols"]["ranking"]
    assert list(result["results"]) == ["trained encoder", "random encoder", "raw features", "popularity"]
    assert result["results"]["popularity"]["users"]["values"] == [40]
    for file in data.iterdir():
        file.unlink()
    assert main(["recommend", "run", "--user", "001 ü", "--user=newcomer", "--k", "3", "--json"]) == 0
    told = capsys.readouterr()
    first, second = json.loads(told.out)
    assert (first["user"], first["by"], len(first["items"])) == ("001 ü", "model", 3)
    assert (second["user"], second["by"], len(second["items"])) == ("newcomer", "popularity", 3)
    assert main(["recommend", "run", "--user", "newcomer"]) == 0
    told = capsys.readouterr()
    assert "no training interactions of 'newcomer': their list is what is popular" in told.err
    assert "newcomer" in told.out
    (tmp_path / "users.txt").write_text("002 ü\n001 ü\n", encoding="utf-8")
    assert main(["recommend", "run", "--users", "users.txt", "--k", "4", "--out", "some.parquet"]) == 0
    assert main(["recommend", "run", "--users", "all", "--k", "4", "--out", "all.parquet"]) == 0
    pandas = pytest.importorskip("pandas")
    some, every = pandas.read_parquet("some.parquet"), pandas.read_parquet("all.parquet")
    assert some["user"].drop_duplicates().tolist() == ["002 ü", "001 ü"]
    assert some["rank"].tolist() == [1, 2, 3, 4] * 2
    assert every["user"].nunique() == 61
    assert some[some["user"] == "001 ü"]["item"].tolist()[:3] == [entry["item"] for entry in first["items"]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--user", "nobody"], "knows 60 users, such as 'user-0001', 'user-0002', 'user-0003', and not 'nobody'"),
        (["--user", "user-0001", "--k", "0"], "a list has at least 1 item, and k is 0"),
        ([], "takes --user ID or --users FILE, and neither was given"),
        (["--user", "user-0001", "--users", "all"], "and both was given"),
        (["--users", "nowhere.txt"], "the users cannot be read from 'nowhere.txt'"),
        (["--users", "all", "--out", "lists.csv"], "ends in '.csv', and recommendations are written as .parquet"),
    ],
)
def test_mistakes_are_one_sentence(trained: anyview.Run, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str) -> None:
    assert main(["recommend", str(trained.folder.path), *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_run_on_other_data_recommends_nothing(tmp_path: Path) -> None:
    run = anyview.pretrain("core/pair", tmp_path / "run", epochs=1, hidden=16, dim=6)
    with pytest.raises(UserError, match="'digits' is no log of interactions, and a recommender was asked for"):
        Recommender(run)


@pytest.mark.parametrize(("ranks", "rows"), [(2, 12), (3, 11)])
def test_bpr_is_the_same_on_several_ranks(ranks: int, rows: int) -> None:
    check_stage_rank_exact(partial(tiny_stage, BPR, views, encoder), partial(batch, rows), ranks=ranks)


def views() -> Triples:
    return Triples(MATRIX)


def test_a_log_in_memory_is_given_by_name_alone() -> None:
    assert isinstance(LOG, Interactions)
    assert open_interactions(LOG).place is None
