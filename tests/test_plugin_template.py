"""The plugin that authors copy: installed as its own distribution, it is found and trains."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

TEMPLATE = Path(__file__).resolve().parents[1] / "examples" / "plugin_template"


class Environment:
    """A fresh virtual environment that also sees the packages of the running one, so that torch is not installed twice."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        paths = {"base": str(folder), "platbase": str(folder)}
        self.site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
        shown = "".join(f"import site; site.addsitedir({path!r})\n" for path in site_packages())
        (self.site / "running_environment.pth").write_text(shown)

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """`python -m ...` in the environment; stdout and stderr as text."""
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        variables.pop("PYTHONPATH", None)
        command = [str(self.python), "-m", *arguments]
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)

    def json(self, *arguments: str, cwd: Path) -> Any:
        """What a command prints as JSON."""
        ran = self.run(*arguments, cwd=cwd)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def site_packages() -> list[str]:
    """Where the running interpreter's packages lie; addsitedir reads the .pth files there, so editable installs are seen too."""
    return list(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the template installed from a copy, so that building it leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("template")
    source = folder / "plugin_template"
    shutil.copytree(TEMPLATE, source)
    environment = Environment(folder / "venv")
    ran = environment.run("pip", "install", "--no-deps", "--no-build-isolation", "--prefix", str(folder / "venv"), str(source), cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return environment


def test_it_is_found_with_all_that_it_adds(environment: Environment, tmp_path: Path) -> None:
    told = environment.json("anyview", "plugins", "--json", cwd=tmp_path)
    template = next(plugin for plugin in told["plugins"] if plugin["name"] == "template")
    assert template["status"] == "ok"
    assert (template["distribution"], template["version"]) == ("anyview-template", "0.1.0")
    assert template["adds"] == {"views": 1, "encoders": 1, "recipes": 1}


def test_its_components_load(environment: Environment, tmp_path: Path) -> None:
    rows = environment.json("anyview", "list", "--pattern", "template/", "--json", cwd=tmp_path)
    assert {row["name"] for row in rows} == {"template/hidden_columns", "template/two_layers", "template/dropout_pair"}
    assert all(row["summary"] and not row["problem"] for row in rows)


def test_it_serves_objectives_over_two_views(environment: Environment, tmp_path: Path) -> None:
    rows = environment.json("anyview", "list", "objectives", "core/barlow_twins", "--for", "template", "--json", cwd=tmp_path)
    assert [row["fits"] for row in rows] == [{"template/hidden_columns": []}]


def test_it_trains(environment: Environment, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = environment.run(
        "anyview", "pretrain", "template/dropout_pair", "--data", "digits", "--out", str(out), "--epochs", "2", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    record = yaml.safe_load((out / "recipe.yaml").read_text())
    assert record["recipe"] == "template/dropout_pair"
    assert (out / "encoder.safetensors").stat().st_size > 0
    assert (out / "checkpoint").is_dir()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2 * (1797 // 256)
    assert math.isfinite(lines[-1]["loss"])


def test_a_misspelt_flag_of_its_recipe_gets_the_nearest(environment: Environment, tmp_path: Path) -> None:
    ran = environment.run("anyview", "pretrain", "template/dropout_pair", "--rat", "0.1", "--out", str(tmp_path / "run"), cwd=tmp_path)
    assert ran.returncode == 2
    assert "--rate" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "run").exists()


def test_its_recipe_stands_in_a_scikit_learn_pipeline(environment: Environment, tmp_path: Path) -> None:
    script = tmp_path / "pipeline_of_the_template.py"
    script.write_text(
        "from sklearn.datasets import load_digits\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import Pipeline\n"
        "import anyview.sklearn\n"
        "x, y = load_digits(return_X_y=True)\n"
        'ssl = anyview.sklearn.SelfSupervised("template/dropout_pair", parameters={"epochs": 3})\n'
        'pipeline = Pipeline([("ssl", ssl), ("clf", LogisticRegression(max_iter=500))]).fit(x[:1000] / 16, y[:1000])\n'
        "print((pipeline.predict(x[1000:] / 16) == y[1000:]).mean())\n"
    )
    ran = environment.run("pipeline_of_the_template", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) > 0.8
