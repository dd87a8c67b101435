"""Every recipe of every installed plugin trains on a device that stands in for a GPU, and every objective on two of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from anyview.objectives.objective import ObjectiveSlot
from anyview.plugins import Component, host
from anyview.pretrainer import Pretrainer, StepInput
from anyview.testing import run_on_ranks, tiny_batch
from anyview.testing.exactness import own_part
from anyview.testing.standin import DEVICE, standin_device
from anyview.testing.tiny import tiny_stage
from anyview.views.draws import Draws
from tests.contract.test_components import small_objective

ROWS, STEPS = 13, 3
RECIPES = [component.full_name for component in host().components("recipes")]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """Of each recipe, as the command tells it."""
    command = [sys.executable, "-m", "anyview.testing.accelerator", "--own"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == any(verdict.startswith("fails") for *_, verdict in lines)
    return {recipe: verdict for recipe, _, verdict in lines}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(verdicts: dict[str, str], name: str) -> None:
    assert verdicts[name] == "ok" or verdicts[name].startswith("waits at "), verdicts[name]


def losses(make: ObjectiveSlot, device: str) -> list[float]:
    """Of a few steps, in which the objective's state changes and no weight does, on the ranks that there are."""
    torch.manual_seed(0)
    batch = own_part(tiny_batch(ROWS, tokens=make(8).needs.tokens))
    pretrainer = Pretrainer(tiny_stage(make))
    with standin_device() if device == DEVICE else nullcontext():
        shown = []
        for number in range(STEPS):
            draws = Draws.seeded(number, total=ROWS, start=batch.start, rows=batch.rows, device=device)
            shown.append(StepInput(batch.to(device), draws, number, STEPS))
        pretrainer.to(device).prepare(shown[0], ROWS)
        pretrainer.start()
        pretrainer.before_epoch(0, lambda: shown[:1])
        found = []
        for one in shown:
            total = pretrainer(one).total
            total.backward()
            pretrainer.after_step(one.number + 1, STEPS)
            found.append(float(total.detach()))
        return found


@pytest.mark.parametrize("component", host().components("objectives"), ids=lambda component: component.full_name)
def test_objective_on_two_devices(component: Component, elsewhere: Callable[..., Any]) -> None:
    """What it sends to other processes is on the device; NCCL takes nothing else."""
    make = small_objective(component)
    whole = losses(make, "cpu")
    for part in elsewhere(run_on_ranks, losses, 2, make, DEVICE):
        assert part == pytest.approx(whole, rel=1e-4, abs=1e-6)
