"""A finished run: load, embed in order, evaluate beside controls, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import anyview
from anyview.__main__ import main
from anyview.data.arrays import ArraySource, digits
from anyview.errors import UserError
from anyview.folder import RunFolder

VALUES = {"epochs": 2, "hidden": 32, "dim": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> anyview.Run:
    return anyview.pretrain("core/pair", tmp_path_factory.mktemp("runs") / "digits", **VALUES)


def test_a_loaded_run_embeds_like_the_one_in_memory(trained: anyview.Run) -> None:
    loaded = anyview.load(trained.folder.path)
    assert np.array_equal(loaded.embed("digits"), trained.embed())
    assert loaded.record == trained.record
    assert loaded.recipe.values["data"] == "digits"


def test_rows_come_in_the_inputs_order(trained: anyview.Run) -> None:
    x = digits().x.numpy()
    order = np.random.default_rng(0).permutation(len(x))
    whole, shuffled = trained.embed(x), trained.embed(x[order])
    np.testing.assert_allclose(shuffled, whole[order], atol=1e-5)
    np.testing.assert_allclose(trained.embed(x[5:6]), whole[5:6], atol=1e-5)


def test_a_run_is_loaded_without_its_data(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32))
    anyview.pretrain("core/pair", tmp_path / "run", data=str(path), batch_size=32, **VALUES)
    path.unlink()
    loaded = anyview.load(tmp_path / "run")
    assert loaded.embed(np.zeros((3, 5))).shape == (3, 8)
    with pytest.raises(UserError, match="rows"):
        loaded.embed()


def test_other_shapes_are_refused(trained: anyview.Run) -> None:
    with pytest.raises(UserError, match=r"reads 64 features, and the data .* has 5"):
        trained.embed(np.zeros((3, 5)))


def test_evaluation_stands_beside_its_controls_and_is_saved(trained: anyview.Run) -> None:
    results = trained.evaluate(("linear", "knn"), seeds=2, options={"linear": {"epochs": 20}})
    assert [result.protocol for result in results] == ["linear", "knn"]
    saved = json.loads(trained.folder.evaluation_file.read_text())["digits"]
    linear = saved["protocols"]["linear"]
    assert set(linear["results"]) == {"trained encoder", "random encoder", "raw features", "majority class"}
    assert linear["options"]["epochs"] == 20
    assert len(linear["results"]["random encoder"]["accuracy"]["values"]) == 2
    assert saved["label_free"]["samples"] == 1797
    random = linear["results"]["random encoder"]["accuracy"]["values"]
    assert random[0] != random[1]
    trained.evaluate(("cluster",), seeds=1)
    assert set(trained.folder.evaluations()["digits"]["protocols"]) == {"linear", "knn", "cluster"}


def test_no_labels_is_one_sentence(trained: anyview.Run) -> None:
    bare = ArraySource(np.random.default_rng(0).normal(size=(10, 64)), name="bare")
    with pytest.raises(UserError, match="needs labels"):
        trained.evaluate(["linear"], data=bare)
    assert trained.evaluate(data=bare) == []
    assert trained.folder.evaluations()["bare"]["label_free"]["samples"] == 10


def test_export_carries_the_record(trained: anyview.Run, tmp_path: Path) -> None:
    path = trained.export(tmp_path / "encoder.safetensors")
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["anyview"])["recipe"] == "core/pair"
        assert torch.equal(file.get_tensor("last.bias"), trained.embedder.state_dict()["last.bias"])
    with pytest.raises(UserError, match="exists"):
        trained.export(path)
    with pytest.raises(UserError, match=r"\.onnx"):
        trained.export(tmp_path / "encoder.onnx")


def test_changed_data_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    x = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    np.savez(path, x=x)
    anyview.pretrain("core/pair", tmp_path / "run", data=str(path), batch_size=32, **VALUES)
    np.savez(path, x=x + 1)
    with pytest.warns(UserWarning, match="fingerprint differs"):
        anyview.load(tmp_path / "run").embed()
    with pytest.raises(UserError, match="changed since"):
        anyview.pretrain("core/pair", tmp_path / "run", data=str(path), batch_size=32, resume=True, **VALUES)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_embed_writes_rows_with_ids(trained: anyview.Run, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "rows.npz", tmp_path / f"out{suffix}"
    x, ids = digits().x.numpy()[:20], np.array([f"s{number}" for number in range(20)])
    np.savez(data, x=x, ids=ids)
    assert main(["embed", str(trained.folder.path), "--data", str(data), "--out", str(out)]) == 0
    assert "20 rows of 8 numbers" in capsys.readouterr().out
    if suffix == ".npy":
        rows = np.load(out)
    elif suffix == ".npz":
        rows = np.load(out)["rows"]
        assert np.array_equal(np.load(out)["ids"], ids)
    else:
        pandas = pytest.importorskip("pandas")
        table = pandas.read_parquet(out)
        assert list(table["id"]) == list(ids)
        rows = table.drop(columns="id").to_numpy()
    np.testing.assert_allclose(rows, trained.embed(x), atol=1e-6)
    assert main(["embed", str(trained.folder.path), "--data", str(data), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_recipe_file_repeats_the_run(trained: anyview.Run, tmp_path: Path) -> None:
    assert main(["pretrain", "--config", str(trained.folder.recipe_file), "--out", str(tmp_path / "again")]) == 0
    assert RunFolder(tmp_path / "again").encoder_file.read_bytes() == trained.folder.encoder_file.read_bytes()
    assert main(["pretrain", "--config", str(trained.folder.recipe_file), "--out", str(tmp_path / "longer"), "--epochs", "3"]) == 0
    assert RunFolder(tmp_path / "longer").read_recipe()["parameters"]["epochs"] == 3


def test_evaluate_prints_a_table_and_json(trained: anyview.Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(trained.folder.path), "--seeds", "2", "--protocol", "linear,cluster", "--linear.epochs", "10"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "majority" in table
    assert "rankme" in table
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"] == "digits"
    assert set(told["protocols"]) == {"linear", "cluster"}
    assert told["protocols"]["linear"]["options"]["epochs"] == 10
    assert main(["evaluate", str(trained.folder.path), "--knn.k", "3"]) == 2
    assert "add it to --protocol" in capsys.readouterr().err


def test_show_describes_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "core/pair"]) == 0
    text = capsys.readouterr().out
    assert "--batch-size" in text
    assert "presets" in text
    for name in ("core/vicreg", "linear", "core/noise", "mlp"):
        assert main(["show", name]) == 0
    assert "covariance" in capsys.readouterr().out
