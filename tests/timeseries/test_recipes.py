"""The recipes, whole: they learn, go on after a stop, are loaded without data, and take any encoder, frame and objective that fits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anyview
from anyview.__main__ import main
from anyview.errors import UserError
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.byol import BYOL
from anyview.objectives.vicreg import VICReg
from anyview.objectives.vicregl import VICRegL
from anyview.training import pretrain
from anyview_timeseries.encoders import PatchTransformer, ResNet1d
from anyview_timeseries.objectives import EachPair, FrameContrast
from anyview_timeseries.recipes.frame_projections import frame_projections
from anyview_timeseries.recipes.pair import pair
from anyview_timeseries.series import SeriesSource
from tests.small_runs import assert_same_bits, stop_at

TINY = partial(ResNet1d, dim=8, width=4, blocks=2)
PATCHES = partial(PatchTransformer, patch=8, dim=8, depth=1, heads=2)
SMALL: dict[str, Any] = {
    "encoder": TINY,
    "frame_options": {"morlet": {"count": 8}},
    "objective": partial(FrameContrast, hidden=8, width=8),
    "epochs": 2,
    "batch_size": 8,
}


def source(count: int = 24, channels: int = 2, length: int = 40) -> SeriesSource:
    windows = torch.randn(count, channels, length, generator=torch.Generator().manual_seed(0))
    return SeriesSource(windows, np.arange(count) % 2, groups={"subject": np.arange(count) // 6}, name="random")


def losses(run: Any, stage: str = "pretrain") -> list[float]:
    return [line["loss"] for line in run.folder.metrics() if line["stage"] == stage]


def test_two_stages_and_what_remains(tmp_path: Path) -> None:
    built = frame_projections(source(), **SMALL)
    run = pretrain(built, tmp_path / "run", log_every=1)
    assert len(losses(run)) == len(losses(run, "mappers")) == 6
    rows = run.embed()
    assert rows.shape == (24, 24)
    again = anyview.load(tmp_path / "run")
    assert np.array_equal(again.embed(run.source), rows)
    weights = again.export(tmp_path / "weights.safetensors")
    assert weights.stat().st_size < 20_000


def test_the_second_stage_changes_no_encoder(tmp_path: Path) -> None:
    pretrain(frame_projections(source(), embedding="time", **SMALL), tmp_path / "one")
    built = frame_projections(source(), **SMALL)
    torch.manual_seed(0)
    kept: dict[str, torch.Tensor] = {}
    stage = built.stages[1]
    original = stage.make_optimizer

    def note(parameters: Any) -> Any:
        kept.update({name: value.clone() for name, value in stage.encoder.state_dict().items()})
        return original(parameters)

    stage.make_optimizer = note  # type: ignore[method-assign]
    pretrain(built, tmp_path / "two")
    assert kept
    assert all(torch.equal(value, kept[name]) for name, value in stage.encoder.state_dict().items())


def test_the_time_embedding_is_part_of_the_mapped_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = pretrain(frame_projections(source(), **SMALL), tmp_path / "mapped")
    torch.manual_seed(0)
    alone = pretrain(frame_projections(source(), embedding="time", **SMALL), tmp_path / "time")
    assert len(alone.recipe.stages) == 1
    assert np.array_equal(run.embed()[:, run.embedder.own], alone.embed())


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_stopped_run_ends_in_the_same_bits(step: int, tmp_path: Path) -> None:
    """Within the first stage, at its end, and within the second."""

    def built() -> Any:
        torch.manual_seed(0)
        return frame_projections(source(), **{**SMALL, "epochs": 1, "mapper_epochs": 2, "encoder": TINY})

    pretrain(built(), tmp_path / "whole")
    stop_at(built(), tmp_path / "stopped", step)
    pretrain(built(), tmp_path / "stopped", resume=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("options", "streams"),
    [
        ({"frames": ("identity",)}, ["time", "identity"]),
        ({"frames": ("random", "db4", "gabor"), "pool": "mean"}, ["time", "random", "db4", "gabor"]),
        ({"frames": ("mexican_hat",), "frame_options": {"mexican_hat": {"count": 6}}, "encoder": PATCHES}, ["time", "mexican_hat"]),
        ({"objective": partial(VICReg, width=8), "cache": True}, ["time", "fourier", "morlet"]),
        ({"objective": partial(BYOL, hidden=8, width=8)}, ["time", "fourier", "morlet"]),
        ({"objective": partial(BarlowTwins, width=8), "embedding": "time"}, ["time", "fourier", "morlet"]),
    ],
)
def test_any_frames_and_any_objective(options: dict[str, Any], streams: list[str], tmp_path: Path) -> None:
    options = {**SMALL, "epochs": 1, **({"frame_options": None} if "frames" in options else {}), **options}
    built = frame_projections(source(), **options)
    assert list(built.stages[0].encoder.encoders) == streams
    objective = built.stages[0].tasks[0].objective
    assert isinstance(objective, FrameContrast if options["objective"] is SMALL["objective"] else EachPair)
    run = pretrain(built, tmp_path / "run")
    assert np.isfinite(losses(run)).all()
    assert run.embed().shape == (24, 8 * (len(streams) if options.get("embedding") != "time" else 1))


@pytest.mark.parametrize(("channels", "length", "count"), [(1, 16, 2), (9, 37, 5), (1, 1000, 3)])
def test_any_window_and_any_batch(channels: int, length: int, count: int, tmp_path: Path) -> None:
    run = pretrain(frame_projections(source(count, channels, length), **{**SMALL, "epochs": 1}), tmp_path / "run")
    assert run.embed().shape == (count, 24)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": partial(BYOL, hidden=8, width=8)},
        {"objective": partial(VICRegL, width=8, local_width=8, matches=3), "augmentation": "crops"},
        {"encoder": PATCHES, "augmentation": "strong", "second": "weak", "size": 20},
    ],
)
def test_pairs_of_augmented_windows(options: dict[str, Any], tmp_path: Path) -> None:
    settings = {"encoder": TINY, "objective": partial(BarlowTwins, width=8), "epochs": 2, "batch_size": 8, "warmup": 0, **options}
    run = pretrain(pair(source(), **settings), tmp_path / "run", log_every=1)
    assert len(losses(run)) == 6
    assert np.isfinite(losses(run)).all()
    assert run.embed().shape == (24, 8)


@pytest.mark.parametrize("recipe", ["frame_projections", "pair"])
def test_they_learn_on_the_embedded_set_and_are_loaded_again(recipe: str, tmp_path: Path) -> None:
    run = anyview.pretrain(f"timeseries/{recipe}", tmp_path / "run", data="chirps", epochs=2, log_every=1)
    assert losses(run)[-1] < losses(run)[0]
    assert np.array_equal(anyview.load(tmp_path / "run").embed(), run.embed())
    assert run.recipe.preset == "chirps"


def test_presets() -> None:
    values, applied = frame_projections.resolve({"data": "ieee_spc12"})
    assert (applied, values["batch_size"], values["cache"]) == ("ieee_spc12", 256, True)
    values, applied = frame_projections.resolve({"data": "ieee_spc12"}, preset="paper")
    assert (applied, values["batch_size"], values["epochs"], values["encoder"]) == ("ieee_spc12+paper", 1024, 256, ResNet1d)
    quick = frame_projections.presets["ieee_spc12"]
    assert set(quick) <= set(frame_projections.presets["paper"])  # the paper's preset takes all of the quick one back


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: frame_projections(source(), frames=("furier",)), "there is no frame 'furier'"),
        (lambda: frame_projections(source(), frames=()), "at least one frame, and none was given"),
        (lambda: frame_projections(source(), encoder=partial(TINY, dim=9)), "9 wide; choose an even dim"),
        (lambda: frame_projections(source(), encoder=TINY, objective=VICRegL), "VICRegL needs"),
        (lambda: pair(source(), augmentation="motoin"), "there is no augmentation 'motoin'"),
        (lambda: pair(SeriesSource(torch.full((4, 1, 20), torch.nan))), "missing values, which this recipe cannot read"),
    ],
)
def test_what_does_not_fit_is_refused(act: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        act()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = ["--encoder", "timeseries/resnet1d", "--encoder.dim", "8", "--encoder.width", "4", "--encoder.blocks", "2"]
    frames = ["--frames", '["db2", "random"]', "--frame-options", '{"db2": {"levels": 2}}']
    objective = ["--objective", "core/vicreg", "--objective.width", "8"]
    out = ["--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["pretrain", "timeseries/frame_projections", "--data", "chirps", *encoder, *frames, *objective, *out]) == 0
    run = anyview.load(tmp_path / "run")
    assert run.embed().shape == (480, 24)
    assert run.record["parameters"]["frame_options"] == {"db2": {"levels": 2}}
    capsys.readouterr()
    assert main(["pretrain", "timeseries/pair", "--augmentation", "motoin", "--out", str(tmp_path / "other")]) == 2
    assert "--augmentation takes one of" in capsys.readouterr().err
