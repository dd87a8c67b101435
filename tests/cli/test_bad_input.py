"""Every mistake gets one sentence, exit code 2, and loses nothing."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from anyview.__main__ import main
from tests.command import SMALL, anyview

pytest.importorskip("torch_geometric")
QUICK = ["core/pair", *SMALL, "--epochs", "1"]
GRAPH = ["graphs/graphmae", "--hidden", "8", "--heads", "2", "--epochs", "1"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path / "no-data"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence that a command is refused with."""
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    sentences = [line for line in error.splitlines() if line.startswith("anyview: ")]
    assert len(sentences) == 1
    assert "Traceback" not in error
    return sentences[0].removeprefix("anyview: ")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pretran"], ["'pretran'", "'pretrain'", "anyview --help"]),
        (["pretrain", "graphs/graphmea"], ["'graphs/graphmea'", "'graphs/graphmae'", "anyview list recipes"]),
        (["pretrain", "core/pair", "--epoch", "3"], ["'--epoch'", "'--epochs'", "anyview pretrain core/pair --help"]),
        (["pretrain", "core/pair", "--data", "digots"], ["'digots'", "'digits'"]),
        (["pretrain", "graphs/graphmae", "--data", "corra"], ["'corra'", "'cora'"]),
        (["pretrain", "core/pair", "--lr", "fast"], ["--lr", "float", "'fast'"]),
        (["pretrain", "core/pair", "--seed", "1.5"], ["--seed", "int", "'1.5'"]),
        (["pretrain", "core/pair", "--precision", "8"], ["--precision", "'8'", "32-true"]),
        (["pretrain", "core/pair", "--objective", "core/vicrag"], ["'core/vicrag'", "'core/vicreg'", "anyview list objectives"]),
        (["pretrain", "core/pair", "--objective.widht", "8"], ["'widht'", "'width'", "core/barlow_twins"]),
        (["pretrain", "core/pair", "--objective", "graphs/masked_features"], ["MaskedFeatures needs", "masked views", "Pair"]),
        (["pretrain", "core/pair", "--preset", "demmo"], ["'demmo'", "'demo'"]),
        (["pretrain", "core/pair", "--epochs", "0"], ["at least one epoch", "epochs 0"]),
        (["pretrain", "core/pair", "--epochs", "1", "--batch-size", "512", "--accumulate", "9"], ["no step", "accumulate 9"]),
        (["pretrain", "core/pair", "--config", "none.yaml"], ["'none.yaml'", "No such file"]),
        (["pretrain", "core/pair", "--out"], ["--out"]),
        (["pretrain"], ["no recipe was named", "anyview list recipes"]),
        (["pretrain", "graphs/graphmae", "--data", "digits", "--mask-rate", "1.0"], ["mask_rate", "between 0 and 1", "1.0"]),
        (["pretrain", "graphs/graphmae", "--data", "digits", "--mask-rate", "0"], ["mask_rate", "between 0 and 1"]),
        (["pretrain", "graphs/graphmae", "--data", "digits", "--devices", "2"], ["--devices 2", "'digits'", "--devices 1"]),
        (["pretrain", "graphs/graphmae", "--data", "citeseer"], ["citeseer"]),
        (["evaluate", "nowhere"], ["'nowhere'", "anyview pretrain"]),
        (["evaluate", "."], ["holds no run", "recipe.yaml"]),
        (["evaluate", ".", "--protocol", "liner"], ["'liner'", "linear"]),
        (["embed", ".", "--out", "rows.txt"], ["'rows.txt'", ".npy"]),
        (["show", "graphmay"], ["'graphmay'", "graphmae"]),
        (["pretrain", "--resume", "--out", "nowhere"], ["'nowhere'"]),
    ],
)
def test_mistakes_in_words(capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]) -> None:
    sentence = refused(capsys, *words)
    for part in parts:
        assert part in sentence, sentence


def write_graph(path: Path, **changes: object) -> Path:
    """A ring of six nodes with three features, with some of it changed or, where None, left out."""
    ring = np.stack([np.arange(6), np.roll(np.arange(6), -1)])
    content = {"edge_index": ring, "x": np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), **changes}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"edge_index": np.zeros((2, 0), dtype=np.int64)}, ["no edge"]),
        ({"edge_index": np.array([[0, 1], [1, 99]])}, ["99", "6"]),
        ({"edge_index": np.array([[0, 1], [1, -2]])}, ["-2"]),
        ({"x": np.full((6, 3), np.nan, dtype=np.float32)}, ["NaN"]),
        ({"x": None}, ["x"]),
        ({"x": np.zeros((0, 3), dtype=np.float32), "edge_index": np.zeros((2, 0), dtype=np.int64)}, ["(0, 3)"]),
        ({"y": np.arange(4)}, ["4", "6"]),
    ],
)
def test_mistakes_in_a_graph(capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, object], parts: list[str]) -> None:
    sentence = refused(capsys, "pretrain", *GRAPH, "--data", str(write_graph(tmp_path / "ring.npz", **changes)))
    for part in ["ring", *parts]:
        assert part in sentence, sentence
    assert not (tmp_path / "runs").exists()


def test_isolated_nodes_are_told_and_trained_with(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_graph(tmp_path / "ring.npz", edge_index=np.array([[0, 1], [1, 2]]))
    assert main(["pretrain", *GRAPH, "--data", str(path), "--out", "run"]) == 0
    assert "isolated nodes: 3" in capsys.readouterr().err.replace("\n", " ")


def test_an_existing_folder_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert "--overwrite" in refused(capsys, "pretrain", *QUICK, "--out", "out")
    assert "thesis.txt" in refused(capsys, "pretrain", *QUICK, "--out", "out", "--overwrite")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(capsys, "pretrain", *QUICK, "--out", "file")


def test_a_finished_run_is_overwritten_only_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pretrain", *QUICK, "--out", "run"]) == 0
    before = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    assert "--overwrite" in refused(capsys, "pretrain", *QUICK, "--out", "run", "--seed", "1")
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == before
    assert main(["pretrain", *QUICK, "--out", "run", "--seed", "1", "--overwrite"]) == 0
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() != before
    sentence = refused(capsys, "pretrain", "core/pair", "--resume", "--out", "run", "--lr", "0.7")
    assert "lr 0.1" in sentence
    assert "0.7" in sentence


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"recipe": "graphs/graphmay"}, ["'graphs/graphmay'"]),
        ({"recipe": "volumes/alice"}, ["'volumes/alice'", "anyview list recipes"]),
        ({"recipe": None}, ["names no recipe"]),
        ({"parameters": {"epoch": 3}}, ["'epoch'", "'epochs'"]),
        ({"parameters": {"epochs": "many"}}, ["--epochs", "'many'"]),
        ({"parameters": [1]}, ["no mapping"]),
        ({"parametres": {}}, ["'parametres'", "'parameters'"]),
    ],
)
def test_mistakes_in_a_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: dict[str, object], parts: list[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"recipe": "core/pair", "parameters": {}, **change}))
    sentence = refused(capsys, "pretrain", "--config", "recipe.yaml", "--out", "run")
    for part in parts:
        assert part in sentence, sentence
    assert not (tmp_path / "run").exists()


def test_a_truncated_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pretrain", *QUICK, "--out", "run", "--checkpoint-every", "3"]) == 0
    older, newest = sorted((tmp_path / "run" / "checkpoint").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    sentence = refused(capsys, "pretrain", "--resume", "--out", "run")
    assert newest.name in sentence
    assert "step 6" in sentence
    newest.unlink()
    assert main(["pretrain", "--resume", "--out", "run"]) == 0
    older.write_bytes(b"")
    (tmp_path / "run" / "encoder.safetensors").write_bytes(b"short")
    assert "damaged" in refused(capsys, "evaluate", "run")


def test_an_unfinished_run_is_not_evaluated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pretrain", *QUICK, "--out", "run"]) == 0
    (tmp_path / "run" / "encoder.safetensors").unlink()
    assert "--resume" in refused(capsys, "evaluate", "run")


def test_an_unwritable_place(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    sentence = refused(capsys, "pretrain", *QUICK, "--out", "file/run")
    assert "cannot write 'file/run'" in sentence or "is a file" in sentence


def test_a_full_disk_keeps_what_was_saved(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the first checkpoint's file cannot be finished."""
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
    limited = limit + "from anyview.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", limited, "pretrain", *QUICK, "--out", "run"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "recipe.yaml").is_file()
    assert list((tmp_path / "run" / "checkpoint").iterdir()) == []
    assert main(["pretrain", "--resume", "--out", str(tmp_path / "run")]) == 0


def test_a_second_process_does_not_write_the_same_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pretrain", *QUICK, "--out", "run"]) == 0
    with (tmp_path / "run" / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for flags in (["--resume"], ["--overwrite"], []):
            assert "another process" in refused(capsys, "pretrain", *QUICK, "--out", "run", *flags)
    assert main(["evaluate", "run", "--seeds", "1"]) == 0


def test_a_command_line_in_its_own_process(tmp_path: Path) -> None:
    done = anyview("pretrain", "core/pair", "--mask", "1", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
