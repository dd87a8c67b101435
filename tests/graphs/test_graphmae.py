"""The GraphMAE recipe, whole: presets, order of rows, and what it learns beside its controls."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import anyview
from anyview.__main__ import main
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED
from anyview_graphs.recipes.graphmae import PAPER, TUNED, graphmae

SMALL = {"hidden": 16, "heads": 2, "epochs": 2}


def ring(path: Path, order: np.ndarray) -> Path:
    """A ring of 12 nodes with random features, its nodes written in another order."""
    x = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    place = np.argsort(order)
    edges = np.stack([place, place[(np.arange(12) + 1) % 12]])
    np.savez(path, edge_index=edges, x=x[order])
    return path


def test_rows_come_in_the_inputs_order(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(12)
    plain, shuffled = ring(tmp_path / "plain.npz", np.arange(12)), ring(tmp_path / "shuffled.npz", order)
    anyview.pretrain("graphs/graphmae", tmp_path / "run", data=str(plain), **SMALL)
    run = anyview.load(tmp_path / "run")
    rows = run.embed(str(plain))
    assert rows.shape == (12, 16)
    np.testing.assert_allclose(run.embed(str(shuffled)), rows[order], atol=1e-5)
    assert np.array_equal(run.embed(), rows)


def test_a_preset_applies_by_the_data_sets_name_and_flags_win() -> None:
    values, applied = graphmae.resolve({"data": "cora", "mask_rate": 0.6})
    assert applied == "cora"
    assert (values["epochs"], values["replace_rate"], values["mask_rate"]) == (1500, 0.05, 0.6)
    values, applied = graphmae.resolve({"data": "graphs/Cora"}, preset="quick")
    assert applied == "cora+quick"
    assert (values["epochs"], values["weight_decay"]) == (200, 2e-4)
    values, applied = graphmae.resolve({}, preset="demo")
    assert applied == "digits+demo"
    assert (values["data"], values["norm"], values["epochs"]) == ("digits", "batch", 300)
    values, applied = graphmae.resolve({"data": "my.npz"})
    assert applied is None
    assert (values["hidden"], values["lr"], values["epochs"], values["alpha"]) == (256, 0.005, 200, 2.0)
    assert set(TUNED) == set(PAPER) == {"cora", "citeseer", "pubmed", "ogbn-arxiv", "ppi", "reddit"}


def test_the_command_line_says_which_preset_ran_and_what_was_not_tuned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--hidden", "16", "--heads", "2", "--epochs", "2"]
    assert main(["pretrain", "graphs/graphmae", "--data", "digits", *flags, "--out", str(tmp_path / "digits")]) == 0
    assert "preset digits" in capsys.readouterr().err
    own = ring(tmp_path / "own.npz", np.arange(12))
    assert main(["pretrain", "graphs/graphmae", "--data", str(own), *flags, "--out", str(tmp_path / "own")]) == 0
    assert "not tuned" in re.sub(r"\s+", " ", capsys.readouterr().err)


@pytest.mark.parametrize("kind", ["gat", "gcn", "gin"])
def test_every_encoder_lowers_its_loss(tmp_path: Path, kind: str) -> None:
    values = {"data": "digits", "encoder": kind, "decoder": kind, "hidden": 32, "heads": 2, "epochs": 40}
    run = anyview.pretrain("graphs/graphmae", tmp_path / "run", log_every=1, **values)
    losses = [line["loss"] for line in run.folder.metrics()]
    assert losses[-1] < 0.5 * losses[0]


def test_it_learns_on_cora(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of the preset's epochs at half its width is enough to be far above both controls."""
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    run = anyview.pretrain("graphs/graphmae", tmp_path / "run", data="cora", hidden=256, epochs=200)
    (result,) = run.evaluate(["linear"], seeds=3)
    assert result.split == "public"
    assert result.mean(TRAINED) > result.mean(RANDOM) + 0.03
    assert result.mean(TRAINED) > result.mean(RAW) + 0.2


@pytest.mark.slow
def test_the_preset_reaches_the_papers_accuracy_on_cora(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    assert main(["pretrain", "graphs/graphmae", "--data", "cora", "--out", str(tmp_path / "cora")]) == 0
    assert main(["evaluate", str(tmp_path / "cora"), "--protocol", "linear", "--json"]) == 0
    told = json.loads((tmp_path / "cora" / "evaluation.json").read_text())
    assert told["cora"]["protocols"]["linear"]["results"][TRAINED]["accuracy"]["mean"] >= 0.838
