"""Runs on a device that stands in for a GPU, from `pretrain` to a score: they are what they are on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy

from anyview import launch
from anyview.evaluation.result import TRAINED
from anyview.folder import RunFolder
from anyview.launch import Options
from anyview.plugins import host
from anyview.recipe import Recipe
from anyview.testing.standin import DEVICE, standin_device
from anyview.training import pretrain
from tests.small_runs import stop_at

RECIPES = {
    "core/pair": {"preset": "grid", "epochs": 2},
    "images/multicrop": {"preset": "digits", "epochs": 1},
    "graphs/graphmae": {"preset": "grid", "epochs": 3},
    "timeseries/frame_projections": {"preset": "grid", "epochs": 1},
    "recommenders/lightgcl": {"preset": "grid", "epochs": 2},
    "recommenders/sasrec": {"preset": "grid", "epochs": 1},
}
"""One of each plugin: a plain one, one with state, sparse features, several stages, early stopping, attention."""


class StandInAccelerator(CPUAccelerator):
    """The device as Fabric sees it."""

    def setup_device(self, device: torch.device) -> None:
        """There is nothing to set up."""


def on_standin(folder: RunFolder, options: Options) -> Fabric:
    """Fabric on the device."""
    return Fabric(accelerator=StandInAccelerator(), devices=1, strategy=SingleDeviceStrategy(torch.device(DEVICE, 0)))


make_fabric = {"cpu": launch.make_fabric, DEVICE: on_standin}


def lived(name: str, device: str, folder: Path) -> tuple[np.ndarray, float]:
    """Train on a device, stop after the second step and go on, then embed and score there: rows, and the first score of the data's own."""
    with standin_device() if device == DEVICE else nullcontext(), patch("anyview.training.make_fabric", make_fabric[device]):
        stop_at(made(name), folder, 2)
        run = pretrain(made(name), folder, resume=True)
        (result, *_) = run.evaluate(seeds=1, device=device)
        return run.embed(device=device), result.mean(TRAINED)


def made(name: str) -> Recipe:
    """A recipe on little data."""
    torch.manual_seed(0)
    return host().find("recipes", name).load()(**RECIPES[name])


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_is_what_it_is_on_the_cpu(name: str, tmp_path: Path, elsewhere: Callable[..., Any]) -> None:
    here, there = lived(name, "cpu", tmp_path / "cpu"), elsewhere(lived, name, DEVICE, tmp_path / DEVICE)
    assert np.abs(here[0] - there[0]).max() < 0.05 * np.abs(here[0]).max()  # torch takes other kernels there, whose rounding grows
    assert here[1] == pytest.approx(there[1], abs=0.02)
