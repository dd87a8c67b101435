"""Early stopping: the best weights remain, the stage ends when nothing gets better, and an interrupted run ends alike."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from anyview.early_stopping import EarlyStopping
from anyview.encoders.encoder import Encoder
from anyview.errors import UserError
from anyview.folder import RunFolder
from anyview.objectives.vicreg import VICReg
from anyview.recipe import Recipe
from anyview.training import pretrain
from tests.small_runs import assert_same_bits, recipe, stop_at, weights


class Scripted:
    """Scores that are given, one a look, and the encoders' first weights when they were asked for."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores
        self.seen: list[float] = []

    def __call__(self, encoder: Encoder) -> float:
        assert not encoder.training
        assert not torch.is_grad_enabled()
        self.seen.append(float(next(encoder.parameters()).double().sum()))
        return self.scores[len(self.seen) - 1]


class FirstWeight:
    """A score that needs no memory: the encoder's own numbers, the closer to a goal the better."""

    def __init__(self, goal: float) -> None:
        self.goal = goal

    def __call__(self, encoder: Encoder) -> float:
        return -abs(float(next(encoder.parameters()).detach().double().sum()) - self.goal)


def made(score: object, *, every: int = 1, patience: int | None = 2, epochs: int = 6) -> Recipe:
    torch.manual_seed(0)
    stopping = EarlyStopping(score, every=every, patience=patience)  # type: ignore[arg-type]
    return recipe(VICReg(8, width=16), epochs=epochs, early_stopping=stopping)


def test_the_weights_that_scored_best_remain(tmp_path: Path) -> None:
    score = Scripted(0.1, 0.5, 0.3, 0.4)
    run = pretrain(made(score), tmp_path / "run")
    assert len(score.seen) == 4  # two looks without a better one end the stage before its six passes
    kept = float(next(run.embedder.parameters()).detach().double().sum())
    assert kept == score.seen[1]
    saved = weights(tmp_path / "run")
    assert all(torch.equal(saved[name], tensor) for name, tensor in run.embedder.state_dict().items())


def test_without_patience_all_passes_are_made(tmp_path: Path) -> None:
    score = Scripted(*[0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    run = pretrain(made(score, patience=None), tmp_path / "run")
    assert len(score.seen) == 6
    assert float(next(run.embedder.parameters()).detach().double().sum()) == score.seen[0]


def test_looks_are_made_every_few_passes_and_after_the_last_step(tmp_path: Path) -> None:
    score = Scripted(0.1, 0.2, 0.3)
    pretrain(made(score, every=2, epochs=5), tmp_path / "run")
    assert len(score.seen) == 3
    lines = [line for line in RunFolder(tmp_path / "run").metrics() if "validation" in line]
    assert [(line["step"], line["validation"]) for line in lines] == [(6, 0.1), (12, 0.2), (15, 0.3)]


@pytest.mark.parametrize("step", [2, 5, 8])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path, step: int) -> None:
    probe = Scripted(*[0.0] * 6)
    pretrain(made(probe, patience=None), tmp_path / "probe")
    score = FirstWeight(probe.seen[2])  # the third pass is the best, so the fifth is the last of six
    whole = pretrain(made(score), tmp_path / "whole")
    stop_at(made(score), tmp_path / "parted", step)
    pretrain(made(score), tmp_path / "parted", resume=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "parted")
    assert max(int(line["step"]) for line in whole.folder.metrics()) == 15


def test_two_processes_stop_where_one_does_with_the_weights_of_one(tmp_path: Path) -> None:
    probe = Scripted(*[0.0] * 6)
    pretrain(made(probe, patience=None), tmp_path / "probe")
    score = FirstWeight(probe.seen[2])
    for out, devices in (("one", 1), ("two", 2)):
        pretrain(made(score), tmp_path / out, devices=devices, accelerator="cpu")
    one, two = (RunFolder(tmp_path / out).metrics() for out in ("one", "two"))
    assert (
        [line["step"] for line in two if "validation" in line]
        == [line["step"] for line in one if "validation" in line]
        == [3, 6, 9, 12, 15]
    )
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=0, atol=1e-5)


def test_a_run_that_had_ended_stays_as_it_is(tmp_path: Path) -> None:
    score = Scripted(0.1, 0.5, 0.3, 0.4)
    pretrain(made(score), tmp_path / "run")
    before = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    pretrain(made(Scripted()), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == before


def test_a_score_that_is_nan_is_never_the_best() -> None:
    stopping = EarlyStopping(Scripted(), every=1, patience=1)
    assert not stopping.judge(math.nan, {"w": torch.ones(1)})
    assert stopping.over
    encoder = torch.nn.Linear(1, 1)
    before = encoder.weight.detach().clone()
    stopping.restore(encoder)
    assert torch.equal(encoder.weight, before)


def test_what_is_kept_is_a_copy() -> None:
    stopping, weight = EarlyStopping(Scripted()), torch.ones(1)
    stopping.judge(1.0, {"w": weight})
    weight.zero_()
    assert stopping.weights["w"].item() == 1.0


@pytest.mark.parametrize("options", [{"every": 0}, {"patience": 0}])
def test_fewer_than_one_look_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="looks every 1 pass or more and waits 1 look or more"):
        EarlyStopping(Scripted(), **options)
