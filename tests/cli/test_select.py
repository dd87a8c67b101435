"""`anyview select`: the table, JSON, flags between folders, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import anyview
from anyview.__main__ import main
from anyview.cli.select import divide

SMALL = {"epochs": 1, "hidden": 16, "dim": 6}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("select")
    for name, rate in (("slow", 0.001), ("fast", 0.1)):
        anyview.pretrain("core/pair", folder / name, lr=rate, **SMALL)
    return [str(folder / name) for name in ("slow", "fast")]


def test_the_table_says_what_differs_and_how_sure_it_is(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", *runs, "--halves", "50", "--samples", "500"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    for phrase in ("rank", "run", "settings that differ", "rankme", "95 % interval", "untrained"):
        assert phrase in lines[0]
    assert {line.split()[0] for line in lines[1:3]} == {"1", "2"}
    assert {"slow", "fast"} == {line.split()[1] for line in lines[1:3]}
    assert "lr 0.001" in text
    assert "hidden" not in text
    assert "encoder rows of the training data" in text
    assert "is the best with probability" in text
    assert "participation_ratio agrees with Kendall's tau" in text


def test_json_has_everything(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--metric", "lidar", "--second", "rankme", "--views", "4", "--halves", "20", "--json"]
    assert main(["select", runs[0], *words, runs[1], "--samples=100"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["metric"], told["second"], told["halves"]) == ("lidar", "rankme", 20)
    assert "augmented views" in told["rows"]
    first = told["runs"][0]
    assert first["interval"][0] < first["value"] < first["interval"][1]
    assert first["samples"] == 100
    assert first["parts"]["signal_ratio"] > 2
    assert first["settings"]["lr"] in (0.001, 0.1)
    assert 0 <= told["probability"] <= 1


def test_folders_and_flags_may_stand_in_any_order() -> None:
    words = ["a", "--metric", "lidar", "b", "--json", "c", "--seed=3", "--no-json", "d"]
    assert divide(words, {"json"}) == (["a", "b", "c", "d"], ["--metric", "lidar", "--json", "--seed=3", "--no-json"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "none was named"),
        (["{0}"], "1 was given"),
        (["{0}", "{0}"], "was named twice"),
        (["{0}", "nowhere"], "there is no folder 'nowhere'"),
        (["{0}", "{1}", "--metric", "rankm"], "did you mean 'rankme'"),
        (["{0}", "{1}", "--second", "rankme"], "both are rankme"),
        (["{0}", "{1}", "--metrik", "rankme"], "did you mean '--metric'"),
        (["{0}", "{1}", "--metric", "alpha_req"], "alpha_req does not exist for its 1797 rows of width 6"),
        (["{0}", "{1}", "--halves", "3"], "--halves takes at least 20"),
        (["{0}", "{1}", "--halves", "many"], "--halves takes int"),
        (["{0}", "{1}", "--device", "gpu"], "there is no device 'gpu' here"),
    ],
)
def test_mistakes_are_one_sentence(runs: list[str], capsys: pytest.CaptureFixture[str], words: list[str], sentence: str) -> None:
    assert main(["select", *(word.format(*runs) for word in words)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_an_unfinished_run_is_refused(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "recipe.yaml").write_text(Path(runs[0], "recipe.yaml").read_text())
    assert main(["select", runs[0], str(unfinished)]) == 2
    assert "has not finished training" in capsys.readouterr().err


def test_help_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "--help"]) == 0
    assert "--halves" in capsys.readouterr().out
