"""The commands on time series: options of the data from the command line, recordings on disk, and one sentence for every mistake."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anyview.__main__ import main
from tests.command import command, settings
from tests.fake_plugins import FakePlugins, make_fake_plugins  # noqa: F401

pandas = pytest.importorskip("pandas")

RECIPE = """
    from __future__ import annotations
    from functools import partial
    from typing import Any
    import torch
    from anyview.encoders.mlp import MLP
    from anyview.objectives.vicreg import VICReg
    from anyview.recipe import Recipe, Stage, Task, recipe
    from anyview.views.noise import NoisePair
    from anyview_timeseries.datasets import open_series

    @recipe(views=NoisePair)
    def small(data: str = "chirps", *, reading: dict[str, Any] | None = None, epochs: int = 1, batch_size: int = 64) -> Recipe:
        '''Noise on windows.

        Args:
            data: windows
            reading: how data is read
            epochs: passes
            batch_size: windows per step
        '''
        source = open_series(data, **(reading or {}))
        encoder = MLP(source.shape["channels"] * source.shape["length"], hidden=16, dim=8, layers=2)
        task = Task(NoisePair(0.5), VICReg(8, width=8))
        stage = Stage([task], encoder, epochs, partial(torch.optim.Adam, lr=1e-3), batch_size=batch_size)
        return Recipe(source=source, stages=[stage], embedder=encoder)
"""
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _plugin(fake_plugins: FakePlugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_plugins.write("fake_series_recipe", RECIPE)
    fake_plugins.declare("trial", "recipes", {"small": "fake_series_recipe:small"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYVIEW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    def run(*words: str | Path) -> str:
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        sentences = [line for line in error.splitlines() if line.startswith("anyview: ")]
        assert len(sentences) == 1
        assert "Traceback" not in error
        return sentences[0]

    return run


def trained(*words: str | Path, out: str = "run") -> None:
    assert main(["pretrain", "trial/small", *map(str, words), "--out", out]) == 0


def test_a_recording_is_trained_on_and_embedded_window_by_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).normal(size=(6000, 3)).astype(np.float32)
    np.save("walk.npy", values)
    trained("--data", "walk.npy", "--reading.length", "100", "--reading.step=50", "--reading.rate", "50")
    capsys.readouterr()
    assert main(["embed", "run", "--out", "rows.parquet"]) == 0
    assert capsys.readouterr().err == "", "embedding is not quiet in a pipe"
    table = pandas.read_parquet("rows.parquet")
    assert table.shape == (119, 9)
    assert table["id"].tolist()[:3] == ["0", "1", "2"]
    np.save("other.npy", values[:1000])
    assert main(["embed", "run", "--data", "other.npy", "--out", "other.npy.npz"]) == 0
    found = np.load("other.npy.npz")
    np.testing.assert_allclose(found["rows"], table.drop(columns="id").to_numpy()[:19], atol=1e-5)
    assert main(["embed", "run", "--out", "rows.npy"]) == 0
    np.testing.assert_allclose(np.load("rows.npy"), table.drop(columns="id").to_numpy(), atol=1e-6)


def test_a_run_is_resumed_and_loaded_with_the_options_of_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    trained("--data", "chirps", "--reading.target", "3", "--reading.scale", "window")
    capsys.readouterr()
    assert main(["evaluate", "run", "--protocol", "logistic,rbf_svm", "--seeds", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["protocols"]["logistic"]["split"] == "subject 3 is the test part, the probe learns from all others"
    assert {"log spectrum", "tapered spectrum", "statistics + spectrum"} <= set(told["protocols"]["rbf_svm"]["results"])
    assert told["protocols"]["logistic"]["sizes"]["test"] == 40
    assert any("MiniRocket" in warning for warning in told["protocols"]["logistic"]["warnings"]) or (
        "MiniRocket" in told["protocols"]["logistic"]["results"]
    )


def test_scores_of_numbers_have_their_unit_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    np.savez("beats.npz", X=random.normal(size=(90, 1, 100)), y=random.integers(60, 90, 90), subject=np.arange(90) // 10, fs=25.0)
    trained("--data", "beats.npz")
    assert main(["evaluate", "run", "--protocol", "heart_rate", "--seeds", "1", "--heart_rate.epochs", "5"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "mae, bpm" in text
    assert "mean" in text
    assert "spectral" in text


def test_embedding_tells_how_far_it_is_on_a_terminal(tmp_path: Path) -> None:
    np.save("walk.npy", np.random.default_rng(0).normal(size=(4000, 2)))
    trained("--data", "walk.npy", "--reading.length", "100")
    leader, follower = pty.openpty()
    environment = {**settings({"TERM": "xterm", "PYTHONPATH": str(tmp_path / "site")}), "COLUMNS": "200"}
    words = command("embed", "run", "--out", "rows.npy")
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=follower, stdout=subprocess.PIPE, text=True)
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "40 rows of 8 numbers are in rows.npy" in out
    assert b"40/40" in shown
    assert b"rows/s" in shown


def table(**more: object) -> object:
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(400, 2)), columns=["ax", "ay"])
    frame.insert(0, "time", np.arange(400) / 20)
    return frame.assign(**more)


@pytest.mark.parametrize(
    ("frame", "words", "parts"),
    [
        (
            table(ax=[np.nan] * 30 + [1.0, 2.0] * 185),
            ["--reading.length=50"],
            ["missing values: 30 of 800", "--reading.missing interpolate"],
        ),
        (table(ay=3.0), ["--reading.length=50"], ["hold one value throughout (ay)", "--reading.constant drop"]),
        (table(), ["--reading.length=5000"], ["windows of 5000 steps were asked for", "choose a length of 400 or less"]),
        (
            table(time=[*np.arange(200) / 20, *(10 + np.arange(200) / 10)]),
            ["--reading.length=50"],
            ["mixed sampling rates", "20 Hz", "10 Hz", "--reading.resample HZ"],
        ),
        (table(), ["--reading.length=50", "--reading.label=activity"], ["the label column 'activity'", "has time, ax, ay"]),
        (table(time=np.arange(400)[::-1]), ["--reading.length=50"], ["do not grow everywhere", "sort the file by time"]),
        (table(), ["--reading.lenght=50"], ["no option of the data", "'lenght'", "did you mean 'length'"]),
        (table(), ["--reading.length=50", "--reading.missing=fill"], ["refuse, interpolate, mask", "'fill'"]),
        (table(), ["--reading.length=50", "--reading.channels=az"], ["the channel 'az'", "it has ax, ay"]),
        (table(), ["--reading.length=50", "--reading.target=3"], ["has no subjects", "--reading.subject"]),
    ],
)
def test_mistakes_are_one_sentence(refused: Refused, frame: object, words: list[str], parts: list[str]) -> None:
    frame.to_csv("walk.csv", index=False)  # type: ignore[attr-defined]
    sentence = refused("pretrain", "trial/small", "--data", "walk.csv", *words, "--out", "run")
    for part in parts:
        assert part in sentence


def test_a_split_with_one_class_or_too_few_subjects_is_one_sentence(refused: Refused) -> None:
    random = np.random.default_rng(0)
    x, subject = random.normal(size=(60, 1, 30)), np.arange(60) // 20
    np.savez("mine.npz", X=x, y=(subject == 2).astype(int), subject=subject)
    trained("--data", "mine.npz", "--reading.target", "2")
    assert "holds one class, and a probe needs at least 2" in refused("evaluate", "run", "--protocol", "logistic", "--seeds", "1")
    np.savez("two.npz", X=x, y=np.arange(60) % 2, subject=np.minimum(subject, 1))
    trained("--data", "two.npz", out="two")
    assert "has 2 subjects, and a split that keeps them apart needs 3" in refused("evaluate", "two", "--seeds", "1")
    np.savez("none.npz", X=x)
    trained("--data", "none.npz", out="none")
    assert "needs labels, and the data has none" in refused("evaluate", "none", "--protocol", "logistic", "--seeds", "1")
