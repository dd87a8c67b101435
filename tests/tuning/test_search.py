"""Searches: tables, the best run, budgets and finalists, and that they go on where they stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import anyview
from anyview.errors import UserError
from anyview.recipes.masked import masked
from anyview.recipes.pair import pair
from anyview.tuning.trial import Job, Trial, carry_out
from tests.command import start
from tests.tuning.small_searches import LABELS, SMALL, rows, told, tuned


def test_a_search_keeps_its_table_its_best_run_and_a_configuration(tmp_path: Path) -> None:
    found = tuned(tmp_path / "out")
    scores = [one.trial.score for one in found.trials]
    assert scores == sorted(scores, reverse=True)
    assert (found.by, found.left, found.failed) == ("linear on validation", 0, [])
    assert 0 <= found.untrained <= 1
    kept = {number for number in (0, 1, 2) if (tmp_path / f"out/trial-00{number}/encoder.safetensors").exists()}
    assert kept == {found.best.number}
    assert all((tmp_path / f"out/trial-00{number}/metrics.jsonl").exists() for number in (0, 1, 2))
    assert found.load().record["parameters"]["lr"] == found.values["lr"] == found.best.setting["lr"]
    written = yaml.safe_load(found.config.read_text())
    assert (written["recipe"], written["seed"], written["parameters"]["lr"]) == ("core/pair", 0, found.values["lr"])
    content = json.loads((tmp_path / "out/tuning.json").read_text())
    assert [one["number"] for one in content["trials"]] == [0, 1, 2]
    assert content["ranges"]["lr"] == "log:0.01..1"


def test_the_best_configuration_trains_the_best_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anyview.__main__ import main

    monkeypatch.chdir(tmp_path)
    found = anyview.tune("core/pair", "out", trials=2, data="digits", ranges={"lr": "1e-2..1"}, **SMALL)
    assert main(["pretrain", "--config", str(found.config), "--out", "again"]) == 0
    assert (tmp_path / "again/encoder.safetensors").read_bytes() == (found.run_folder / "encoder.safetensors").read_bytes()


def test_a_search_that_goes_on_gives_the_table_of_one_that_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tuned(tmp_path / "whole", trials=4)
    made: list[int] = []

    def interrupted(job: Job) -> Trial:
        if len(made) == 2:
            (job.folder).mkdir(parents=True)  # what a killed trial leaves behind
            (job.folder / "recipe.yaml").write_text("half")
            raise KeyboardInterrupt
        made.append(job.number)
        return carry_out(job)

    monkeypatch.setattr("anyview.tuning.trial.carry_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "parted", trials=4)
    monkeypatch.setattr("anyview.tuning.trial.carry_out", lambda job: made.append(job.number) or carry_out(job))
    assert told(tuned(tmp_path / "parted", trials=4)) == told(whole)
    assert made == [0, 1, 2, 3]
    assert told(tuned(tmp_path / "parted", trials=4)) == told(whole)
    assert made == [0, 1, 2, 3]  # a finished trial is never made twice
    assert {one.trial.number for one in tuned(tmp_path / "parted", trials=2).trials} == {0, 1}


@pytest.mark.slow
def test_several_processes_give_the_table_of_one(tmp_path: Path) -> None:
    assert told(tuned(tmp_path / "two", jobs=2)) == told(tuned(tmp_path / "one"))


@pytest.mark.slow
def test_a_killed_search_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    flags = ["--hidden", "8", "--epochs", "1000000", "--jobs", "2", "--trials", "3", "--out", "out"]
    process = start("tune", "core/pair", *flags, folder=tmp_path)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("out/trial-*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.kill()
    process.communicate()
    for _ in range(600):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("a trial outlived the search that had asked for it")


def test_a_trial_that_fails_is_kept_with_its_sentence_and_ends_nothing(tmp_path: Path) -> None:
    found = tuned(tmp_path / "out", trials=4, ranges={"lr": None, "noise": None, "weight_decay": None, "clip": "-1,0.5,1"})
    assert [one.setting["clip"] for one in found.failed] == [-1]
    assert "the gradient's largest norm must be above 0" in found.failed[0].error
    assert {one.trial.setting["clip"] for one in found.trials} <= {0.5, 1.0}
    only = {"lr": None, "noise": None, "weight_decay": None}
    with pytest.raises(UserError, match="all 1 trials failed, the first because"):
        tuned(tmp_path / "none", trials=1, ranges=only, clip=None, lr=1e30)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"by": "liner"}, "there is no way to judge trials 'liner'; did you mean 'linear'"),
        ({"by": "transfer"}, "the protocol transfer scores other data"),
        ({"by": "clid"}, "clid compares several runs"),
        ({"by": "validation"}, "takes no validation score of its own on 'some'"),
        ({"data": rows(None)}, "has no labels either; choose by a label-free metric"),
        ({"by": "linear", "options": {"knn": {"k": 3}}}, "options of the protocol 'knn' were given"),
        ({"by": "linear", "options": {"linear": {"lrr": 3}}}, "the protocol linear has no option 'lrr'"),
        ({"trials": 0}, "--trials takes at least 1, and was given 0"),
        ({"jobs": 0}, "--jobs takes at least 1"),
        ({"repeat": -1}, "--repeat takes at least 0"),
        ({"finalists": 1}, "--finalists takes at least 2"),
        ({"budget": 0.0}, "--budget takes seconds above 0"),
        ({"ranges": dict.fromkeys(pair.ranges)}, "nothing of core/pair is left to search"),
        ({"retrain": True}, "--retrain takes the number of epochs that validation chose, and trials are judged by linear on validation"),
        ({"epoch": 3}, "'epoch'; did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tuned(tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_another_search_in_the_folder_is_refused(tmp_path: Path) -> None:
    tuned(tmp_path / "out", trials=1)
    for more, sentence in (
        ({"dim": 5}, "has dim 4, and 5 was asked for"),
        ({"seed": 1}, "has seed 0, and 1 was asked for"),
        ({"by": "rankme"}, "has by 'linear on validation', and 'rankme' was asked for"),
        ({"ranges": {"lr": "1e-2..2", "objective.redundancy": None}}, "the range of lr 'log:0.01..1', and 'log:0.01..2'"),
        ({"data": rows((LABELS + 1) % 10)}, "has data that has changed since"),
        ({"options": {"linear": {"epochs": 3}}, "by": "linear"}, "the option linear None"),
    ):
        with pytest.raises(UserError, match=sentence):
            tuned(tmp_path / "out", trials=1, **more)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has recipe 'core/pair', and 'core/masked' was asked for"):
        anyview.tune("core/masked", tmp_path / "out", trials=1, data=rows(), **SMALL)
    assert masked.ranges
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "mine.txt").write_text("")
    with pytest.raises(UserError, match=r"holds something else than a search \(mine.txt\); choose another --out"):
        tuned(tmp_path / "things")
    (tmp_path / "out" / "tuning.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        tuned(tmp_path / "out")


def test_the_budget_is_of_all_trials_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(job: Job) -> Trial:
        return job.done(job.number / 10, None, 4.0)

    monkeypatch.setattr("anyview.tuning.trial.carry_out", quick)
    found = tuned(tmp_path / "out", trials=9, budget=10)
    assert (len(found.trials), found.left) == (3, 6)
    assert len(tuned(tmp_path / "out", trials=9, budget=10).trials) == 3
    assert len(tuned(tmp_path / "out", trials=9, budget=13).trials) == 4


def test_finalists_are_chosen_among_by_fresh_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {(0, 7): 0.5, (1, 7): 0.9, (2, 7): 0.8, (3, 7): 0.7, (1, 8): 0.4, (1, 9): 0.6, (2, 8): 0.6, (2, 9): 0.7}
    made: list[tuple[int, int]] = []

    def scripted(job: Job) -> Trial:
        made.append((job.number, job.seed))
        return job.done(scores[job.number, job.seed], None, 1.0)

    monkeypatch.setattr("anyview.tuning.trial.carry_out", scripted)
    found = tuned(tmp_path / "out", trials=4, seed=7, repeat=2, finalists=2)
    assert made == list(scores)
    assert [one.trial.number for one in found.trials] == [2, 1, 3, 0]
    assert found.trials[0].fresh == (0.6, 0.7)
    assert (round(found.trials[0].mean, 6), round(found.trials[0].deviation, 6)) == (0.65, 0.070711)
    assert found.values["lr"] == found.trials[0].trial.setting["lr"]
