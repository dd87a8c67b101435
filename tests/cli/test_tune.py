"""`anyview tune`: the table, JSON, the command to type next, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyview.__main__ import main

QUICK = ["core/pair", "--hidden", "8", "--dim", "4", "--epochs", "1", "--noise", "0.3", "--objective.redundancy", "0.01"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_table_and_then_json_of_the_same_search(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", *QUICK, "--trials", "2", "--by", "linear", "--linear.epochs", "20", "--out", "out"]
    assert main(words) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    for heading in ("rank", "trial", "lr", "weight_decay", "linear on validation", "seconds"):
        assert heading in lines[0]
    assert "noise" not in lines[0]
    assert "redundancy" not in lines[0]
    assert "anyview pretrain --config out/best.yaml --out out-best" in lines[-1]
    assert shown.err == ""
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["number"] for one in told["trials"]] == [int(line.split()[1]) for line in lines[1:3]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--range.lrr", "1..2"], "did you mean 'lr'"),
        (["--range.lr", "2..1"], "from a number to a larger one"),
        (["--range.lr"], "--range.lr was given without a value"),
        (["--trials", "0"], "--trials takes at least 1"),
        (["--by", "liner"], "did you mean 'linear'"),
        (["--trails", "3"], "did you mean '--trials'"),
    ],
)
def test_mistakes_are_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], sentence: str) -> None:
    assert main(["tune", *QUICK, "--out", "out", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_ranges_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "core/pair"]) == 0
    assert "objective.redundancy log:0.0001..0.05" in capsys.readouterr().out
