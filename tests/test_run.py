"""A finished run: load, embed in order, evaluate beside controls, export."""

from __future__ import annotations

import json
import shutil
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
from anyview.recipes.pair import pair

VALUES = {"epochs": 2, "hidden": 32, "dim": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> anyview.Run:
    return anyview.pretrain("core/pair", tmp_path_factory.mktemp("runs") / "digits", **VALUES)


def test_a_loaded_run_embeds_like_the_one_in_memory(trained: anyview.Run) -> None:
    loaded = anyview.load(trained.folder.path)
    assert np.array_equal(loaded.embed("digits"), trained.embed())
    assert loaded.record == trained.record
    assert loaded.recipe.values["data"] == "digits"


def test_the_projector_comes_back_from_the_checkpoint(trained: anyview.Run, tmp_path: Path) -> None:
    encoder, objective = trained.recipe.stages[-1].encoder.eval(), trained.recipe.stages[-1].tasks[0].objective.eval()
    assert objective.projector is not None
    view = next(iter(trained.source.clean(32)))
    with torch.no_grad():
        expected = objective.projector(encoder(view).rows)
        found = anyview.load(trained.folder.path).projected_encoder().eval()(view).rows
        fresh = trained.fresh_projected_encoder().eval()(view).rows
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(fresh, expected)
    shutil.copytree(trained.folder.path, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoint"))
    with pytest.raises(UserError, match="checkpoint, which is gone"):
        anyview.load(tmp_path / "copy").projected_encoder()


def test_an_objective_without_a_projector_says_so(tmp_path: Path) -> None:
    run = anyview.pretrain("core/masked", tmp_path / "run", data="digits", hidden=16, dim=8, epochs=1)
    with pytest.raises(UserError, match="without a projector of its own"):
        run.projected_encoder()


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


class Named(ArraySource):
    """Rows that a run cannot be used without the names of, and that are scored by something else than a probe."""

    protocols = ("knn",)

    def keeps(self) -> dict[str, np.ndarray]:
        return {"names": np.array(["zero", "eins"]), "order": np.arange(2)}


def test_a_run_keeps_what_it_cannot_be_used_without(tmp_path: Path) -> None:
    source = Named(digits().x, digits().labels, name="digits")
    run = anyview.pretrain(pair(source, **VALUES), tmp_path / "run")
    loaded = anyview.load(tmp_path / "run")
    assert loaded.recipe.source.keeps()["names"].tolist() == ["zero", "eins"]
    assert (tmp_path / "run" / "data.npz").is_file()
    assert [result.protocol for result in run.evaluate(seeds=1)] == ["knn"]
    (tmp_path / "run" / "data.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"data.npz' is damaged .*; restore it, or train again"):
        anyview.load(tmp_path / "run")


def test_a_run_that_keeps_nothing_has_no_file_for_it(trained: anyview.Run) -> None:
    assert not trained.folder.kept_file.exists()
    assert anyview.load(trained.folder.path).recipe.source.keeps() == {}


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
    assert {"linear", "knn", "cluster"} <= set(trained.folder.evaluations()["digits"]["protocols"])


def test_two_files_of_one_name_do_not_displace_each_other(trained: anyview.Run, tmp_path: Path) -> None:
    x, y = digits().x.numpy()[:60], digits().labels.numpy()[:60]
    for folder, shift in (("one", 0.0), ("two", 1.0)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "rows.npz", x=x + shift, y=y)
    paths = [str(tmp_path / folder / "rows.npz") for folder in ("one", "two")]
    for path in paths:
        trained.evaluate(["knn"], data=path, seeds=1)
    trained.evaluate(["cluster"], data=paths[0], seeds=1)
    kept = trained.folder.evaluations()
    assert set(paths) <= set(kept)
    assert kept[paths[0]]["fingerprint"] != kept[paths[1]]["fingerprint"]
    assert set(kept[paths[0]]["protocols"]) == {"knn", "cluster"}
    assert set(trained.evaluation(paths[1])["protocols"]) == {"knn"}
    np.savez(paths[1], x=x + 2, y=y)
    later = anyview.load(trained.folder.path)
    later.evaluate(["cluster"], data=paths[1], seeds=1)
    assert set(later.evaluation(paths[1])["protocols"]) == {"cluster"}


def test_a_file_under_the_data_root_is_known_by_its_path(trained: anyview.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(tmp_path))
    np.savez(tmp_path / "rooted.npz", x=digits().x.numpy()[:20])
    trained.evaluate(data="rooted.npz")
    assert str(tmp_path / "rooted.npz") in trained.folder.evaluations()


def test_a_run_on_a_file_is_known_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32))
    anyview.pretrain("core/pair", tmp_path / "run", data=str(path), batch_size=32, **VALUES)
    run = anyview.load(tmp_path / "run")
    assert run.evaluate() == []
    assert list(run.folder.evaluations()) == [str(path)]
    assert run.evaluation() == run.evaluation(str(path)) != {}


def test_a_relative_path_is_saved_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez("rows.npz", x=np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32))
    anyview.pretrain("core/pair", tmp_path / "run", data="rows.npz", batch_size=32, **VALUES)
    monkeypatch.chdir(tmp_path)
    run = anyview.load(tmp_path / "run")
    assert run.record["parameters"]["data"] == str(tmp_path / "here" / "rows.npz")
    assert run.embed().shape == (64, 8)
    again = ["--config", str(tmp_path / "run" / "recipe.yaml"), "--out", str(tmp_path / "again")]
    assert main(["pretrain", *again]) == 0
    assert RunFolder(tmp_path / "again").read_recipe()["parameters"] == run.record["parameters"]


def test_further_metrics_are_kept_while_the_data_stays(trained: anyview.Run) -> None:
    trained.evaluate(["knn"], seeds=1, metrics=["uniformity", "alignment"])
    assert trained.evaluation()["label_free"]["uniformity"] < 0
    trained.evaluate(["knn"], seeds=1)
    assert {"uniformity", "alignment", "rankme"} <= set(trained.evaluation()["label_free"])
    with pytest.raises(UserError, match="did you mean 'uniformity'"):
        trained.evaluate(["knn"], seeds=1, metrics=["uniformty"])


def test_every_protocol_runs_on_a_run_with_its_options(trained: anyview.Run) -> None:
    options = {
        "finetune": {"epochs": 1, "lr": "0.001"},
        "label_fraction": {"percent": "1"},
        "corruption": {"severities": "3", "shifts": "noise"},
        "ood": {"against": ArraySource(np.random.default_rng(0).normal(size=(30, 64)), name="noise"), "k": 3},
        "transfer": {"to": "digits", "probe": "knn"},
    }
    results = {result.protocol: result for result in trained.evaluate(list(options), seeds=1, options=options)}
    assert set(results) == set(options)
    assert results["ood"].mean(score="mahalanobis_auroc") > 0.9
    assert results["transfer"].mean() == results["transfer"].mean(score="accuracy_on_digits") > 0.5
    assert "raw features" not in results["finetune"].values
    kept = trained.evaluation()["protocols"]
    assert kept["ood"]["options"]["against"] == "noise"
    assert len(kept["label_fraction"]["records"]["0"]["1%"]) == 10


def test_options_out_of_range_are_refused_before_anything_is_embedded(trained: anyview.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was embedded")

    monkeypatch.setattr("anyview.evaluation.subject.embed", never)
    with pytest.raises(UserError, match="takes lr above 0, and was given -1"):
        trained.evaluate(["knn", "linear"], options={"linear": {"lr": -1.0}})
    with pytest.raises(UserError, match="at least 1 seed"):
        trained.evaluate(["knn"], seeds=0)
    with pytest.raises(UserError, match="no device 'gpu'"):
        trained.evaluate(["knn"], device="gpu")


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


def test_evaluate_takes_options_of_protocols_metrics_and_a_device(trained: anyview.Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(trained.folder.path), "--seeds", "1", "--device", "cpu", "--metrics", "hubness, uniformity"]
    asked = ["--protocol", "ood,transfer", "--ood.against", "digits", "--ood.k=5", "--transfer.to", "digits", "--transfer.probe", "knn"]
    assert main([*words, *asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["protocols"]["ood"]["options"]["against"] == "digits"
    assert told["protocols"]["ood"]["options"]["k"] == 5
    assert told["protocols"]["transfer"]["options"]["probe"] == "knn"
    assert {"hubness", "uniformity_interval", "alpha_req"} <= set(told["label_free"])
    assert main([*words, "--protocol", "knn"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "uniformity_interval -" in text
    assert " to -" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--protocol", "linear", "--linear.lr", "-1"], "takes lr above 0, and was given -1"),
        (["--protocol", "knn", "--knn.k", "0"], "takes k at least 1, and was given 0"),
        (["--protocol", "ood", "--ood.against", "nowhere"], "'nowhere'"),
        (["--protocol", "transfer"], "add --transfer.to NAME"),
        (["--protocol", "corruption", "--corruption.shifts", "fog"], "'digits' has no shift 'fog'; it has noise, scale"),
        (["--protocol", "label_fraction", "--label_fraction.percent", "0"], "takes percent above 0"),
        (["--metrics", "lidr"], "no metric 'lidr'"),
        (["--device", "gpu"], "no device 'gpu' here"),
    ],
)
def test_mistakes_in_evaluate_are_one_sentence(
    trained: anyview.Run, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["evaluate", str(trained.folder.path), "--seeds", "1", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_embed_takes_a_device(trained: anyview.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", str(trained.folder.path), "--out", str(tmp_path / "rows.npy")]
    assert main([*words, "--device", "gpu"]) == 2
    assert "no device 'gpu' here" in capsys.readouterr().err
    assert main([*words, "--device", "cpu"]) == 0


def test_show_describes_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "core/pair"]) == 0
    text = capsys.readouterr().out
    assert "--batch-size" in text
    assert "presets" in text
    for name in ("core/vicreg", "linear", "core/noise", "mlp"):
        assert main(["show", name]) == 0
    assert "covariance" in capsys.readouterr().out
