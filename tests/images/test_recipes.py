"""The recipes, whole: they learn on digits, are loaded again, and take any encoder and objective that fits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import anyview
from anyview.__main__ import main
from anyview.cli.pretrain import options, parse_recipe
from anyview.config import from_yaml, to_yaml
from anyview.errors import UserError
from anyview.evaluation.protocol import RANDOM, RAW, TRAINED
from anyview.objectives.byol import BYOL
from anyview.objectives.data2vec import Data2Vec
from anyview.objectives.dino import DINO
from anyview.objectives.i_jepa import IJEPA
from anyview.objectives.ibot import IBOT
from anyview.objectives.masked_reconstruction import MaskedReconstruction
from anyview.objectives.msn import MSN
from anyview.objectives.swav import SwAV
from anyview.objectives.vicregl import VICRegL
from anyview.optimizers import LARS
from anyview.plugins import host
from anyview.recipe import Recipe
from anyview.views.blocks import ContextTargets, MaskGrid
from anyview_images.datasets import ImageSource
from anyview_images.recipes.masked import masked
from anyview_images.recipes.multicrop import multicrop
from anyview_images.recipes.pair import pair
from anyview_images.resnet import ResNet
from anyview_images.views import AugmentedCrops, AugmentedPair, MaskedCrops
from anyview_images.vision_transformer import VisionTransformer

TINY = partial(ResNet, depth=10, widths=(8,), stem="strided")
PATCHES = partial(VisionTransformer, patch=2, dim=16, depth=2, heads=2)
SMALL = {"hidden": 16, "width": 8, "prototypes": 12}


def source(count: int = 24) -> ImageSource:
    """Random images of 8 x 10 pixels."""
    images = torch.randint(0, 256, (count, 3, 8, 10), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return ImageSource(images, np.arange(count) % 2, name="random")


def losses(run: Any) -> list[float]:
    return [line["loss"] for line in run.folder.metrics()]


@pytest.mark.parametrize(("recipe", "epochs", "margin"), [("pair", 2, 0.08), ("multicrop", 6, 0.03)])
def test_it_learns_on_digits_and_is_loaded_again(recipe: str, epochs: int, margin: float, tmp_path: Path) -> None:
    run = anyview.pretrain(f"images/{recipe}", tmp_path / "run", data="digits", epochs=epochs, log_every=1)
    assert np.mean(losses(run)[-5:]) < 0.9 * losses(run)[0]
    (result,) = run.evaluate(["knn"], seeds=1)
    assert result.mean(TRAINED) > result.mean(RANDOM) + margin
    again = anyview.load(tmp_path / "run")
    rows = run.embed()
    assert rows.shape == (1797, run.embedder.dim)
    assert np.array_equal(again.embed(), rows)
    assert np.array_equal(again.embed(run.source.images.numpy()), rows)
    assert again.record["preset"] == "digits"


def test_hidden_patches_are_predicted_better_than_by_their_mean(tmp_path: Path) -> None:
    run = anyview.pretrain("images/masked", tmp_path / "run", data="digits", epochs=5, log_every=1)
    line = run.recipe.stages[0].tasks[0].objective.collapse_line(128)
    assert line == 0.75  # of 2 x 2 grey values, standardised
    assert losses(run)[0] > line
    assert np.mean(losses(run)[-5:]) < 0.8 * line
    assert np.array_equal(anyview.load(tmp_path / "run").embed(), run.embed())


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "margin"), [("pair", 0.15), ("multicrop", 0.15), ("masked", 0.1)])
def test_presets_are_far_above_an_untrained_encoder(recipe: str, margin: float, tmp_path: Path) -> None:
    run = anyview.pretrain(f"images/{recipe}", tmp_path / "run", data="digits")
    (result,) = run.evaluate(["knn"], seeds=3)
    assert result.mean(TRAINED) > result.mean(RANDOM) + margin


@pytest.mark.slow
def test_mnist_is_learnt_beyond_its_pixels(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYVIEW_DATA", str(data_root))
    run = anyview.pretrain("images/pair", tmp_path / "run", data="mnist")
    (result,) = run.evaluate(["logistic"], seeds=1)
    assert result.mean(TRAINED) > 0.97
    assert result.mean(TRAINED) > result.mean(RAW) + 0.03


@pytest.mark.parametrize(
    ("recipe", "options", "kind"),
    [
        (pair, {"objective": partial(BYOL, hidden=16, width=8)}, AugmentedPair),
        (pair, {"objective": partial(VICRegL, width=16, local_width=16, matches=3)}, AugmentedPair),
        (pair, {"encoder": PATCHES, "style": (0.1, 0.2), "optimizer": "adamw"}, AugmentedPair),
        (multicrop, {"objective": partial(SwAV, hidden=16, width=8, prototypes=12)}, AugmentedCrops),
        (multicrop, {"objective": partial(DINO, **SMALL), "encoder": PATCHES}, AugmentedCrops),
        (multicrop, {"objective": partial(IBOT, **SMALL), "encoder": PATCHES}, MaskedCrops),
        (multicrop, {"objective": partial(MSN, **SMALL), "encoder": PATCHES}, MaskedCrops),
        (multicrop, {"objective": partial(MSN, **SMALL)}, AugmentedCrops),
        (masked, {"objective": partial(MaskedReconstruction, width=16, depth=1, heads=2)}, MaskGrid),
        (masked, {"objective": Data2Vec}, MaskGrid),
        (masked, {"objective": partial(IBOT, **SMALL)}, MaskGrid),
        (masked, {"objective": partial(IJEPA, width=16, depth=1, heads=2), "targets": 2}, ContextTargets),
    ],
)
def test_any_objective_that_fits_trains(recipe: Any, options: dict[str, Any], kind: type, tmp_path: Path) -> None:
    small = {"local_size": 4, "locals": 1} if recipe is multicrop else {}
    encoder = PATCHES if recipe is masked else TINY
    built = recipe(source(), **{"encoder": encoder, "epochs": 2, "batch_size": 8, "warmup": 0, **small, **options})
    maker = built.stages[0].tasks[0].views
    assert isinstance(getattr(maker, "maker", maker) if recipe is masked else maker, kind)
    before = {name: value.clone() for name, value in built.embedder.state_dict().items()}
    run = anyview.pretrain(built, tmp_path / "run", log_every=1)
    assert len(losses(run)) == 6
    assert np.isfinite(losses(run)).all()
    assert any(not torch.equal(value, before[name]) for name, value in run.embedder.state_dict().items())


def maker_of(built: Recipe) -> Any:
    return built.stages[0].tasks[0].views.maker


def test_what_is_hidden_follows_from_the_objective() -> None:
    small = {"encoder": PATCHES, "epochs": 1}
    dropped = maker_of(masked(source(), objective=partial(MaskedReconstruction, width=16, depth=1, heads=2), **small))
    assert (dropped.drop, dropped.shape, dropped.rate, dropped.grid) == (True, "random", 0.75, (4, 4))
    replaced = maker_of(masked(source(), objective=Data2Vec, **small))
    assert (replaced.drop, replaced.shape, replaced.rate) == (False, "blocks", 0.6)
    assert maker_of(masked(source(), objective=Data2Vec, mask_rate=0.4, **small)).rate == 0.4
    assert maker_of(masked(source(), objective=partial(IJEPA, width=16, depth=1, heads=2), targets=3, **small)).targets == 3
    ibot = multicrop(source(), encoder=PATCHES, objective=partial(IBOT, **SMALL), local_size=4, epochs=1).stages[0].tasks[0].views
    assert (ibot.drop, ibot.probability, ibot.tokens) == (False, 0.5, 16)
    msn = multicrop(source(), encoder=PATCHES, objective=partial(MSN, **SMALL), local_size=4, epochs=1).stages[0].tasks[0].views
    assert (msn.drop, msn.probability, msn.tokens) == (True, 1.0, 16)


def test_views_are_as_large_as_asked_and_embeddings_of_whole_images() -> None:
    built = pair(source(), encoder=TINY, size=6, epochs=1)
    assert built.stages[0].tasks[0].views.first.transforms[0].size == 6
    assert pair(source(), encoder=TINY, epochs=1).stages[0].tasks[0].views.first.transforms[0].size == 8


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (partial(pair, encoder=partial(PATCHES, patch=3)), "images of 8 x 10 cannot be cut into patches of 3 x 3"),
        (partial(masked, encoder=TINY), "ResNet cannot read masked images of 3 x 8 x 8"),
        (partial(multicrop, encoder=PATCHES, local_size=5), "images of 5 x 5 cannot be cut into patches of 2 x 2"),
        (partial(multicrop, encoder=PATCHES, local_size=4, mask_rate=(0.1, 0.2)), "the objective reads no masks; leave it out"),
        (
            partial(multicrop, encoder=PATCHES, local_size=4, mask_rate=(0.1, 0.2), objective=partial(MSN, **SMALL)),
            "patches that are left out must be equally many",
        ),
        (partial(pair, encoder=TINY, objective=Data2Vec), "Data2Vec needs .* which AugmentedPair does not give"),
        (partial(pair, encoder=TINY, augmentation="asymetric"), "there is no augmentation 'asymetric'"),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(source(), epochs=1)


def test_optimizers_by_name() -> None:
    for name, kind in {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "lars": LARS}.items():
        built = pair(source(), encoder=TINY, optimizer=name, lr=0.05, weight_decay=0.01, epochs=1)
        made = built.stages[0].optimizer(built.embedder.parameters())
        assert type(made) is kind
        assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.05, 0.01)


def test_presets_apply_by_the_data_sets_name() -> None:
    values, applied = pair.resolve({"data": "digits"})
    assert applied == "digits"
    assert (values["augmentation"], values["encoder"].keywords["stem"]) == ("digits", "small")
    values, applied = pair.resolve({"data": "images/mnist", "epochs": 1})
    assert (applied, values["epochs"], values["encoder"].keywords["stem"]) == ("mnist", 1, "strided")
    values, applied = pair.resolve({}, preset="demo")
    assert (applied, values["data"], values["encoder"].keywords["stem"]) == ("digits+demo", "digits", "small")
    values, applied = pair.resolve({"data": "cifar10", "objective": BYOL})
    assert (applied, values["augmentation"], values["objective"]) == ("cifar10", "asymmetric_small", BYOL)
    for recipe in (multicrop, masked):
        for data in ("digits", "mnist"):
            assert recipe.resolve({"data": data})[1] == data


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = ["--encoder", "images/resnet", "--encoder.depth", "10", "--encoder.widths", "[8]", "--encoder.stem", "strided"]
    flags = ["--data", "digits", "--epochs", "1", "--objective", "core/byol", "--objective.hidden", "16", "--objective.width", "8"]
    out = ["--out", str(tmp_path / "run")]
    assert main(["pretrain", "images/pair", *encoder, *flags, "--augmentation", "crops", "--scale", "[0.5, 0.9]", *out]) == 0
    run = anyview.load(tmp_path / "run")
    assert run.embed().shape == (1797, 8)
    assert run.record["parameters"]["encoder"]["widths"] == [8]
    assert run.record["parameters"]["scale"] == [0.5, 0.9]
    assert run.record["data"]["shape"] == {"channels": 1, "height": 8, "width": 8}
    capsys.readouterr()
    assert main(["pretrain", "images/pair", "--augmentation", "asymetric", "--out", str(tmp_path / "other")]) == 2
    assert "--augmentation takes one of" in capsys.readouterr().err
    assert main(["pretrain", "images/masked", "--objective", "core/barlow_twins", "--out", str(tmp_path / "other")]) == 2
    assert "needs 2 views" in capsys.readouterr().err


def parsed(recipe: str, *flags: str, record: dict[str, Any] | None = None) -> dict[str, Any]:
    """The recipe's values as `anyview pretrain` comes to them."""
    return parse_recipe(host().find("recipes", recipe), flags, record or {}, options, "anyview pretrain")[0]


def test_options_of_a_slot_change_what_the_preset_put_there() -> None:
    plain, changed = parsed("images/masked"), parsed("images/masked", "--encoder.patch", "4", "--objective.width=32")
    assert plain["encoder"].keywords | {"patch": 4} == changed["encoder"].keywords
    assert (plain["encoder"].keywords["patch"], changed["encoder"].keywords["dim"]) == (2, 96)
    assert changed["objective"].keywords == plain["objective"].keywords | {"width": 32}
    stem = parsed("images/pair", "--encoder.stem", "strided")["encoder"]
    assert (stem.keywords["stem"], stem.keywords["widths"], stem.keywords["depth"]) == ("strided", (16, 32), 10)
    wide = parsed("images/pair", "--data", "cifar10", "--objective.width", "64")["objective"]
    assert (wide.keywords["width"], wide.keywords["redundancy"]) == (64, 0.005)
    other = parsed("images/pair", "--encoder", "images/vision_transformer", "--encoder.patch", "4")["encoder"]
    assert (other.func, other.keywords["patch"], other.keywords["depth"]) == (VisionTransformer, 4, 12)
    assert parsed("images/pair", "--encoder", "images/resnet")["encoder"].keywords["depth"] == 18


def test_a_saved_configuration_repeats_a_changed_slot_and_takes_further_changes() -> None:
    values = parsed("images/masked", "--encoder.patch", "4")
    saved = yaml.safe_load(yaml.safe_dump(to_yaml(values)))
    record = {"preset": "digits", "parameters": from_yaml(masked.function, saved, prog="p")}
    assert to_yaml(parsed("images/masked", record=record)) == to_yaml(values)
    deeper = parsed("images/masked", "--encoder.depth", "3", record=record)
    assert deeper["encoder"].keywords == values["encoder"].keywords | {"depth": 3}
    plain = from_yaml(masked.function, {"encoder": "images/vision_transformer"}, prog="p")
    assert parsed("images/masked", record={"parameters": {"encoder": plain["encoder"]}})["encoder"].keywords["patch"] == 16
