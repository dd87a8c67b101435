"""Sequential recipes from end to end: they learn, stand beside Markov, resume in the same bits, and recommend without their data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import anyview
from anyview.recipe import RecipeFunction
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.evaluations import markov_of, score_part, scorer_of
from anyview_recommenders.generated_walks import walk
from anyview_recommenders.recipes.bert4rec import bert4rec
from anyview_recommenders.recipes.cl4srec import cl4srec
from anyview_recommenders.recipes.dcrec import dcrec
from anyview_recommenders.recipes.duorec import duorec
from anyview_recommenders.recipes.iclrec import iclrec
from anyview_recommenders.recipes.maerec import maerec
from anyview_recommenders.recipes.sasrec import sasrec
from anyview_recommenders.recommender import Recommender
from anyview_recommenders.sequence_source import SequenceSource
from tests.small_runs import assert_ends_alike_after_a_stop

HIDING = {"seeds": 2, "depth": 1, "remask": 4, "edges": 16, "others": 6}
RECIPES = {sasrec: {}, bert4rec: {"epochs": 20}, cl4srec: {}, duorec: {}, iclrec: {"intents": 8}, maerec: HIDING, dcrec: {}}
WALKS = walk(300, 40, interests=4)
SMALL = {"dim": 16, "length": 8, "layers": 1, "heads": 1, "batch_size": 64, "lr": 0.01}


NO_CONTRAST = {"weight": 0.0, "intent": 0.0, "intents": 4}


def log() -> SequenceSource:
    return SequenceSource.of(open_interactions(WALKS.log, split="leave_one_out"), 8)


@pytest.mark.parametrize("make", RECIPES, ids=lambda make: make.__name__)
def test_it_learns_what_comes_next(tmp_path: Path, make: RecipeFunction) -> None:
    source = log()
    torch.manual_seed(0)
    recipe = make(source, **{**SMALL, "epochs": 10, **RECIPES[make]})

    def recall() -> float:
        scorer = scorer_of(recipe.embedder.eval(), source.catalogue, until="validation")
        return score_part(scorer, source, k=5, part="test")["recall"]

    before = recall()
    run = anyview.pretrain(recipe, tmp_path / "run")
    assert recall() > before + 0.15
    users, items = source.shape["users"], source.shape["items"]
    rows = torch.from_numpy(run.embed(device="cpu"))
    assert rows.shape[0] == users + items
    [lists] = Recommender(anyview.load(run.folder.path), device="cpu").recommend(["user-0007"], k=3)
    [ours] = Recommender(run, device="cpu").recommend(["user-0007"], k=3)
    assert lists == ours
    known = set(WALKS.log.item_ids[WALKS.log.item[WALKS.log.user == 6]])
    assert not known & set(lists.items[0])


def test_markov_stands_beside_and_the_validation_part_is_not_read_when_it_is_ranked(tmp_path: Path) -> None:
    run = anyview.pretrain(sasrec(log(), **SMALL, epochs=2), tmp_path / "run")
    [result] = run.evaluate(seeds=1)
    assert list(result.values) == ["trained encoder", "random encoder", "raw features", "Markov", "ItemKNN", "EASE", "ALS", "popularity"]
    [result] = run.evaluate(seeds=1, options={"ranking": {"part": "validation"}})
    scorer = scorer_of(run.embedder.eval(), run.source.catalogue, until="train")
    assert result.mean() == pytest.approx(score_part(scorer, run.source, k=20, part="validation")["recall"])
    plain = score_part(markov_of(run.source, "validation"), run.source, k=20, part="validation")["recall"]
    assert result.mean("Markov") == pytest.approx(plain)


@pytest.mark.parametrize(("make", "options"), [(duorec, {}), (iclrec, {"intents": 8}), (maerec, HIDING), (dcrec, {})])
@pytest.mark.parametrize("step", [3, 6])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path, make: RecipeFunction, options: dict[str, int], step: int) -> None:
    assert_ends_alike_after_a_stop(lambda: make(log(), **SMALL, **options, epochs=2, look_every=1), tmp_path, step=step)


def test_a_contrast_of_weight_zero_leaves_sasrec(tmp_path: Path) -> None:
    losses = []
    for make, own in ((sasrec, {}), (cl4srec, {"weight": 0.0}), (duorec, {"weight": 0.0}), (iclrec, NO_CONTRAST)):
        torch.manual_seed(0)
        run = anyview.pretrain(make(log(), **SMALL, **own, dropout=0.0, epochs=1), tmp_path / make.__name__)
        losses.append(run.embed(device="cpu"))
    for other in losses[1:]:
        assert abs(other - losses[0]).max() < 1e-5
