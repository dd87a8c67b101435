"""The recipes in mixed precision, and with a compiled encoder."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

import anyview
from anyview.data.source import Epoch
from anyview.objectives.barlow_twins import BarlowTwins
from anyview.objectives.masked_reconstruction import MaskedReconstruction
from anyview.objectives.swav import SwAV
from anyview.pretrainer import StepInput
from anyview.recipe import Recipe
from anyview.testing.tiny import tiny_draws, tiny_pretrainer
from anyview_images.datasets import ImageSource
from anyview_images.recipes.masked import masked
from anyview_images.recipes.multicrop import multicrop
from anyview_images.recipes.pair import pair
from anyview_images.resnet import ResNet
from anyview_images.vision_transformer import VisionTransformer

NETWORK = functools.partial(ResNet, depth=10, widths=(8,), stem="strided")
PATCHES = functools.partial(VisionTransformer, patch=4, dim=8, depth=1, heads=2)
RECIPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "pair": (pair, {"encoder": NETWORK, "objective": functools.partial(BarlowTwins, width=8)}),
    "multicrop": (
        multicrop,
        {"encoder": NETWORK, "local_size": 8, "locals": 1, "objective": functools.partial(SwAV, hidden=8, width=8, prototypes=4)},
    ),
    "masked": (masked, {"encoder": PATCHES, "objective": functools.partial(MaskedReconstruction, width=8, depth=1, heads=2)}),
}


def build(name: str) -> Recipe:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    recipe, options = RECIPES[name]
    made: Recipe = recipe(ImageSource(images), batch_size=8, epochs=1, warmup=0, lr=1e-3, **options)
    return made


def loss(recipe: Recipe) -> tuple[float, float]:
    """The first step's loss and the norm of the encoder's gradient."""
    stage = recipe.stages[0]
    batch = next(iter(recipe.source.batches(Epoch(batch_size=8)))).to("cpu")
    shown = StepInput(batch, tiny_draws(0, 8), 0, 3)
    total = tiny_pretrainer(stage, shown, 24)(shown).total
    total.backward()
    gradients = [parameter.grad.norm() for parameter in stage.encoder.parameters() if parameter.grad is not None]
    return float(total.detach()), float(torch.stack(gradients).norm())


@pytest.mark.parametrize("name", RECIPES)
def test_bfloat16(name: str, tmp_path: Path) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        run = anyview.pretrain(build(name), tmp_path / precision, precision=precision, log_every=1)
        assert {parameter.dtype for parameter in run.embedder.parameters()} == {torch.float32}
        losses[precision] = [line["loss"] for line in run.folder.metrics()]
    assert len(losses["32-true"]) == 3
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.05)
    assert losses["bf16-mixed"] != losses["32-true"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_compiled_encoder_gives_the_same_step(name: str) -> None:
    """By the traced graphs alone; that the compiler's code is right is the compiler's to test."""
    plain, compiled = build(name), build(name)
    compiled.stages[0].encoder.compile(backend="aot_eager")
    assert loss(compiled) == pytest.approx(loss(plain), rel=1e-4)
