"""A day of six channels at 100 Hz is trained on and embedded in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import settings
from tests.fake_plugins import FakePlugins, make_fake_plugins  # noqa: F401
from tests.timeseries.test_commands import RECIPE

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "recording.py"


def measured(fake_plugins: FakePlugins, folder: Path, *words: str) -> list[dict]:
    """What the benchmark measures with a small encoder."""
    pytest.importorskip("pyarrow")
    fake_plugins.write("fake_series_recipe", RECIPE)
    fake_plugins.declare("trial", "recipes", {"small": "fake_series_recipe:small"})
    command = [sys.executable, str(SCRIPT), "--json", "--recipe", "trial/small", "--folder", str(folder), *words]
    environment = settings({"PYTHONPATH": str(fake_plugins.folder)})
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_a_few_minutes_in_every_format(fake_plugins: FakePlugins, tmp_path: Path) -> None:
    found = measured(fake_plugins, tmp_path / "data", "--hours", "0.1", "--formats", "npy", "parquet")
    assert [(one["format"], one["command"]) for one in found] == [
        ("npy", "pretrain"),
        ("npy", "embed"),
        ("parquet", "pretrain"),
        ("parquet", "embed"),
    ]


@pytest.mark.slow
def test_a_day(fake_plugins: FakePlugins, tmp_path: Path) -> None:
    for one in measured(fake_plugins, tmp_path / "data", "--formats", "npy", "csv", "parquet"):
        assert one["memory"] < 2000, f"{one['command']} of the {one['format']} file held {one['memory']} MB"
