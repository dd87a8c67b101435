"""`anyview plugins`."""

from __future__ import annotations

import json

import pytest

from anyview.cli import plugins as command
from anyview.errors import UserError
from anyview.extras import Extra, Package, extras, requirements
from tests.fake_plugins import FakePlugins, make_fake_plugins  # noqa: F401

LACKING = Extra("anyview", "sound", (Package("torch-sound", ">=2", None, False), Package("numpy", ">=9", "2.0", False)))


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert command.run(list(arguments)) == 0
    return capsys.readouterr().out


def test_json_tells_of_every_plugin(fake_plugins: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    fake_plugins.declare("good", "recipes", {"a": "m:a", "b": "m:b"})
    fake_plugins.add("ill", "1 / 0\n")
    told = json.loads(output(capsys, "--json"))
    plugins = {plugin["name"]: plugin for plugin in told["plugins"]}
    assert next(iter(plugins)) == "core"
    assert plugins["good"] == {
        "name": "good",
        "distribution": "anyview-good",
        "version": "1.0",
        "module": "fake_good",
        "status": "ok",
        "problem": "",
        "adds": {"recipes": 2},
        "misses": [],
    }
    assert plugins["ill"]["status"] == "broken"
    assert "ZeroDivisionError" in plugins["ill"]["problem"]
    assert plugins["ill"]["adds"] == {}
    assert {extra["name"] for extra in told["extras"]} == {extra.name for extra in extras()}


def test_the_table_is_plain_text_no_wider_than_the_pipe(fake_plugins: FakePlugins, capsys: pytest.CaptureFixture[str]) -> None:
    fake_plugins.declare("good", "recipes", {"a": "m:a"})
    fake_plugins.add("ill", "raise RuntimeError('[bold] ' + 'x' * 300)\n")
    text = output(capsys)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120
    good = next(line for line in text.splitlines() if line.startswith("good"))
    assert good.split() == ["good", "anyview-good", "1.0", "ok", "1", "recipe"]
    assert "[bold]" in text


def test_what_an_extra_would_add(fake_plugins: FakePlugins, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "extras", lambda: [LACKING])
    fake_plugins.add("sound", "install = 'anyview[sound]'\n@hookimpl\ndef encoders():\n    return {'a': 'm:a', 'b': 'm:b'}\n")
    told = json.loads(output(capsys, "--json"))
    assert told["extras"] == [
        {
            "name": "sound",
            "install": "anyview[sound]",
            "installed": False,
            "misses": ["torch-sound", "numpy>=9 (found 2.0)"],
            "adds": {"encoders": 2},
        }
    ]
    assert next(plugin for plugin in told["plugins"] if plugin["name"] == "sound")["misses"] == ["torch-sound", "numpy>=9 (found 2.0)"]
    text = " ".join(output(capsys).split())
    assert "sound 2 encoders torch-sound, numpy>=9 (found 2.0) pip install 'anyview[sound]'" in text


def test_an_extra_without_its_plugin_names_the_packages(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "extras", lambda: [LACKING])
    assert "sound torch-sound, numpy torch-sound, numpy>=9 (found 2.0)" in " ".join(output(capsys).split())


def test_a_misspelt_flag_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'--jsn'; did you mean '--json'"):
        command.run(["--jsn"])


def test_extras_are_read_from_the_distribution() -> None:
    found = {extra.name: extra for extra in extras()}
    assert {"graphs", "tables", "tensorboard"} <= set(found)
    assert not {"all", "dev", "docs"} & set(found)
    assert [package.name for package in found["tables"].packages] == ["pandas", "pyarrow"]
    assert found["graphs"].install == "anyview[graphs]"


def test_requirements_are_those_without_extras() -> None:
    found = {package.name: package for package in requirements()}
    assert found["torch"].enough
    assert found["torch"].found
    assert "pandas" not in found
