"""Steps of the recipes on a device that stands in for a GPU: all is on the device, and the host waits for nothing that it need not know."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anyview.testing.grid import objectives
from anyview_images.views import AUGMENTATIONS

WAITS = {
    "core/mixed_barlow_twins": {"mix.py"},  # one number per step seeds numpy's Beta: torch's takes no generator
    "core/myow": {"myow.py"},  # how many rows other ranks have, and whether each row has a candidate
    "core/w_mse": {"w_mse.py"},  # whether rows can be whitened is told by name, not by NaN
    "core/i_jepa": {"blocks.py", "view.py"},  # the length of the shortest context in the batch
    "core/ibot": {"ibot.py", "backward"},  # every sample hides another number of tokens
    "core/masked_columns": {"masked_columns.py", "backward"},  # as do masks over entries of tables
    "timeseries/temporal_contrast": {"temporal_contrast.py"},  # how many tokens of a view are summed up
}
"""Objectives that let the host wait in a step for what their data decide, and the files in which they do; backward: in torch's own."""


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """What was found, by what was tried; in a process of its own, because the device stays."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.images.standin"]
    done = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


def test_every_augmentation_is_made_on_the_device(verdicts: dict[str, str]) -> None:
    tried = [*(f"augmentation {name}" for name in AUGMENTATIONS), "style", "masked crops"]
    assert {what: verdicts[what] for what in tried} == dict.fromkeys(tried, "ok")


@pytest.mark.parametrize("name", objectives())
def test_every_objective_steps_on_the_device(verdicts: dict[str, str], name: str) -> None:
    found = {what: verdict for what, verdict in verdicts.items() if what.startswith("images/") and what.split(" ")[1] == name}
    if not found:
        pytest.skip("no recipe of images takes it")
    for verdict in found.values():
        assert verdict == "ok" or verdict.startswith("waits at "), verdict
        assert set(re.findall(r"[\w.]+py|backward", verdict)) == WAITS.get(name, set())
