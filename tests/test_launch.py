"""How runs are carried out: several processes, precisions, loggers, and what is refused before anything is written."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anyview.__main__ import main
from anyview.errors import UserError
from anyview.folder import RunFolder
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.run import build
from anyview.training import TrainingStoppedError, pretrain
from tests.command import anyview, settings
from tests.small_runs import NaNAfter, recipe, weights

DIGITS = ["core/pair", "--data", "digits", "--epochs", "1", "--accelerator", "cpu"]
"""The command line's own digits recipe, its default objective and precision, 7 steps.

Each step magnifies what rounding leaves, by how much depends on the processor: after 21 steps weights have been 3e-7 apart, and 4e-4.
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """That of one process."""
    folder = tmp_path_factory.mktemp("launch") / "one"
    assert main(["pretrain", *DIGITS, "--out", str(folder)]) == 0
    return RunFolder(folder)


def assert_the_weights_of_one(one: RunFolder, folder: Path) -> None:
    for name, tensor in weights(one.path).items():
        torch.testing.assert_close(weights(folder)[name], tensor, rtol=0, atol=1e-5)


def test_two_processes_train_to_the_weights_of_one(one: RunFolder, tmp_path: Path) -> None:
    done = anyview("pretrain", *DIGITS, "--devices", "2", "--out", "two", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_the_weights_of_one(one, tmp_path / "two")
    logged = [folder.metrics()[-1] for folder in (one, RunFolder(tmp_path / "two"))]
    assert logged[0]["step"] == logged[1]["step"] == 7
    assert logged[0]["rankme"] == pytest.approx(logged[1]["rankme"], rel=1e-4)


def test_nan_is_one_sentence_also_from_two_processes(tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError, match="'broken' became nan at step 2"):
        pretrain(recipe(NaNAfter(1)), tmp_path / "run", devices=2, accelerator="cpu")


def test_the_run_in_memory_is_the_run_on_disk_after_several_processes(tmp_path: Path) -> None:
    run = pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run", devices=2, accelerator="cpu")
    for name, value in run.embedder.state_dict().items():
        assert torch.equal(value, weights(tmp_path / "run")[name])


def test_torchrun(one: RunFolder, tmp_path: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "anyview", "pretrain"]
    done = subprocess.run(
        [sys.executable, *words, *DIGITS, "--out", "two"], cwd=tmp_path, env=settings(None), capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert_the_weights_of_one(one, tmp_path / "two")
    assert len(RunFolder(tmp_path / "two").metrics()) == 7


def test_what_cannot_be_carried_out_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run")
    before = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    for wrong in ({"devices": 0}, {"checkpoint_every": 0}, {"log_every": -1}, {"seed": -1}, {"precision": "8"}, {"accelerator": "abacus"}):
        with pytest.raises(UserError):
            pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run", overwrite=True, **wrong)  # type: ignore[arg-type]
    bad_rate = functools.partial(torch.optim.SGD, lr=-1.0)
    with pytest.raises(UserError, match="refuses its settings"):
        pretrain(recipe(BarlowTwins(8, width=16), optimizer=bad_rate), tmp_path / "run", overwrite=True)
    with pytest.raises(UserError, match="compares or normalises over rows"):
        pretrain(recipe(BarlowTwins(8, width=16), batch_size=1), tmp_path / "run", overwrite=True)
    with pytest.raises(UserError, match="takes no epochs"):
        pretrain(recipe(BarlowTwins(8, width=16)), tmp_path / "run", overwrite=True, epochs=3)
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == before


def test_loggers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    pretrain(build("core/pair", {"epochs": 1, "hidden": 16, "dim": 8}), tmp_path / "run", loggers=("csv", "tensorboard"), log_every=2)
    assert "rankme" in next((tmp_path / "run" / "logs" / "csv").rglob("metrics.csv")).read_text()
    assert list((tmp_path / "run" / "logs" / "tensorboard").rglob("events.out.tfevents*"))
    with pytest.raises(UserError, match="no logger 'excel'"):
        pretrain(build("core/pair", {"epochs": 1}), tmp_path / "other", loggers=("excel",))


def test_mixed_precision_trains(tmp_path: Path) -> None:
    run = pretrain("core/pair", tmp_path / "run", epochs=1, hidden=16, dim=8, precision="bf16-mixed")
    assert all(torch.isfinite(value).all() for value in weights(run.folder.path).values())
