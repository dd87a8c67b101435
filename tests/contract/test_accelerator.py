"""Every recipe of every installed plugin trains on a device that stands in for a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

from anyview.plugins import host

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
