"""Runs that were killed, stopped or interrupted go on to the same bits."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from anyview.__main__ import main
from anyview.encoders.mlp import MLP
from anyview.folder import RunFolder
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.byol import BYOL
from anyview.recipe import Recipe, Stage, Task
from anyview.training import pretrain
from anyview.views.noise import NoisePair
from tests.command import SMALL, anyview, start
from tests.small_runs import SGD, assert_same_bits, rows, stop_at

BYOL_SLOT = ["--objective", "core/byol", "--objective.hidden", "64"]
BYOL_FLAGS = ["core/pair", *SMALL, *BYOL_SLOT, "--epochs", "30", "--checkpoint-every", "5", "--log-every", "1"]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a teacher, batch norm and momentum, from its first step to its last."""
    folder = tmp_path_factory.mktemp("whole")
    done = anyview("pretrain", *BYOL_FLAGS, "--out", "whole", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "whole"


@pytest.mark.parametrize("trial", range(3))
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, never_stopped: Path, trial: int) -> None:
    process = start("pretrain", *BYOL_FLAGS, "--out", "killed", folder=tmp_path)
    stop_after = random.Random(trial + int(time.time())).randint(1, 150)
    kill_at_step(process.pid, tmp_path / "killed", stop_after)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "encoder.safetensors").exists()
    resumed = anyview("pretrain", "--resume", "--out", "killed", "--log-every", "1", folder=tmp_path)
    assert resumed.returncode == 0, f"killed after step {stop_after}: {resumed.stderr}"
    assert_same_bits(never_stopped, tmp_path / "killed")
    losses = [[(line["step"], line["loss"]) for line in RunFolder(folder).metrics()] for folder in (never_stopped, tmp_path / "killed")]
    assert losses[0] == losses[1]


def kill_at_step(process: int, folder: Path, step: int) -> None:
    """kill -9 as soon as the metrics have reached `step`."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        logged = RunFolder(folder).metrics()
        if logged and logged[-1]["step"] >= step:
            os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.002)
    raise AssertionError("the run did not reach the step")


@pytest.mark.parametrize("devices", ["1", "2"])
def test_sigterm_finishes_the_step_saves_and_leaves(tmp_path: Path, devices: str) -> None:
    flags = ["core/pair", *SMALL, "--epochs", "15", "--log-every", "1", "--devices", devices]
    process = start("pretrain", *flags, "--out", "stopped", folder=tmp_path)
    while len(RunFolder(tmp_path / "stopped").metrics()) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    _, error = process.communicate()
    assert process.returncode == 130
    assert "go on with --resume" in error
    assert main(["pretrain", "--resume", "--out", str(tmp_path / "stopped"), "--devices", devices]) == 0
    assert main(["pretrain", *flags, "--out", str(tmp_path / "whole")]) == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_killed_between_stages_resumes(tmp_path: Path) -> None:
    def made() -> Recipe:
        torch.manual_seed(0)
        encoder = MLP(12, hidden=16, dim=8, layers=2)
        stages = [
            Stage([Task(NoisePair(0.3), BarlowTwins(8, width=16))], encoder, epochs=2, batch_size=32, optimizer=SGD, name="first"),
            Stage([Task(NoisePair(0.3), BYOL(8, hidden=16, width=8))], encoder, epochs=2, batch_size=32, optimizer=SGD, name="second"),
        ]
        return Recipe(source=rows(), stages=stages, embedder=encoder)

    pretrain(made(), tmp_path / "whole")
    for step in (6, 8):  # the first stage's last step, and the second's second
        stop_at(made(), tmp_path / f"part{step}", step)
        pretrain(made(), tmp_path / f"part{step}", resume=True)
        assert_same_bits(tmp_path / "whole", tmp_path / f"part{step}")
