"""Searches: what trials draw, what they are judged by, that they never see a test part, and that they go on where they stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import anyview
from anyview.data.arrays import ArraySource, digits
from anyview.data.splits import Split
from anyview.errors import UserError
from anyview.evaluation.protocol import Scores, protocol
from anyview.evaluation.protocol_data import ProtocolData
from anyview.evaluation.subject import RawFeatures
from anyview.evaluation.validation import validation_score
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.ranges import Choices, Integers, LogUniform, Uniform
from anyview.recipes.masked import masked
from anyview.recipes.pair import pair
from anyview.tuning import search
from anyview.tuning.judge import ByMetric, ByProtocol, make_judge
from anyview.tuning.space import Space, space_of
from anyview.tuning.trial import Job, Trial, carry_out
from tests.command import start

SMALL: dict[str, Any] = {"hidden": 8, "dim": 4, "layers": 2, "epochs": 1, "batch_size": 64}
SOME = torch.from_numpy(digits().x.numpy()[:300])
LABELS = digits().labels[:300]  # type: ignore[index]


class Published(ArraySource):
    """Rows with a split of their own, so that labels of the test part decide nothing else."""

    def split(self, seed: int) -> Split:
        rows = torch.arange(len(self))
        return Split(rows[:180], rows[180:240], rows[240:], name="public")


def rows(labels: torch.Tensor | None = LABELS) -> Published:
    return Published(SOME, labels, name="some")


def tuned(out: Path, **more: Any) -> anyview.Tuned:
    given: dict[str, Any] = {"data": rows(), "trials": 3, "ranges": {"lr": "1e-2..1", "objective.redundancy": None}, **SMALL, **more}
    return anyview.tune("core/pair", out, **given)


def told(found: anyview.Tuned) -> list[tuple[int, Any, float | None, int | None]]:
    return [(one.trial.number, one.trial.setting, one.trial.score, one.trial.passes) for one in found.trials]


def pair_space(**ranges: Any) -> Space:
    values, _ = pair.resolve({})
    return space_of(pair, values, (), {**dict.fromkeys(pair.ranges), **ranges}, "core/pair")


def test_the_first_trial_is_the_recipe_s_own_and_others_follow_from_seed_and_number() -> None:
    space = pair_space(lr="1e-3..1", **{"objective.redundancy": "1e-3..1e-1"})
    settings = space.settings(0, 6)
    assert settings[0] == {"lr": 0.1, "objective.redundancy": 1 / 256}
    assert space.applied(settings[0]) == space.values
    assert space.settings(0, 3) == settings[:3]
    assert space.settings(1, 6)[1:] != settings[1:]
    alone = pair_space(lr="1e-3..1").settings(0, 6)
    assert [one["lr"] for one in alone] == [one["lr"] for one in settings]  # no other range moves it


def test_options_of_slots_and_components_are_put_in_their_places() -> None:
    space = pair_space(**{"objective.redundancy": "1e-3..1e-1"})
    filled = space.applied(space.settings(0, 2)[1])["objective"]
    assert filled.func is BarlowTwins
    assert filled.keywords == {"width": 256, "redundancy": space.settings(0, 2)[1]["objective.redundancy"]}
    assert space.values["objective"].keywords["redundancy"] == 1 / 256
    space = pair_space(objective="core/vicreg,core/simclr")
    settings = space.settings(0, 3)
    assert settings[0] == {"objective": "core/barlow_twins"}
    assert {space.applied(one)["objective"].__name__ for one in settings[1:]} == {"VICReg", "SimCLR"}


def test_choices_are_read_as_their_flags_are_and_none_is_tried_twice() -> None:
    space = pair_space(clip="null,0.5", layers="2,3")
    assert space.ranges == {"clip": Choices(None, 0.5), "layers": Choices(2, 3)}
    settings = space.settings(0, 100)
    assert len(settings) == 5  # the own values and four pairs
    assert len({json.dumps(one) for one in settings}) == 5


def test_ranges_are_declared_added_narrowed_and_left_out() -> None:
    values, _ = pair.resolve({})
    assert space_of(pair, values, {"lr"}, {}, "core/pair").ranges == {name: one for name, one in pair.ranges.items() if name != "lr"}
    assert "objective.redundancy" not in space_of(pair, values, {"objective"}, {}, "core/pair").ranges
    assert "objective.redundancy" not in space_of(pair, {**values, "objective": anyview_simclr()}, (), {}, "core/pair").ranges
    given = {"lr": "0.1..0.2", "noise": None, "hidden": Integers(8, 64), "objective.width": "64..256"}
    found = space_of(pair, values, (), given, "core/pair").ranges
    assert found["lr"] == LogUniform(0.1, 0.2)  # of the kind that was declared
    assert "noise" not in found
    assert found["objective.width"] == Integers(64, 256)


def anyview_simclr() -> Any:
    from anyview.objectives.simclr import SimCLR

    return SimCLR


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ({"lrr": "1..2"}, "there is no parameter of core/pair to search 'lrr'; did you mean 'lr'"),
        ({"objective.redundanci": "1..2"}, "did you mean 'objective.redundancy'"),
        ({"lr": "2..1"}, "from a number to a larger one"),
        ({"data": "a,b"}, "trials on other data cannot be compared"),
        ({"objective": "core/vicreg,core/nothing"}, "there is no objective 'core/nothing'"),
        ({"layers": "two,three"}, "--layers takes int, and was given 'two'"),
        ({"objective": "core/vicreg,core/simclr", "objective.width": "8..16"}, "leave one of the two out"),
    ],
)
def test_ranges_that_cannot_be_are_refused(ranges: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pair_space(**ranges)


def test_a_recipe_s_ranges_are_checked_when_it_is_declared() -> None:
    with pytest.raises(UserError, match=r"no parameter .in a range of pair. .lrate."):
        anyview_recipe(lrate=Uniform(0, 1))
    with pytest.raises(UserError, match=r"did you mean 'objective.redundancy'"):
        anyview_recipe(**{"objective.redundance": Uniform(0, 1)})
    with pytest.raises(UserError, match="no parameter"):
        anyview_recipe(**{"objective.dim": Integers(1, 2)})


def anyview_recipe(**ranges: Any) -> Any:
    from anyview.recipe import recipe

    return recipe(ranges=ranges)(pair.function)


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


def test_a_collapsed_run_is_no_trial_s_success() -> None:
    class Folder:
        def metrics(self) -> list[dict[str, float]]:
            return [{"loss": 1.0, "standard_deviation": 0.9}, {"loss": 1.0, "standard_deviation": 0.01}]

    class Collapsed:
        folder = Folder()

    with pytest.raises(UserError, match="rows have collapsed"):
        ByMetric("rankme").judged(Collapsed())  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["linear", "logistic", "cluster", "finetune", "core/knn"])
def test_labels_of_the_test_part_decide_nothing(tmp_path: Path, by: str) -> None:
    other = LABELS.clone()
    other[240:] = torch.randint(10, (60,))
    options = {"finetune": {"epochs": 1, "lr": "0.001"}} if by == "finetune" else {}
    first = tuned(tmp_path / "first", by=by, trials=2, options=options)
    assert told(first) == told(tuned(tmp_path / "other", by=by, trials=2, options=options, data=rows(other)))
    other = LABELS.clone()
    other[180:240] = torch.randint(10, (60,))
    assert told(first) != told(tuned(tmp_path / "third", by=by, trials=2, options=options, data=rows(other)))  # those of validation do


def test_the_score_is_the_protocol_s_with_the_validation_part_for_the_test_part() -> None:
    seen: list[ProtocolData] = []

    @protocol(headline="accuracy")
    def looks(data: ProtocolData, seed: int) -> Scores:
        seen.append(data)
        return {"accuracy": data.score(data.labels[data.split.test.numpy()])}

    assert validation_score(RawFeatures(rows()), looks) == 1.0
    (data,) = seen
    assert data.split.train.tolist() == list(range(180))
    assert data.split.test.tolist() == list(range(180, 240))
    assert not len(data.split.validation)
    assert (data.labels[240:] == -1).all()


def test_without_a_validation_part_a_share_of_training_takes_its_place() -> None:
    class Two(Published):
        def split(self, seed: int) -> Split:
            whole = super().split(seed)
            return Split(torch.cat([whole.train, whole.validation]), torch.empty(0, dtype=torch.long), whole.test)

    shown: list[ProtocolData] = []

    @protocol()
    def looks(data: ProtocolData, seed: int) -> Scores:
        shown.append(data)
        return {"accuracy": 0.0}

    validation_score(RawFeatures(Two(SOME, LABELS)), looks)
    parts = shown[0].split
    assert len(parts.train) + len(parts.test) == 240
    assert 40 < len(parts.test) < 56
    assert int(parts.test.max()) < 240


def test_smaller_errors_are_better() -> None:
    pytest.importorskip("pandas")
    assert ByProtocol("heart_rate on validation", protocol="timeseries/heart_rate").goodness(2.0) == -2.0
    assert ByProtocol("linear on validation", protocol="core/linear").goodness(2.0) == 2.0
    assert ByMetric("alpha_req").goodness(0.9) > ByMetric("alpha_req").goodness(1.3)
    assert ByMetric("hubness").goodness(1.0) > ByMetric("hubness").goodness(2.0)


def test_a_metric_without_labels_judges_too(tmp_path: Path) -> None:
    found = tuned(tmp_path / "out", by="rankme", data=rows(None))
    assert found.by == "rankme"
    assert found.best.score == max(one.trial.score for one in found.trials if one.trial.score is not None)
    assert 1 <= found.untrained <= 4


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


def test_every_declared_range_is_of_values_that_its_flag_takes() -> None:
    from anyview.config import Parser
    from anyview.errors import MissingDependencyError
    from anyview.plugins import host

    for component in host().components("recipes"):
        try:
            function = component.load()
        except MissingDependencyError:
            continue
        parser = Parser(function.function, prog=component.full_name)
        for name, one in function.ranges.items():
            for end in one.ends:
                parser.parse([f"--{name.replace('_', '-')}={end}"])


def test_no_recipe_has_a_parameter_that_is_an_option_of_the_command() -> None:
    import inspect

    from anyview.cli import tune as command
    from anyview.errors import MissingDependencyError
    from anyview.plugins import host

    taken = set(inspect.signature(command.options).parameters)
    for component in host().components("recipes"):
        try:
            assert not taken & set(component.load().signature.parameters), component.full_name
        except MissingDependencyError:
            continue


def test_a_judge_is_found_by_name() -> None:
    recipe = pair(data=rows(), **SMALL)
    assert make_judge(None, recipe, {}, "cpu").name == "linear on validation"
    assert make_judge("core/knn", recipe, {"knn": {"k": 3}}, "cpu") == ByProtocol("knn on validation", "cpu", "core/knn", {"k": 3})
    assert dataclasses.is_dataclass(make_judge("nesum", recipe, {}, "cpu"))
    assert search.How().trials == 20
